"""Consumers for queues that hold tasks and were never served, made by the leading master.

Tasks flow without them: a worker makes those of its queues. They are for whoever reads consumers to
see what waits, above all an autoscaler, which has no worker yet that could have made them. Queues
are as many as somebody invents names, so there is a limit to those that are made for.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.lease import Lease
from agentflow.errors import BusError
from agentflow.master.queues import Queues
from agentflow.protocol import subjects
from agentflow.protocol.subjects import Priority

_log = logging.getLogger(__name__)

EVERY: Final = 15.0
MOST: Final = 200
"""Queues with consumers, above which none are made here."""


class QueueConsumers:
    """Makes them, while its master leads."""

    def __init__(self, js: JetStream, queues: Queues, lease: Lease) -> None:
        self._js = js
        self._queues = queues
        self._lease = lease
        self._refused: set[str] = set()

    async def keep(self) -> None:
        """Look now and then; runs until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            if self._lease.held:
                try:
                    await self.look()
                except BusError as error:
                    _log.info("the consumers of queues could not be made: %s", error)

    async def look(self) -> None:
        """Make what is missing. Raises BusError."""
        depths = await self._queues.depths()
        there = {info["name"] for info in await self._js.consumers(subjects.TASKS)}
        room = MOST - len(there) // len(Priority)
        waiting = sorted(name for name, depth in depths.items() if depth.messages)
        for queue in waiting:
            known = any(subjects.consumer(queue, priority) in there for priority in Priority)
            if known or queue in self._refused:
                continue
            if room <= 0:
                return
            room -= 1
            notes, _ = await provision.ensure_consumers(self._js, queue)
            for note in notes:
                # Each try would stand in the server's log as a violation.
                self._refused.add(queue)
                _log.info("%s: %s", note.name, note.text)
