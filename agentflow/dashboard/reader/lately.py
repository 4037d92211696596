"""Answers that are asked for ten times a second and need not be newer than a second.

A sum over a day, a percentile, the attention list: each costs more than all the rest of a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

SECOND: Final = 1.0


class Lately:
    """Answers by key, and when they were made."""

    __slots__ = ("_answers",)

    def __init__(self) -> None:
        self._answers: dict[object, tuple[float, int, Any]] = {}

    def get(
        self, key: object, now: float, revision: int, make: Callable[[], T], every: float = SECOND
    ) -> T:
        """The answer, made anew once `every` seconds have passed.

        Where the time stands still (another time is looked at, a test) each change makes it anew.
        """
        kept = self._answers.get(key)
        if kept is not None:
            at, then, answer = kept
            if 0 < now - at < every or (now == at and then == revision):
                known: T = answer
                return known
        made = make()
        self._answers[key] = (now, revision, made)
        return made
