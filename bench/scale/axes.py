"""What is varied, one thing at a time around one middle. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

BYTES_MOST: Final = 256 * 2**20
"""A point moves at most so many bytes of payload, so that large ones take no longer."""


@dataclass(frozen=True)
class Point:
    """One thing to measure. All fields but one are those of the middle."""

    axis: str = "server"
    value: str = "r1"
    server: str = "r1"
    """r1 is one server; always, one that syncs before each answer; r3, three with three copies."""
    workers: int = 1
    """Worker processes."""
    slots: int = 400
    """Of each worker process."""
    backlog: int = 0
    """Tasks queued before the first worker starts; 0 submits as results come back."""
    payload: int = 168
    """Bytes of a task's prompt, and of its result."""
    history: int = 0
    """Tasks that had ended before."""
    queues: int = 1
    dashboards: int = 0
    """Connections that follow everything that happens."""
    tasks: int = 20_000
    singles: int = 500

    def bounded(self) -> Point:
        """With no more tasks than `BYTES_MOST` allows."""
        return replace(self, tasks=max(200, min(self.tasks, BYTES_MOST // self.payload)))


@dataclass(frozen=True)
class Axis:
    """A field of Point, and its values."""

    field: str
    title: str
    quick: tuple[int | str, ...]
    full: tuple[int | str, ...]


AXES: Final = (
    Axis("server", "servers and durability", ("r1", "always", "r3"), ("r1", "always", "r3")),
    Axis("workers", "worker processes", (1, 4), (1, 2, 4, 10, 30, 100)),
    Axis("backlog", "queued tasks", (1_000, 10_000), (1_000, 10_000, 100_000, 1_000_000)),
    Axis(
        "payload", "payload, bytes", (168, 65_536), (168, 1_024, 8_192, 65_536, 524_288, 2_097_152)
    ),
    Axis("history", "ended tasks kept", (0, 5_000), (0, 10_000, 100_000, 300_000)),
    Axis("queues", "queues", (1, 10), (1, 10, 100)),
    Axis("dashboards", "dashboards", (0, 2), (0, 1, 5, 20)),
)


def points(*, quick: bool, only: tuple[str, ...] = ()) -> list[Point]:
    """Everything to measure. Raises ValueError for an axis that is not there."""
    for name in only:
        if name not in {axis.field for axis in AXES}:
            known = ", ".join(axis.field for axis in AXES)
            raise ValueError(f"there is no axis {name!r}; there are {known}")
    middle = Point(tasks=2_000, singles=100) if quick else Point()
    chosen = []
    for axis in AXES:
        if only and axis.field not in only:
            continue
        for value in axis.quick if quick else axis.full:
            point = replace(middle, axis=axis.field, value=str(value), **{axis.field: value})  # type: ignore[arg-type]
            if axis.field == "workers":
                # The same slots over all, so that only the number of processes changes.
                point = replace(point, slots=max(4, middle.slots // point.workers))
            chosen.append(point.bounded())
    return chosen
