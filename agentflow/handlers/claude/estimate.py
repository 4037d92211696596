"""How many tokens a text is, by what the answers of its model family were: for answers that broke.

The API counts an answer's output at its end; of one that breaks only the text is known. Pure.
"""

from __future__ import annotations

from typing import Final

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
