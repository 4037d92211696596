"""How much of each rate limit is left, from the `pools` of the workers' heartbeats. Pure.

A worker says for each pool (credential) and family of models how many requests it has in flight,
how many were refused with 429 since it started, and the rate limit headers of its last answer. All
workers of a pool share its limits, so of those headers the newest count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from agentflow.dashboard.store.store import Actor

LIMITS: Final = ("requests", "input-tokens", "output-tokens")
"""The limits that are shown, as the headers name them."""


@dataclass(frozen=True, slots=True)
class Room:
    """A limit: `remaining` of `limit`, and when it is full again (seconds since 1970)."""

    limit: float
    remaining: float
    reset: float | None = None

    @property
    def left(self) -> float:
        """The share that is left, 0 to 1."""
        return min(1.0, max(0.0, self.remaining / self.limit)) if self.limit > 0 else 1.0


@dataclass(slots=True)
class Family:
    """A family of models with one credential. `held`: tasks that its workers hold back."""

    pool: str
    name: str
    in_flight: int = 0
    refused: int = 0
    held: int = 0
    workers: int = 0
    at: float = 0.0
    """When the headers came."""
    rooms: dict[str, Room] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Pool and family, as a closed one is named."""
        return f"{self.pool}.{self.name}"

    def tightest(self, now: float) -> tuple[str, Room] | None:
        """The limit of which least is left; those whose reset has passed are full again."""
        standing = [
            (name, room)
            for name, room in self.rooms.items()
            if room.reset is not None and room.reset > now
        ]
        return min(standing, key=lambda each: each[1].left, default=None)


def headroom(workers: Iterable[Actor], now: float) -> list[Family]:
    """What the living workers say, by pool and family."""
    by_key: dict[tuple[str, str], Family] = {}
    for actor in workers:
        if actor.lost(now):
            continue
        for pool, families in actor.beat.pools.items():
            if not isinstance(families, Mapping):
                continue
            for name, said in families.items():
                if isinstance(said, Mapping):
                    key = (str(pool), str(name))
                    family = by_key.get(key)
                    if family is None:
                        family = by_key[key] = Family(*key)
                    _include(family, actor, said)
    return [by_key[key] for key in sorted(by_key)]


def _include(family: Family, actor: Actor, said: Mapping[str, Any]) -> None:
    family.workers += 1
    family.held += actor.beat.held
    family.in_flight += _whole(said.get("in_flight"))
    family.refused += _whole(said.get("refused"))
    headers = said.get("limits")
    at = time_of(said.get("limits_at"))
    if not isinstance(headers, Mapping) or at is None or at < family.at:
        return
    rooms = {}
    for name in LIMITS:
        limit = number_of(headers.get(f"{name}-limit"))
        remaining = number_of(headers.get(f"{name}-remaining"))
        if limit is not None and remaining is not None:
            rooms[name] = Room(limit, remaining, time_of(headers.get(f"{name}-reset")))
    if rooms:
        family.at, family.rooms = at, rooms


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def number_of(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, (str, int, float)) else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < 1e15 else None


def time_of(value: object) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None
    return instant.timestamp() if instant.tzinfo is not None else None
