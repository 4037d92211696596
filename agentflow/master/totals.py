"""Sums over the index's rows, and the numbers that stand for words in them."""

from __future__ import annotations

from collections import Counter

from agentflow.protocol.record import Usage
from agentflow.views.columns import Counted


class Words:
    """Strings that repeat, as small numbers."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._words: list[str] = []

    def number(self, word: str | None) -> int | None:
        """The number of a word, a new one for a new word."""
        if word is None:
            return None
        number = self._numbers.get(word)
        if number is None:
            number = self._numbers[word] = len(self._words)
            self._words.append(word)
        return number

    def word(self, number: int | None) -> str | None:
        """The word of a number."""
        return None if number is None else self._words[number]

    def text(self, number: int) -> str:
        """The word of a number that is there."""
        return self._words[number]


class Totals:
    """Sums over tasks: how many by queue and state, tokens, micro-USD."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, int]] = Counter()
        self.tokens = [0, 0, 0, 0]
        self.cost = 0
        self.cost_unknown = 0
        self.simulated = 0

    def add(self, row: Counted, sign: int = 1) -> None:
        """Count a row of the index, or with sign -1 count it no more."""
        state, queue, *tokens, cost, simulated = row
        self.counts[queue, state] += sign
        for i, value in enumerate(tokens):
            self.tokens[i] += sign * value
        if cost is None:
            self.cost_unknown += sign
        else:
            self.cost += sign * cost
        self.simulated += sign * simulated

    def subtract(self, other: Totals) -> None:
        """Take another's sums away."""
        self.counts.subtract(other.counts)
        self.tokens = [a - b for a, b in zip(self.tokens, other.tokens, strict=True)]
        self.cost -= other.cost
        self.cost_unknown -= other.cost_unknown
        self.simulated -= other.simulated

    @property
    def usage(self) -> Usage:
        """The tokens, by kind."""
        return Usage(*self.tokens)
