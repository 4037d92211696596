"""What a test submitted, and what it was told of that: the other half of the checker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from agentflow.audit.evidence import Submission
from agentflow.bus.streams.jetstream import JetStream
from agentflow.errors import BusError

AT_ONCE = 200


class Ledger(list[Submission]):
    """The submissions, with their PubAck's sequence where one came."""

    def __init__(self, js: JetStream) -> None:
        super().__init__()
        self._js = js

    @property
    def ids(self) -> list[str]:
        """Of all that were acknowledged, once each."""
        return list(dict.fromkeys(line.id for line in self if line.acknowledged))

    async def submit(
        self, body: Mapping[str, Any], subject: str = "agentflow.tasks.default", within: float = 5.0
    ) -> bool:
        """Submit once; whether it was acknowledged."""
        task_id = body["id"]
        try:
            ack = await self._js.store(subject, msgspec.json.encode(body), timeout=within)
        except BusError:
            self.append(Submission(task_id, acknowledged=False))
            return False
        self.append(Submission(task_id, ack.seq))
        return True

    async def insist(
        self, body: Mapping[str, Any], subject: str = "agentflow.tasks.default"
    ) -> None:
        """Submit until it is acknowledged, as a client does."""
        while not await self.submit(body, subject, within=2.0):
            await asyncio.sleep(0.05)

    async def submit_all(
        self, bodies: Iterable[Mapping[str, Any]], subject: str = "agentflow.tasks.default"
    ) -> None:
        """Many, some hundred at once, each until it is acknowledged."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(body: Mapping[str, Any]) -> None:
            async with gate:
                await self.insist(body, subject)

        await asyncio.gather(*(one(body) for body in bodies))
