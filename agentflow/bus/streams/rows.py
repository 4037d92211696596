"""Stored messages as rows, slice by slice with a turn of the event loop between.

A page or a burst has thousands of messages; made rows of in one go they would keep everything else
waiting: heartbeats, answers, the next keystroke.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, TypeVar

from agentflow.bus.streams.pages import stored_ns, subject_of
from agentflow.bus.wire.message import Message
from agentflow.errors import InvalidTask
from agentflow.protocol import subjects
from agentflow.views.row import Row, from_task, needs_payload

_log = logging.getLogger(__name__)

SLICE: Final = 100
"""Rows between two turns of the event loop; some 2 ms, and as much for who takes them."""

T = TypeVar("T")


async def in_slices(entries: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """At most `SLICE` of them at a time; others have a turn after each."""
    for start in range(0, len(entries), SLICE):
        yield entries[start : start + SLICE]
        await asyncio.sleep(0)


async def take_tasks(
    entries: Sequence[tuple[int, Message]], whole: bool, take: Callable[[list[Row]], object]
) -> int:
    """Give the rows of task messages to `take`, some at a time.

    Of live copies (not `whole`) some say too little to make a row: the sequence of the first of
    them, from where a follower is to read the messages themselves; 0 where there is none.
    """
    unresolved = 0
    async for part in in_slices(entries):
        rows: list[Row] = []
        for sequence, message in part:
            if not whole and needs_payload(message.headers):
                unresolved = unresolved or sequence
            elif row := _task_row(sequence, message, whole):
                rows.append(row)
        if rows:
            take(rows)
    return unresolved


def _task_row(sequence: int, message: Message, whole: bool) -> Row | None:
    try:
        return from_task(
            subject_of(message),
            sequence,
            stored_ns(message),
            message.headers,
            message.data if whole else None,
        )
    except InvalidTask as error:
        # Somebody gave the stream a subject that is none of ours.
        _log.debug("message %d of %s: %s", sequence, subjects.TASKS, error)
        return None
