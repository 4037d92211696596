"""What a task says besides its message, fetched just before it is started.

A payload may be 32 MB and is in memory several times while it is asked, so there is room for so
many bytes of them at once in a worker; the next one waits, held and without a record. Small tasks
do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.payloads import Payloads
from agentflow.protocol import limits
from agentflow.protocol import task as tasks
from agentflow.protocol.task import Task

ROOM: Final = 2 * limits.PAYLOAD_BYTES


class LargeTasks:
    """Makes tasks whole, as many at once as there is room for."""

    def __init__(self, js: JetStream, room: int = ROOM) -> None:
        self._payloads = Payloads(js)
        self._free = room
        self._left = asyncio.Condition()

    @asynccontextmanager
    async def whole(self, task: Task) -> AsyncIterator[Task]:
        """The task with all that it says; its room is free again at the end.

        Raises PayloadLost, InvalidTask, BusError.
        """
        reference = task.payload
        if reference is None:
            yield task
            return
        async with self._left:
            await self._left.wait_for(lambda: self._free >= reference.size)
            self._free -= reference.size
        try:
            yield tasks.joined(task, await self._payloads.get(task.id, reference))
        finally:
            self._free += reference.size
            async with self._left:
                self._left.notify_all()
