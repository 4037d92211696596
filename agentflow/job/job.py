"""Run a job to its end: at one placement after another, until all is done or it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterator
from typing import TYPE_CHECKING, Any, Final

from agentflow.errors import BusError, StoreBusy
from agentflow.job import outputs, ownership, served
from agentflow.job.ledger import Ledger, Printed, Results
from agentflow.job.source import Item
from agentflow.job.spec import Ending, FrontEnd, JobSpec, Tasks
from agentflow.job.tally import Tally
from agentflow.views.ledger import Line

if TYPE_CHECKING:
    from agentflow.client import Client
    from agentflow.job.driver import Driver
    from agentflow.job.placement import Placement, Placements


RESULTS_EVERY: Final = 0.5
"""Seconds between two looks at the file of results."""


class Job:
    """All tasks of an input, and the file of their results. Runs once."""

    def __init__(self, spec: JobSpec, items: Tasks) -> None:
        self.total = len(items) if spec.only is None else _count(spec.only, len(items))
        self.tally = Tally(self.total, simulated=spec.simulate)
        self._spec = spec
        self._items = items
        self._ledger: Results = (
            Printed() if spec.results is None else Ledger(spec.results, simulate=spec.simulate)
        )
        self._stopping = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._placement: Placement | None = None
        self._driver: Driver | None = None
        self._limit_reached = False

    async def run(self, front_end: FrontEnd) -> Ending:
        """Why it ended. Raises UsageError, StackError, BusError, ResultsLost."""
        self._ledger.open()
        try:
            self._survey(front_end)
            if self.tally.done < self.total:
                await self._until_stopped(front_end)
            self._finish_results()
        finally:
            self.tally.finish()
            self._ledger.close()
        return self._ending

    @property
    def _ending(self) -> Ending:
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

    def results(self) -> Iterator[Line]:
        """The results of the tasks chosen, in input order; while it runs or where none are kept,
        none."""
        for item in self._chosen():
            if (line := self._ledger.get(item.id)) is not None:
                yield line

    def _chosen(self) -> Iterator[Item]:
        only = self._spec.only
        return (item for at, item in enumerate(self._items) if only is None or at in only)

    def _left(self) -> Iterator[Item]:
        """The tasks to run."""
        retry = self._spec.retry_failed
        return (
            item for item in self._chosen() if not self._ledger.settled(item.id, retry_failed=retry)
        )

    def _survey(self, front_end: FrontEnd) -> None:
        """Count what has its result. Raises UsageError where the file is not of this job alone."""
        if self._ledger.ids():
            ownership.check(self._ledger, self._items, self._spec)
            for item in self._chosen():
                if self._ledger.settled(item.id, retry_failed=self._spec.retry_failed):
                    line = self._ledger.get(item.id)
                    assert line is not None
                    self.tally.add(line, before=True)
        else:
            # One that goes on may have tasks whose time has passed; they fail, and the rest is run.
            self._items.refuse_overdue()
        if ignored := self._ledger.ignored:
            front_end.say(
                f"{self._spec.results} holds {ignored} simulated results; they do not count here "
                "and are dropped when the job is done"
            )

    def _finish_results(self) -> None:
        if self._ending is not Ending.INTERRUPTED:
            self._ledger.compact(self._items, others=self._spec.append)
        if self._spec.table is not None:
            outputs.write(self._spec.table, self.results)

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

        alone = placement.stack is not None and not self._spec.connect.urls
        if alone:
            served.check(getattr(self._items, "kinds", {}), self._spec.served)
        async with placement.opened() as connect, Client(connect) as client:
            front_end.begin()
            driver = self._driver = Driver(
                client,
                self._left(),
                self._ledger,
                self.tally,
                front_end,
                self._spec,
                window=window,
                own_workers=placement.stack is not None,
            )
            try:
                if not alone:
                    await self._refuse_unserved(client)
                await self._refuse_reused(client)
                return await self._drive(driver, placement, front_end)
            finally:
                self._limit_reached = driver.limit_reached
                self._driver = None
                front_end.end()

    async def _refuse_unserved(self, client: Client) -> None:
        """Raise UsageError for a kind that no worker there runs; each line of it would wait."""
        kinds: dict[str, int] = getattr(self._items, "kinds", {})
        there = await served.elsewhere(client, self._spec.queue, kinds)
        if there is not None:
            served.check(kinds, there | (self._spec.served if self._spec.workers else frozenset()))

    async def _refuse_reused(self, client: Client) -> None:
        """Raise InvalidInput for lines whose id is that of another request."""
        from agentflow.job import reuse

        if getattr(self._items, "named", True):
            name = getattr(self._items, "name", "the input")
            retry = self._spec.retry_failed
            await reuse.check(client, self._left(), name=name, retry_failed=retry)

    async def _drive(self, driver: Driver, placement: Placement, front_end: FrontEnd) -> bool:
        working = asyncio.ensure_future(driver.run())
        stopping = asyncio.ensure_future(self._stopping.wait())
        ended = asyncio.ensure_future(placement.wait_ended())
        taken = asyncio.ensure_future(self._watch_results())
        watched: set[asyncio.Future[Any]] = {working, stopping, ended, taken}
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

    async def _watch_results(self) -> None:
        """Raise ResultsLost as soon as the results would go nowhere."""
        while True:
            await asyncio.sleep(RESULTS_EVERY)
            self._ledger.check()


def _count(only: Container[int], total: int) -> int:
    return sum(at in only for at in range(total))


async def _finish(driver: Driver, placement: Placement, front_end: FrontEnd) -> None:
    """Let the workers end in order while results still come in."""
    from agentflow.job.placement import FINISH_WITHIN

    driver.stop_submitting()
    if placement.stack is None:
        front_end.stopping(None)
        return
    front_end.stopping(FINISH_WITHIN)
    await placement.stack.stop_workers()
