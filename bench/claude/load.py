"""The loads: what is asked, by how many at once, in how many processes."""

from __future__ import annotations

from typing import Final

import msgspec

WARM: Final = '{"latency": 0.3}'
"""What the simulator is told with the calls before the first round."""


class Shape(msgspec.Struct, frozen=True):
    """One load: so many calls, so many at once, by so many processes."""

    calls: int
    in_flight: int
    processes: int
    rounds: int = 1

    @property
    def slots(self) -> int:
        """Of each process, so that all places can be taken."""
        return max(1, -(-self.in_flight // self.processes))

    def floor(self, latency: float) -> float:
        """Seconds that the answers alone take."""
        return -(-self.calls // self.in_flight) * latency

    def __str__(self) -> str:
        return f"{self.calls} at {self.in_flight} in {self.processes}"


SHAPES: Final = [
    Shape(calls, in_flight, processes, rounds)
    for processes in (1, 10)
    for calls, in_flight, rounds in ((30, 1, 1), (200, 10, 1), (1000, 100, 1), (1000, 1000, 3))
]
CROWD: Final = Shape(1000, 1000, 100)
QUICK: Final = [
    Shape(calls, in_flight, processes)
    for processes in (1, 4)
    for calls, in_flight in ((10, 1), (40, 10), (200, 100))
]
QUICK_CROWD: Final = Shape(100, 100, 10)


def prompts(calls: int) -> list[str]:
    """What is asked in one round, the same on both sides."""
    return [f"Name river {number}." for number in range(calls)]


def shares(calls: int, in_flight: int, processes: int) -> list[tuple[list[str], int]]:
    """Prompts and places of each process; with fewer places than processes some have none."""
    asked = prompts(calls)
    busy = min(processes, in_flight)
    split = []
    for number in range(processes):
        places = in_flight // busy + (number < in_flight % busy) if number < busy else 0
        split.append((asked[number::busy] if places else [], places))
    return split
