"""Run a job to its end: at one placement after another, until all is done or it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentflow.errors import BusError, StoreBusy
from agentflow.job.ledger import Ledger
from agentflow.job.source import Item
from agentflow.job.spec import Ending, FrontEnd, JobSpec
from agentflow.job.tally import Tally
from agentflow.protocol.record import State

if TYPE_CHECKING:
    from agentflow.job.driver import Driver
    from agentflow.job.placement import Placement, Placements


class Job:
    """All tasks of a file, and the file of their results. Runs once."""

    def __init__(self, spec: JobSpec, items: Sequence[Item]) -> None:
        self.tally = Tally(len(items), simulated=spec.simulate)
        self._spec = spec
        self._items = items
        self._left: Sequence[Item] = ()
        self._ledger = Ledger(spec.results, simulate=spec.simulate)
        self._stopping = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._placement: Placement | None = None
        self._driver: Driver | None = None
        self._limit_reached = False

    async def run(self, front_end: FrontEnd) -> Ending:
        """Why it ended. Raises UsageError, StackError, BusError."""
        self._ledger.open()
        try:
            self._left = self._without_result(front_end)
            if self._left:
                await self._until_stopped(front_end)
        finally:
            self.tally.finish()
            self._ledger.close()
        if self._stopping.is_set():
            return Ending.INTERRUPTED
        return Ending.COST_LIMIT if self._limit_reached else Ending.DONE

    def stop(self) -> None:
        """Submit no more and let running tasks end; a second time, without waiting for them."""
        if self._stopping.is_set() and self._placement and self._placement.stack:
            self._placement.stack.hurry()
        self._stopping.set()
        if self._driver is None and self._work is not None:
            self._work.cancel()  # the stack is still starting

    def _without_result(self, front_end: FrontEnd) -> list[Item]:
        """The tasks to run; the others are counted with the result that they have."""
        left = []
        for item in self._items:
            line = self._ledger.lines.get(item.id)
            if line is None or (line.state != State.SUCCEEDED and self._spec.retry_failed):
                left.append(item)
                continue
            if line.request and line.request != item.request:
                front_end.say(
                    f"line {item.line}: task {item.id} has a result of another request; "
                    "it is kept. Give the line another id to run it."
                )
            self.tally.add(line, before=True)
        if ignored := self._ledger.ignored:
            other = "real" if self._spec.simulate else "simulated"
            front_end.say(
                f"{self._ledger.path} holds {ignored} {other} results; they do not count here"
            )
        return left

    async def _until_stopped(self, front_end: FrontEnd) -> None:
        # Imported here: a job whose results are all there needs neither NATS nor a stack.
        from agentflow.job.placement import Placements

        work = self._move(Placements(self._spec, front_end.say), front_end)
        self._work = asyncio.get_running_loop().create_task(work, name="job")
        try:
            await self._work
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise

    async def _move(self, placements: Placements, front_end: FrontEnd) -> None:
        """Run at one placement after another; somebody else's stack may end before the job."""
        while True:
            placement = self._placement = await placements.find()
            try:
                moved = await self._run_at(placement, placements.window(placement), front_end)
            except StoreBusy:
                if not placement.taken():
                    raise
                continue  # another job was quicker: its stack will do
            except BusError:
                if not placement.ended():
                    raise
                moved = True
            if not moved or self._stopping.is_set():
                return
            front_end.say("the stack that this job used has ended; looking for another")

    async def _run_at(self, placement: Placement, window: int, front_end: FrontEnd) -> bool:
        """Whether the placement ended before the job did."""
        from agentflow.client import Client
        from agentflow.job.driver import Driver

        async with placement.opened() as connect, Client(connect) as client:
            front_end.begin()
            driver = self._driver = Driver(
                client,
                self._left,
                self._ledger,
                self.tally,
                front_end,
                self._spec,
                window=window,
                own_workers=placement.stack is not None,
            )
            try:
                return await self._drive(driver, placement, front_end)
            finally:
                self._limit_reached = driver.limit_reached
                self._left = driver.left
                self._driver = None
                front_end.end()

    async def _drive(self, driver: Driver, placement: Placement, front_end: FrontEnd) -> bool:
        working = asyncio.ensure_future(driver.run())
        stopping = asyncio.ensure_future(self._stopping.wait())
        ended = asyncio.ensure_future(placement.wait_ended())
        watched: set[asyncio.Future[Any]] = {working, stopping, ended}
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        try:
            for future in watched:
                if future.done():
                    future.result()
            if self._stopping.is_set() and not working.done():
                await _finish(driver, placement, front_end)
            return ended.done() and not working.done()
        finally:
            driver.abandon()
            for future in watched:
                future.cancel()
            await asyncio.gather(*watched, return_exceptions=True)


async def _finish(driver: Driver, placement: Placement, front_end: FrontEnd) -> None:
    """Let the workers end in order while results still come in."""
    from agentflow.job.placement import FINISH_WITHIN

    driver.stop_submitting()
    if placement.stack is None:
        front_end.stopping(None)
        return
    front_end.stopping(FINISH_WITHIN)
    await placement.stack.stop_workers()
