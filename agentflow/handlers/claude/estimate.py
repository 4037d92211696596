"""How many tokens a text is, by what the answers of its model family were. Pure.

Of answers, for those that broke: the API counts an answer's output at its end, and of one that
breaks only the text is known. Of prompts, for what a budget holds: before they are counted.
"""

from __future__ import annotations

from typing import Final

from agentflow.rules.routes.dearest import OVERHEAD, TOKENS_A_BYTE, Weight

FIRST: Final = 3.5
"""Characters a token before anything was learned: of English, as Anthropic's glossary has it."""
_WORTH: Final = 1_000
"""Tokens that the first guess counts for beside what is learned."""
_MEMORY: Final = 200_000
"""Tokens after which what was learned counts half."""


class Ratio:
    """Characters a token, learned from answers that came whole."""

    __slots__ = ("_characters", "_tokens")

    def __init__(self) -> None:
        self._characters = FIRST * _WORTH
        self._tokens = float(_WORTH)

    def learn(self, characters: int, tokens: int) -> None:
        """An answer of so many characters was told to be so many tokens."""
        # Hidden thinking and the like: more than a token a character says nothing of text.
        if not 0 < tokens <= characters:
            return
        self._characters += characters
        self._tokens += tokens
        if self._tokens > _MEMORY:
            self._characters /= 2
            self._tokens /= 2

    def tokens(self, characters: int) -> int:
        """An estimate; above 0 for any text."""
        return -int(-characters * self._tokens // self._characters)


LONG: Final = 4_000
"""Bytes of a prompt that shows how dense its text is; a shorter one shows what the API adds."""
DENSEST: Final = 2.0
"""Tokens a byte, beyond which something else was counted."""


class Prompts:
    """How many tokens a prompt of some bytes is at most: as many as the worst of those seen."""

    __slots__ = ("a_byte", "overhead")

    def __init__(self) -> None:
        self.a_byte = TOKENS_A_BYTE
        self.overhead = OVERHEAD

    def learn(self, weight: Weight, tokens: int) -> None:
        """A prompt of so much weight was told to be so many tokens."""
        more = tokens - weight.tokens(self.a_byte, self.overhead)
        if more <= 0:
            return
        if weight.bytes >= LONG:
            self.a_byte = min(DENSEST, self.a_byte + more / weight.bytes)
        else:
            self.overhead += more
