"""Patterns that people type, matched in time linear in the text.

The standard library backtracks: `(a+)+$` before forty letters would stop the process that draws.
RE2 does not, and has no look-around and no back-references for it. A pattern without any sign of
the language, as most are, is looked for as text, which is quicker still.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import re2

MOST: Final = 1_000
"""Characters of a pattern: what a person types, not a programme."""
_PLAIN: Final = re.compile(r"[^\\.^$*+?{}\[\]|()]*")


class PatternError(ValueError):
    """What was typed is no pattern; the message says why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that is looked for in texts, without regard to case; lines are apart."""

    text: str
    found: Callable[[str], bool]
    """Whether it is anywhere in a text."""
    spans: Callable[[str], Iterator[tuple[int, int]]]
    """Where it is in a text: begin and end of each match."""


def compile(text: str, *, literal: bool = False) -> Pattern:
    """The pattern that was typed; `literal`: the text itself. Raises PatternError."""
    if len(text) > MOST:
        raise PatternError(f"it has {len(text):,} characters, at most {MOST:,} are allowed")
    if literal or _PLAIN.fullmatch(text):
        # Nothing in it that could be tried twice.
        plain = re.compile(re.escape(text), re.IGNORECASE)
        return Pattern(text, lambda within: plain.search(within) is not None, _spans(plain))
    try:
        compiled = re2.compile(f"(?m:{text})", _options())
    except re2.error as error:
        raise PatternError(_why(error)) from None
    return Pattern(text, lambda within: compiled.search(within) is not None, _spans(compiled))


def _options() -> re2.Options:
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.never_nl = True
    return options


def _spans(compiled: re.Pattern[str]) -> Callable[[str], Iterator[tuple[int, int]]]:
    return lambda within: (match.span() for match in compiled.finditer(within))


def _why(error: re2.error) -> str:
    said = error.args[0] if error.args else ""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    if "perl operator" in text:
        return f"{text} (there is no look-around)"
    if "escape sequence" in text:
        return f"{text} (there are no back-references)"
    return text
