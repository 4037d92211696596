"""Drain a queue or a kind: pause it, and wait until nothing of it runs. Needs no master."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.client.operate.asking import Asking
from agentflow.client.operate.pauses import Pauses
from agentflow.errors import MasterAbsent
from agentflow.protocol import control, subjects
from agentflow.rules import draining, presence
from agentflow.rules.draining import DrainView
from agentflow.rules.presence import Seen

LOOK_EVERY: Final = 0.5

Told = Callable[[DrainView], None]


class Draining:
    """Drains one thing after the other."""

    def __init__(self, connection: Connection, pauses: Pauses, asking: Asking) -> None:
        self._connection = connection
        self._pauses = pauses
        self._asking = asking

    async def run(
        self,
        queue: str | None,
        kind: str | None,
        *,
        reason: str,
        timeout: float | None,
        told: Told,
    ) -> DrainView:
        """Return when nothing runs, or after `timeout` seconds with what does; the pause stays."""
        loop = asyncio.get_running_loop()
        workers: dict[str, Seen] = {}
        news = asyncio.Event()

        def hear(message: Message) -> None:
            beat = control.decode_heartbeat(message.data)
            if beat is not None and beat.role == "worker":
                presence.hear(workers, beat, loop.time(), Seen)
                news.set()

        subscription = await self._connection.subscribe(subjects.presence("worker", "*"), hear)
        try:
            gate = await self._pauses.pause(queue, kind=kind, reason=reason)
            paused = loop.time()
            end = paused + timeout if timeout is not None else float("inf")
            while True:
                view = draining.view(
                    gate, workers.values(), loop.time(), queue, kind, paused=paused
                )
                told(view)
                if view.done or loop.time() >= end:
                    return await self._with_waiting(view, queue)
                news.clear()
                try:
                    async with asyncio.timeout(min(LOOK_EVERY, max(0.01, end - loop.time()))):
                        await news.wait()
                except TimeoutError:
                    continue
        finally:
            await subscription.close()

    async def _with_waiting(self, view: DrainView, queue: str | None) -> DrainView:
        if queue is None:
            return view
        try:
            queues = (await self._asking.stats()).queues
        except MasterAbsent:
            return view
        waiting = sum(each.queued + each.parked for each in queues if each.queue == queue)
        return msgspec.structs.replace(view, waiting=waiting)
