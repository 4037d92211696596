"""The queues: how much waits, since when, and whether anybody takes it.

Depths are the consumers' own numbers. A queue that nobody ever served has no consumer; it is found
in the stream, whose subjects are few because no id is in them. All of it is read at most every two
seconds, and only when somebody asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from agentflow.bus.jetstream import JetStream
from agentflow.errors import InvalidTask
from agentflow.protocol import subjects
from agentflow.protocol.api import QueueView
from agentflow.protocol.control import Heartbeat
from agentflow.protocol.record import State
from agentflow.protocol.subjects import Priority

REFRESH: Final = 2.0
DATED: Final = 32
"""Queues whose oldest message is looked up in one refresh."""


class Depth(msgspec.Struct):
    """What AGENTFLOW_TASKS holds of one queue.

    `messages` counts those in workers' hands too, `waiting` those that no worker has; `pulls` are
    requests of workers that wait for one. `unread` says by subject behind which sequence the
    waiting ones stand.
    """

    messages: int = 0
    waiting: dict[str, int] = {}
    pulls: int = 0
    oldest: datetime | None = None
    unread: dict[str, int] = {}


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
                self._depths = await self._read()
                self._read_at = time.monotonic()
        return self._depths

    async def _read(self) -> dict[str, Depth]:
        info = await self._js.stream_info(subjects.TASKS, subjects_filter="agentflow.tasks.>")
        held: dict[str, int] = info["state"].get("subjects") or {}
        depths = combine(held, await self._js.consumers(subjects.TASKS))
        for depth in sorted(depths.values(), key=lambda depth: -depth.messages)[:DATED]:
            for subject, behind in depth.unread.items():
                first = await self._js.next_after(subjects.TASKS, behind + 1, subject)
                if first is not None:
                    depth.oldest = min(depth.oldest or first.time, first.time)
        return depths

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


def combine(held: Mapping[str, int], consumers: Iterable[Mapping[str, Any]]) -> dict[str, Depth]:
    """Depths from the messages by subject and from what the consumers say of themselves."""
    depths: dict[str, Depth] = {}
    left = dict(held)
    for subject, count in held.items():
        queue, _ = subjects.parse_task(subject)
        depths.setdefault(queue, Depth()).messages += count
    for info in consumers:
        config = info["config"]
        filters = config.get("filter_subjects") or [config.get("filter_subject", "")]
        try:
            queue, priority = subjects.parse_task(filters[0])
        except InvalidTask:
            continue  # somebody else's consumer
        depth = depths.setdefault(queue, Depth())
        depth.pulls += info.get("num_waiting", 0)
        pending = info.get("num_pending", 0)
        depth.waiting[priority] = depth.waiting.get(priority, 0) + pending
        for subject in filters:
            if left.pop(subject, 0) and pending:
                depth.unread[subject] = info.get("delivered", {}).get("stream_seq", 0)
    for subject, count in left.items():
        queue, priority = subjects.parse_task(subject)
        depth = depths[queue]
        depth.waiting[priority] = depth.waiting.get(priority, 0) + count
        depth.unread[subject] = 0
    return depths


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
