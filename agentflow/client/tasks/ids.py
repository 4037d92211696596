"""Ids for tasks that are given none: sortable by time, fit for a subject token."""

from __future__ import annotations

import random
import time
from typing import Final

_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's, without look-alikes
_PAIRS: Final = [first + second for first in _DIGITS for second in _DIGITS]
_random = random.SystemRandom()


class Ids:
    """Makes ids of 20 characters: 9 of milliseconds since 1970, 11 of randomness (55 bits).

    The randomness comes from a generator seeded by the system, because asking the system for each
    id would cost as much as sending the task.
    """

    def __init__(self) -> None:
        self._bits = random.Random(_random.getrandbits(256)).getrandbits
        self._at = -1
        self._time = ""

    def new(self) -> str:
        """The next id."""
        now = time.time_ns() // 1_000_000
        if now != self._at:
            self._at = now
            self._time = encode(now, 9)
        bits = self._bits(55)
        return (
            self._time
            + _PAIRS[bits & 1023]
            + _PAIRS[bits >> 10 & 1023]
            + _PAIRS[bits >> 20 & 1023]
            + _PAIRS[bits >> 30 & 1023]
            + _PAIRS[bits >> 40 & 1023]
            + _DIGITS[bits >> 50]
        )


def encode(number: int, width: int) -> str:
    """A number in base 32, with leading zeros."""
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 32)
        digits = _DIGITS[digit] + digits
    return digits
