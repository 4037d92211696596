"""The queues: how much waits, since when, and whether anybody takes it.

Depths (bus/streams/depths.py) are read at most every two seconds, and only when somebody asks.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from agentflow.bus.streams.depths import Depth
from agentflow.bus.streams.depths import read as read_depths
from agentflow.bus.streams.jetstream import JetStream
from agentflow.protocol.api import QueueView
from agentflow.protocol.control import Heartbeat
from agentflow.protocol.record import PARKED, State
from agentflow.protocol.subjects import Priority
from agentflow.rules import presence
from agentflow.rules.presence import Serving
from agentflow.views import display

REFRESH: Final = 2.0
QUEUES_TOLD: Final = 1_000
"""In an answer, which must fit one message however many names somebody invents."""
UNSERVED_TOLD: Final = 20
NAME_COLUMNS: Final = 40


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
        serving = presence.by_queue(workers)
        return [
            _view(
                name,
                depths.get(name, Depth()),
                counts.get(name, {}),
                serving.get(name, Serving()),
                now,
                settled,
            )
            for name in sorted({*depths, *counts, *serving} - {""})
        ]


def _view(
    queue: str,
    depth: Depth,
    counts: Mapping[str, int],
    serving: Serving,
    now: datetime,
    settled: bool,
) -> QueueView:
    return QueueView(
        queue=queue,
        queued=counts.get(State.QUEUED, 0),
        unserved=presence.is_unserved(
            messages=depth.messages,
            workers=serving.workers,
            pulls=depth.pulls,
            settled=settled,
        ),
        running=counts.get(State.RUNNING, 0),
        parked=sum(counts.get(state, 0) for state in (*PARKED, State.WAITING)),
        depth={priority: depth.waiting.get(priority, 0) for priority in Priority},
        workers=serving.workers,
        slots=serving.slots,
        oldest_s=None
        if depth.oldest is None
        else max(0.0, round((now - depth.oldest).total_seconds(), 3)),
    )


def busiest(queues: list[QueueView]) -> list[QueueView]:
    """At most QUEUES_TOLD queues, those with the most to do, by name."""
    if len(queues) <= QUEUES_TOLD:
        return queues
    waiting = {view.queue: sum(view.depth.values()) + view.running for view in queues}
    most = sorted(queues, key=lambda view: (-view.workers, -waiting[view.queue], view.queue))
    return sorted(most[:QUEUES_TOLD], key=lambda view: view.queue)


def queue_notes(queues: list[QueueView]) -> list[str]:
    """What a person should know of queues."""
    unserved = [view.queue for view in queues if view.unserved]
    notes = [
        f"queue {display.one_line(name, NAME_COLUMNS)} holds tasks and no worker serves it; start "
        f"one: agentflow worker --queues {shlex.quote(name)}"
        for name in unserved[:UNSERVED_TOLD]
    ]
    if len(unserved) > UNSERVED_TOLD:
        notes.append(f"{len(unserved) - UNSERVED_TOLD:,} more queues hold tasks and are not served")
    if len(queues) > QUEUES_TOLD:
        notes.append(f"{len(queues):,} queues are known; the {QUEUES_TOLD:,} busiest are told")
    return notes
