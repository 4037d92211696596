"""A job at one placement: told in the bucket, driven, watched, withdrawn where it ends early.

What ends it early, besides its tasks: it is told to stop, nothing goes on without a person for
longer than it has patience, the results would go nowhere, the placement ends. After the first two
what runs may end, and what waits is withdrawn, so that nothing is left behind that somebody else
would run or pay for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from agentflow.client import Client
from agentflow.client.operate.serving import unserved
from agentflow.errors import AgentFlowError, BusError, NotFound
from agentflow.job.driver import Driver
from agentflow.job.ledger import Results
from agentflow.job.placement import FINISH_WITHIN, Placement
from agentflow.job.register import Register
from agentflow.job.spec import Ending, FrontEnd, Held, JobSpec
from agentflow.job.tally import Tally
from agentflow.job.waiting import Waiting
from agentflow.protocol import subjects
from agentflow.protocol.jobs import Job
from agentflow.protocol.subjects import Priority

RESULTS_EVERY: Final = 0.5
"""Seconds between two looks at the file of results."""
LEFT_COUNTED: Final = 10_000
"""Messages of another job that are counted."""
RUNNING_EVERY: Final = 0.1


class Stay:
    """One placement from the first task submitted there to the last."""

    def __init__(
        self,
        client: Client,
        spec: JobSpec,
        placement: Placement,
        driver: Driver,
        ledger: Results,
        tally: Tally,
        front_end: FrontEnd,
        stopping: asyncio.Event,
        *,
        families: frozenset[str],
    ) -> None:
        self._client = client
        self._spec = spec
        self._placement = placement
        self._driver = driver
        self._ledger = ledger
        self._tally = tally
        self._front_end = front_end
        self._stopping = stopping
        self._register = Register(client, spec, tally, placement.queue)
        self._waiting = Waiting(
            client,
            placement.queue,
            tally,
            front_end,
            families=families,
            own_workers=placement.stack is not None,
            give_up=spec.give_up,
        )
        self.held: Held | None = None
        """Why it gave up."""

    async def run(self) -> bool:
        """Whether the placement ended before the job did. Raises what went wrong."""
        await self._driver.provide()
        before = await self._register.begin()
        ending = "failed"
        try:
            if before is not None and before.queue != self._placement.queue:
                await self._fetch_back(before)
            await self._name_leftovers()
            moved = await self._drive()
            ending = "" if moved else self._ending
            return moved
        finally:
            if ending:
                await self._register.end(ending)

    @property
    def _ending(self) -> str:
        if self._tally.done >= self._tally.total:
            return Ending.DONE
        if self.held is not None:
            return Ending.GAVE_UP
        if self._stopping.is_set() or self._driver.withdrawn:
            return Ending.INTERRUPTED
        return Ending.COST_LIMIT if self._driver.limit_reached else Ending.DONE

    # Beginning.

    async def _fetch_back(self, before: Job) -> None:
        """Take back what an earlier run left in a queue that nobody serves: it goes on in ours."""
        if await unserved(self._client.js, before.queue):
            async for _ in self._client.operate.withdrawing.job(self._spec.id):
                pass

    async def _name_leftovers(self) -> None:
        """Name what other jobs left in a queue that workers of others serve."""
        if self._placement.own:
            return
        with suppress(BusError):  # who may not look is told nothing
            for job in await self._client.operate.jobs.all():
                if job.id == self._spec.id or job.queue != self._placement.queue or not job.left:
                    continue
                count = await self._client.operate.withdrawing.count(job.id, LEFT_COUNTED)
                if count:
                    self._front_end.warn(_leftover(job, count, self._client.js.now()))

    # Driving.

    async def _drive(self) -> bool:
        working = asyncio.ensure_future(self._driver.run())
        stopping = asyncio.ensure_future(self._stopping.wait())
        ended = asyncio.ensure_future(self._placement.wait_ended())
        taken = asyncio.ensure_future(self._watch_results())
        waiting = asyncio.ensure_future(self._waiting.run())
        telling = asyncio.ensure_future(self._tell())
        watched: set[asyncio.Future[Any]] = {working, stopping, ended, taken, waiting, telling}
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        try:
            for future in watched:
                if future.done():
                    future.result()
            if waiting.done() and not working.done():
                self.held = waiting.result()
            if (self._stopping.is_set() or self.held) and not working.done():
                await self._finish()
            return ended.done() and not working.done() and self.held is None
        finally:
            self._driver.abandon()
            for future in watched:
                future.cancel()
            await asyncio.gather(*watched, return_exceptions=True)
            await self._tidy(moved=ended.done() and not working.done())

    async def _tell(self) -> None:
        """Keep the job's key up to date."""
        keeping = asyncio.ensure_future(self._register.keep())
        try:
            while True:
                held = self._waiting.held
                self._register.waiting = held.text if held is not None else ""
                await asyncio.sleep(RESULTS_EVERY)
        finally:
            keeping.cancel()

    async def _watch_results(self) -> None:
        """Raise ResultsLost as soon as the results would go nowhere."""
        while True:
            await asyncio.sleep(RESULTS_EVERY)
            self._ledger.check()

    # Ending.

    async def _finish(self) -> None:
        """Let what runs end while results still come in; withdraw what waits."""
        self._driver.stop_submitting()
        stack = self._placement.stack
        self._front_end.stopping(None if stack is None else FINISH_WITHIN)
        if stack is not None:
            await stack.stop_workers()
            await self._withdraw(in_hand=not self._placement.own)
            return
        await self._withdraw(in_hand=True)
        await self._until_quiet()

    async def _until_quiet(self) -> None:
        """Return when nothing of the job runs, after a while, or when somebody is in a hurry."""
        end = asyncio.get_running_loop().time() + FINISH_WITHIN
        while self._tally.running and asyncio.get_running_loop().time() < end:
            if self._driver.hurried:
                return
            await asyncio.sleep(RUNNING_EVERY)

    async def _withdraw(self, *, in_hand: bool) -> None:
        counts: Counter[str] = Counter()
        try:
            async for one in self._client.operate.withdrawing.job(self._spec.id, in_hand=in_hand):
                counts[one.step] += 1
        except AgentFlowError as error:
            self._front_end.warn(
                f"what waits could not all be withdrawn ({error}); to do so: "
                f"agentflow withdraw {self._spec.id}"
            )

    async def _tidy(self, *, moved: bool) -> None:
        """Remove the consumers of a queue that nobody serves any more."""
        stack = self._placement.stack
        if moved or stack is None or not self._placement.own:
            return
        await stack.stop_workers()
        with suppress(BusError):
            for priority in Priority:
                name = subjects.consumer(self._placement.queue, priority)
                with suppress(NotFound):
                    await self._client.js.delete_consumer(subjects.TASKS, name)


def _leftover(job: Job, count: int, now: datetime) -> str:
    cost = "an unknown cost" if job.cost_usd is None else f"${job.cost_usd:,.4f}"
    tasks = f"{count:,} task{'s' if count != 1 else ''}"
    driven = "; it may be at work" if job.driven(now) else ", which was broken off"
    return (
        f"in queue {job.queue} there are {tasks} of job {job.id} too ({job.file}, by {job.who}, "
        f"{cost} so far){driven}: the workers of the queue run them. To take back what waits: "
        f"agentflow withdraw {job.id}"
    )
