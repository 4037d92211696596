"""Rows of tasks without a record whose message is gone: an administrator purged the queue.

A task without a record is known by its message alone. When that is acked there is a record, which
arrives in its turn; when it is purged there is nothing, and the row would stay for ever. So when
some such row is old, and there are more of them than messages, in two looks running, the messages
are read and the rows without one are dropped, unless a record has come meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from agentflow.bus.streams.follower import Follower
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.pages import page, sequence_of
from agentflow.master.index import Index
from agentflow.protocol import subjects
from agentflow.protocol.identity import identity_sequence
from agentflow.protocol.record import State

ROWS: Final = 500
QUIET_MS: Final = 60_000
"""A younger row is not looked at: its record may be on its way."""


class Vanished:
    """Looks for such rows and drops them."""

    def __init__(self, js: JetStream, index: Index, tasks: Follower) -> None:
        self._js = js
        self._index = index
        self._tasks = tasks
        self._suspected = False

    async def look(self) -> int:
        """Look once; how many rows were dropped. Raises BusError."""
        oldest = self._index.oldest(State.QUEUED, limit=1)
        if not oldest or oldest[0].updated > time.time() * 1000 - QUIET_MS:
            self._suspected = False
            return 0
        queued = self._index.counts()[State.QUEUED]
        stored = int((await self._js.stream_info(subjects.TASKS))["state"]["messages"])
        suspected, self._suspected = self._suspected, queued > stored
        if not (suspected and self._suspected):
            return 0
        self._suspected = False
        return await self._drop()

    async def _drop(self) -> int:
        up_to = self._tasks.cursor
        stored = await self._sequences(up_to)
        dropped, after = 0, (-1, "")
        while rows := self._index.oldest(State.QUEUED, after=after, limit=ROWS):
            after = (rows[-1].updated, rows[-1].id)
            for row in rows:
                sequence = identity_sequence(row.message)
                if row.sequence or not 0 < sequence <= up_to or sequence in stored:
                    continue
                dropped += self._index.forget(row.id, sequence=0)
            await asyncio.sleep(0)
        return dropped

    async def _sequences(self, up_to: int) -> set[int]:
        sequences: set[int] = set()
        first = 1
        while first <= up_to:
            read = await page(self._js.connection, subjects.TASKS, first)
            sequences.update(sequence_of(message) for message in read.messages)
            if not read.more or not read.messages:
                break
            first = sequence_of(read.messages[-1]) + 1
        return sequences
