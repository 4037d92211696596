"""Text that reads like an answer and always says that it is none.

The same prompt always gets the same text; the words come from the prompt, so that a screen full of
answers looks like a screen full of different tasks.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from agentflow.simulator.wire import MARKER

_SENTENCES: Final = (
    "The question about {a} comes down to how {b} is handled.",
    "Three points stand out, and {a} is the first of them.",
    "Seen from the side of {b}, the picture is simpler than it looks.",
    "A short check of {a} shows no contradiction with {b}.",
    "What remains open is whether {a} should come before {b}.",
    "The cheapest next step is to write down what {a} must never do.",
    "Most of the effort will go into {b}, not into {a}.",
    "If {a} changes later, only the part that deals with {b} has to follow.",
    "There is one risk: {b} may be slower than expected under load.",
    "The evidence for {a} is good; for {b} it is thin.",
    "I would keep {a} as it is and look at {b} again in a week.",
    "Two of the assumptions about {b} can be tested within an hour.",
    "In short: {a} first, then {b}, and measure in between.",
    "Nothing in the material says how {a} and {b} depend on each other.",
    "A table of {a} against {b} would answer most of the follow-up questions.",
    "The result for {a} holds in every case that was looked at.",
)
_WORD: Final = re.compile(r"(?<=\W)[^\W\d_]{5,}")
_EMPTY_WORDS: Final = frozenset(
    {"about", "after", "before", "between", "could", "every", "first", "should", "their", "there"}
    | {"these", "those", "three", "under", "using", "where", "which", "while", "would", "write"}
)
_PLAIN_WORDS: Final = ("the task", "the result")
_READ: Final = 2_000
_FEWEST_SENTENCES: Final = 3
_MOST_SENTENCES: Final = 11


def answer(prompt: str) -> str:
    """A few sentences about the prompt, behind the marker."""
    # The first word is most often a verb, and no sentence above takes one.
    said = dict.fromkeys(_WORD.findall(prompt[:_READ]))
    words = [word for word in said if word.lower() not in _EMPTY_WORDS]
    # A sentence needs two of them, and reads like a fault when both are the same.
    if len(words) < 2:
        words += _PLAIN_WORDS[: 2 - len(words)]
    state = zlib.crc32(prompt.encode("utf-8", "replace"))
    count = _FEWEST_SENTENCES + state % (_MOST_SENTENCES - _FEWEST_SENTENCES + 1)
    # An odd step meets each of the sixteen sentences once before any comes again.
    start, step = state >> 8, (state >> 12) | 1
    sentences = []
    for number in range(count):
        first = (start + number) % len(words)
        second = (first + 1 + (start >> number) % (len(words) - 1)) % len(words)
        sentence = _SENTENCES[(start + number * step) % len(_SENTENCES)]
        sentences.append(sentence.format(a=words[first], b=words[second]))
    return MARKER + " ".join(sentences)
