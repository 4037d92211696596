"""Submitting: store a task message, and wait, with jitter, while the queue is full."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

from agentflow.bus.streams import lanes
from agentflow.bus.streams.jetstream import JetStream, PubAck
from agentflow.errors import NoStream, StreamFull
from agentflow.protocol import headers as blocks
from agentflow.protocol import subjects


class Submitter:
    """Puts task messages into the queue; waits, with jitter, while the queue is full."""

    def __init__(self, js: JetStream) -> None:
        self._js = js

    async def submit(
        self,
        queue: str,
        priority: str,
        payload: bytes,
        headers: Mapping[str, str],
        *,
        lane: str = "",
        patience: float | None = None,
    ) -> PubAck:
        """Store a task message. Raises StreamFull after `patience` seconds, never where None.

        Raises UsageError for a lane that is not listed.
        """
        subject = subjects.task(queue, priority, lane)
        loop = asyncio.get_running_loop()
        limit = None if patience is None else loop.time() + patience
        pause = 0.5
        block = blocks.encode(headers)
        while True:
            try:
                return await self._js.store(subject, payload, block)
            except NoStream:
                await lanes.check(self._js, subject)
                raise
            except StreamFull:
                if limit is not None and loop.time() + pause > limit:
                    raise
                await asyncio.sleep(pause * (0.5 + random.random()))
                pause = min(pause * 1.5, 5.0)
