"""The job's word about itself in the bucket: what it is, how far it is, who drives it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime

from agentflow.client import Client
from agentflow.client.session import orderer
from agentflow.errors import BusError
from agentflow.job.spec import JobSpec
from agentflow.job.tally import Tally
from agentflow.protocol import jobs
from agentflow.protocol.jobs import Job

WITHIN = 3.0
"""Seconds that its last word may take; a server that is gone is no reason to hang."""


class Register:
    """Keeps the key of a job at one placement."""

    def __init__(self, client: Client, spec: JobSpec, tally: Tally, queue: str) -> None:
        self._client = client
        self._spec = spec
        self._tally = tally
        self._queue = queue
        self._started: datetime | None = None
        self.waiting = ""
        """What its tasks wait for."""

    async def begin(self) -> Job | None:
        """Say that it is driven from here; returns what was said of it before. Raises BusError."""
        before = await self._client.operate.jobs.get(self._spec.id)
        self._started = before.started if before is not None else self._client.js.now()
        await self._write("")
        return before

    async def keep(self) -> None:
        """Renew it until cancelled."""
        while True:
            await asyncio.sleep(jobs.SEEN_EVERY)
            with suppress(BusError):
                await self._write("")

    async def end(self, ending: str) -> None:
        """The last word."""
        with suppress(BusError, TimeoutError):
            async with asyncio.timeout(WITHIN):
                await self._write(ending)

    async def _write(self, ending: str) -> None:
        known = await self._client.operate.jobs.get(self._spec.id)
        withdrawn = known.withdrawn if known is not None else []
        await self._client.operate.jobs.keep(self._now(ending, withdrawn))

    def _now(self, ending: str, withdrawn: list[tuple[int, int]]) -> Job:
        spec, tally, now = self._spec, self._tally, self._client.js.now()
        return Job(
            id=spec.id,
            file=spec.file,
            results="" if spec.results is None else str((spec.table or spec.results).absolute()),
            queue=self._queue,
            lines=tally.total,
            defaults=spec.defaults,
            who=orderer(),
            started=self._started or now,
            seen=now,
            ended=now if ending else None,
            ending=ending,
            done=tally.done,
            failed=tally.failed,
            running=0 if ending else len(tally.running),
            cost_usd=None if tally.unpriced else tally.cost_micro / 1_000_000,
            waiting="" if ending else self.waiting,
            simulated=spec.simulate,
            withdrawn=withdrawn,
            input=spec.input,
        )
