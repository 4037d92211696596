"""The queues: how much waits, since when, and whether anybody takes it.

Depths (bus/streams/depths.py) are read at most every two seconds, and only when somebody asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from agentflow.bus.streams.depths import Depth
from agentflow.bus.streams.depths import read as read_depths
from agentflow.bus.streams.jetstream import JetStream
from agentflow.protocol.api import QueueView
from agentflow.protocol.control import Heartbeat
from agentflow.protocol.record import State
from agentflow.protocol.subjects import Priority

REFRESH: Final = 2.0


class Queues:
    """Depths, as fresh as `REFRESH`."""

    def __init__(self, js: JetStream) -> None:
        self._js = js
        self._lock = asyncio.Lock()
        self._read_at = -REFRESH
        self._depths: dict[str, Depth] = {}

    async def depths(self) -> Mapping[str, Depth]:
        """By queue. Raises BusError."""
        async with self._lock:
            if time.monotonic() - self._read_at >= REFRESH:
                self._depths = (await read_depths(self._js)).depths
                self._read_at = time.monotonic()
        return self._depths

    def views(
        self,
        depths: Mapping[str, Depth],
        counts: Mapping[str, Mapping[str, int]],
        workers: Iterable[Heartbeat],
        *,
        settled: bool,
    ) -> list[QueueView]:
        """Every queue that anything is known of, by name."""
        now = self._js.now()
        living = list(workers)
        names = {*depths, *counts, *(name for beat in living for name in beat.queues)}
        return [
            _view(name, depths.get(name, Depth()), counts.get(name, {}), living, now, settled)
            for name in sorted(names - {""})
        ]


def is_unserved(depth: Depth, workers: int, *, settled: bool) -> bool:
    """Whether the queue holds messages and nobody takes them.

    A pull that waits is a worker too, whoever it is; and a busy worker has none waiting.
    """
    return settled and depth.messages > 0 and workers == 0 and depth.pulls == 0


def _view(
    queue: str,
    depth: Depth,
    counts: Mapping[str, int],
    living: list[Heartbeat],
    now: datetime,
    settled: bool,
) -> QueueView:
    serving = [beat for beat in living if queue in beat.queues and not beat.stopping]
    return QueueView(
        queue=queue,
        queued=counts.get(State.QUEUED, 0),
        unserved=is_unserved(depth, len(serving), settled=settled),
        running=counts.get(State.RUNNING, 0),
        parked=counts.get(State.SCHEDULED, 0) + counts.get(State.RETRYING, 0),
        depth={priority: depth.waiting.get(priority, 0) for priority in Priority},
        workers=len(serving),
        slots=sum(beat.slots for beat in serving),
        oldest_s=None
        if depth.oldest is None
        else max(0.0, round((now - depth.oldest).total_seconds(), 3)),
    )
