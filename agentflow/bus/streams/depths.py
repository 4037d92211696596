"""How much waits in which queue: the consumers' own numbers, and the stream's subjects.

A queue that nobody ever served has no consumer; it is found in the stream, whose subjects are few
because no id is in them. Reading costs the server two answers, and one for each queue that is to be
dated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from agentflow.bus.streams.jetstream import JetStream
from agentflow.errors import InvalidTask
from agentflow.protocol import subjects

DATED: Final = 32
"""Queues whose oldest message is looked up in one reading."""


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


class Reading(msgspec.Struct):
    """Depths by queue; `first` is the lowest sequence that AGENTFLOW_TASKS still has."""

    depths: dict[str, Depth]
    first: int


async def read(js: JetStream) -> Reading:
    """The depths now. Raises BusError; NotFound where nobody has used this server yet."""
    info = await js.stream_info(subjects.TASKS, subjects_filter="agentflow.tasks.>")
    state = info["state"]
    held: dict[str, int] = state.get("subjects") or {}
    depths = combine(held, await js.consumers(subjects.TASKS))
    for depth in sorted(depths.values(), key=lambda depth: -depth.messages)[:DATED]:
        for subject, behind in depth.unread.items():
            first = await js.next_after(subjects.TASKS, behind + 1, subject)
            if first is not None:
                depth.oldest = min(depth.oldest or first.time, first.time)
    # Of an empty stream the server names no first sequence that can be relied on.
    kept = int(state["first_seq"] if state["messages"] else state["last_seq"] + 1)
    return Reading(depths, kept)


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
