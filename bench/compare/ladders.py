"""The loads of `bench compare`: what is asked, by how many at once, and how long an answer takes.

The full ladder is 30 tasks at 1 in flight, 200 at 10, 1000 at 100 and at 1000. A design that runs
a CLI stays at 10 in flight, as each run takes a hundred megabytes and most of a core; there 200
tasks stand for 1000, and every number made from that says so.
"""

from __future__ import annotations

import heapq
from typing import Final

import msgspec

from agentflow.simulator.knobs import Chance, Knobs, Layer, LogNormal

SEED: Final = 20260122
"""Of every latency that is drawn."""
CLI_IN_FLIGHT: Final = 10


class Latency(msgspec.Struct, frozen=True):
    """Seconds that an answer takes: always `p50`, or log-normal where there is a `p99`."""

    p50: float
    p99: float | None = None

    @property
    def layer(self) -> Layer:
        """As the simulator takes it."""
        if self.p99 is None:
            return {"latency": self.p50}
        shape = {"kind": "lognormal", "p50": self.p50, "p99": self.p99}
        return {"latency": shape, "seed": SEED}

    def of(self, prompt: str) -> float:
        """What the simulator draws for a prompt that it sees for the first time."""
        if self.p99 is None:
            return self.p50
        knobs = Knobs(latency=LogNormal(self.p50, self.p99), seed=SEED)
        return Chance(SEED, prompt, 1).latency(knobs)

    def __str__(self) -> str:
        if self.p99 is None:
            return f"{self.p50:g} s"
        return f"log-normal, p50 {self.p50:g} s, p99 {self.p99:g} s"


class Load(msgspec.Struct, frozen=True):
    """So many tasks, so many at once; `rounds` times, one after the other."""

    tasks: int
    in_flight: int
    latency: Latency
    rounds: int = 1

    def prompts(self, number: int) -> list[str]:
        """What is asked in a round: the same of every design, and nothing twice."""
        return [f"Name river {number * self.tasks + place}." for place in range(self.tasks)]

    def floor(self, number: int = 0) -> float:
        """Seconds that the answers alone take in a round: each place takes the next task."""
        return floor([self.latency.of(prompt) for prompt in self.prompts(number)], self.in_flight)

    def __str__(self) -> str:
        return f"{self.tasks} at {self.in_flight}, {self.latency}"


class Ladder(msgspec.Struct, frozen=True):
    """The loads of one run of the benchmark."""

    name: str
    steps: tuple[Load, ...]
    scattered: Load | None
    crowd: Load
    crowd_processes: int
    processes: int
    cli_tasks: int


def floor(latencies: list[float], places: int) -> float:
    """Seconds until all are done, when each of so many places takes the next as it is free."""
    busy: list[float] = []
    end = 0.0
    for seconds in latencies:
        begin = heapq.heappop(busy) if len(busy) >= places else 0.0
        heapq.heappush(busy, begin + seconds)
        end = max(end, begin + seconds)
    return end


_TWO: Final = Latency(2.0)
_HALF: Final = Latency(0.5)
_TINY: Final = Latency(0.2)

FULL: Final = Ladder(
    "full",
    steps=(
        Load(30, 1, _TWO),
        Load(200, 10, _TWO),
        Load(1000, 100, _TWO),
        Load(1000, 1000, _TWO, rounds=3),
    ),
    scattered=Load(200, 10, Latency(2.0, 10.0)),
    crowd=Load(1000, 1000, _TWO, rounds=3),
    crowd_processes=100,
    processes=10,
    cli_tasks=200,
)
QUICK: Final = Ladder(
    "quick",
    # Two seconds for the wide ones: shorter answers would keep so many in flight by CPU alone.
    steps=(Load(3, 1, _HALF), Load(20, 10, _HALF), Load(100, 100, _TWO)),
    scattered=None,
    crowd=Load(100, 100, _TWO),
    crowd_processes=10,
    processes=4,
    cli_tasks=12,
)
TINY: Final = Ladder(
    "tiny",
    steps=(Load(2, 1, _TINY), Load(6, 3, _TINY), Load(20, 20, _TINY)),
    scattered=Load(6, 3, Latency(0.1, 0.3)),
    crowd=Load(20, 20, _TINY),
    crowd_processes=2,
    processes=2,
    cli_tasks=3,
)
