"""The shapes: how many workers, which limit binds, what happens meanwhile; varied pairwise."""

from __future__ import annotations

import random
from typing import Any, Final

import msgspec

MODELS: Final = ("claude-opus-4-8", "claude-haiku-4-5")
PACE: Final = 100.0
"""Tokens of an answer a second."""
LATENCY: Final = 0.4
"""Seconds until the first."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """One of them. Limits a minute; the others of an account are far away."""

    axis: str
    limit: float
    burst: float
    processes: int
    slots: int
    full: float = 1.0
    stranger: float = 0.0
    routes: int = 1
    kill: bool = False
    change: bool = False
    """Halve the limit after a third of the time, and put it back after two."""

    @property
    def name(self) -> str:
        """For tables."""
        words = [f"{self.axis} {self.limit:,.0f}/min, {self.burst:g} s"]
        words.append(f"{self.processes} x {self.slots}")
        words.append("full" if self.full else "empty")
        if self.routes > 1:
            words.append(f"{self.routes} routes")
        if self.kill:
            words.append("a fifth killed")
        if self.change:
            words.append("halved and put back")
        if self.stranger:
            words.append(f"a stranger takes {self.stranger:.0%}")
        return "; ".join(words)

    def limits(self, factor: float = 1.0) -> dict[str, Any]:
        """As the simulator takes them."""
        limits = {"requests": 4_000.0, "input_tokens": 2e6, "output_tokens": 4e5}
        limits[{"requests": "requests"}.get(self.axis, f"{self.axis}_tokens")] = self.limit * factor
        return {**limits, "burst": self.burst, "full": self.full, "stranger": self.stranger}

    def refill(self, factor: float) -> float:
        """What the account gives this fleet a second."""
        return self.limit / 60.0 * factor * (1.0 - self.stranger) * self.routes

    def factor(self, share: float) -> float:
        """Of the limit, after a share of the measured time."""
        return 0.5 if self.change and 1 / 3 <= share < 2 / 3 else 1.0

    @property
    def refused_most(self) -> float:
        """The share of 429 that is aimed at."""
        return 0.02 if self.kill or self.stranger else 0.01

    def calls(self, seconds: float) -> int:
        """Tasks for so long, with plenty to spare."""
        each = {"requests": 1.0, "input": 700.0, "output": 200.0}[self.axis]
        stored = self.limit / 60.0 * self.burst * self.routes
        return int(1.6 * (seconds * self.refill(1.0) + stored) / each) + 200

    def task(self, number: int, chance: random.Random) -> dict[str, Any]:
        """Fields of a task: how long it is, and its answer."""
        prompt, words = f"Task {number}.", 5
        if self.axis == "input":
            prompt += " word" * int(min(6_000, chance.lognormvariate(6.3, 0.6)))
        if self.axis == "output":
            words = int(min(1_500, max(10, chance.lognormvariate(5.0, 1.0))))
        knobs = msgspec.json.encode({"text": "word" * words}).decode()
        return {
            "prompt": prompt,
            "model": MODELS[number % self.routes],
            "max_tokens": 4_096,
            "params": {"extra_headers": {"x-fake": knobs}},
        }


SHAPES: Final = [
    Shape(axis="requests", limit=300, burst=6, processes=2, slots=50),
    Shape(axis="requests", limit=300, burst=6, processes=20, slots=10, full=0.0),
    Shape(axis="output", limit=60_000, burst=60, processes=20, slots=10, full=0.0),
    Shape(axis="input", limit=200_000, burst=60, processes=2, slots=50, full=0.0),
    Shape(axis="output", limit=60_000, burst=60, processes=2, slots=50),
    Shape(axis="input", limit=200_000, burst=6, processes=20, slots=10),
    Shape(axis="requests", limit=300, burst=6, processes=20, slots=10, routes=2, kill=True),
    Shape(axis="output", limit=60_000, burst=15, processes=20, slots=10, full=0.0, kill=True),
    Shape(axis="input", limit=200_000, burst=15, processes=2, slots=50, stranger=0.4, full=0.0),
    Shape(axis="requests", limit=300, burst=6, processes=20, slots=10, stranger=0.4),
    Shape(axis="output", limit=60_000, burst=60, processes=2, slots=50, stranger=0.4),
    Shape(axis="requests", limit=300, burst=6, processes=2, slots=50, change=True),
    Shape(axis="output", limit=60_000, burst=60, processes=20, slots=10, change=True),
    Shape(axis="input", limit=200_000, burst=60, processes=20, slots=10, routes=2, change=True),
]
