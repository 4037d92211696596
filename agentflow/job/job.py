"""Run a job to its end: at one placement after another, until all is done or it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from agentflow.errors import BusError, StoreBusy
from agentflow.handlers import price_file
from agentflow.job import outputs, ownership, served
from agentflow.job.ledger import Ledger, Printed, Results
from agentflow.job.source import Item
from agentflow.job.spec import Ending, FrontEnd, Held, JobSpec, Tasks
from agentflow.job.tally import Tally
from agentflow.protocol.record import State
from agentflow.rules.routes import budgets
from agentflow.rules.routes.budgets import Budget
from agentflow.rules.routes.models import family
from agentflow.views.ledger import Line

if TYPE_CHECKING:
    from agentflow.client import Client
    from agentflow.job.driver import Driver
    from agentflow.job.placement import Placement, Placements

TURN: Final = 200
"""Lines that are looked at in one go while a connection is open: 10 ms."""


class Job:
    """All tasks of an input, and the file of their results. Runs once."""

    def __init__(self, spec: JobSpec, items: Tasks) -> None:
        self.total = len(items) if spec.only is None else _count(spec.only, len(items))
        self.tally = Tally(self.total, simulated=spec.simulate, prices=price_file.load())
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
        self._withdrawn = False
        self.held: Held | None = None
        """Why it gave up."""
        self.budget: Budget | None = None
        """What was spent and held of the limit, as it was last seen."""

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
        if self.tally.done >= self.total:
            return Ending.DONE  # whatever was asked for meanwhile
        if self.held is not None and not self._stopping.is_set():
            return Ending.GAVE_UP
        if self._stopping.is_set() or self._withdrawn:
            return Ending.INTERRUPTED
        return Ending.COST_LIMIT if self._limit_reached else Ending.DONE

    def stop(self) -> None:
        """Submit no more and let running tasks end; a second time, without waiting for them."""
        if self._stopping.is_set():
            if self._placement and self._placement.stack:
                self._placement.stack.hurry()
            if self._driver is not None:
                self._driver.hurried = True
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
        return (item for item in self._looked_at() if item is not None)

    def _looked_at(self) -> Iterator[Item | None]:
        """The tasks chosen, with None for each line that is not, up to the last one chosen."""
        only, items = self._spec.only, iter(self._items)
        if isinstance(only, range):
            items = islice(items, only.stop)
        return (item if only is None or at in only else None for at, item in enumerate(items))

    def _left(self) -> Iterator[Item | None]:
        """The tasks to run; now and then None, where others on the loop should have their turn."""
        for at, item in enumerate(self._looked_at()):
            if at % TURN == 0:
                yield None
            if item is None or self._settled(item):
                continue
            line = self._ledger.get(item.id)
            if line is None:
                yield item
            else:  # what has failed is retried, an answer that is none is another task
                take = line.take + (line.state == State.SUCCEEDED)
                yield msgspec.structs.replace(item, take=take)

    def _settled(self, item: Item) -> bool:
        spec = self._spec
        return self._ledger.settled(item.id, retry_failed=spec.retry_failed, again=spec.again)

    def _survey(self, front_end: FrontEnd) -> None:
        """Count what has its result. Raises UsageError where the file is not of this job alone."""
        if self._ledger.ids():
            ownership.check(self._ledger, self._items, self._spec)
            for item in self._chosen():
                if self._settled(item):
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
        if self._ending not in (Ending.INTERRUPTED, Ending.GAVE_UP):
            self._ledger.compact(self._items, others=self._spec.append)
        if self._spec.table is not None and any(True for _ in self._ledger.ids()):
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
        from agentflow.job.costlimit import CostLimit
        from agentflow.job.driver import Driver
        from agentflow.job.stay import Stay

        alone = placement.own or (placement.stack is not None and not self._spec.connect.urls)
        if alone:
            served.check(getattr(self._items, "kinds", {}), self._spec.served)
        async with placement.opened() as connect, Client(connect) as client:
            front_end.begin()
            scope = f"{budgets.JOB}{self._spec.id}"
            limit = CostLimit(client, scope, self._spec.max_cost_micro)
            driver = self._driver = Driver(
                client,
                self._left(),
                self._ledger,
                self.tally,
                front_end,
                self._spec,
                limit=limit,
                window=window,
                queue=placement.queue,
                own_workers=placement.stack is not None,
            )
            stay = Stay(
                client,
                self._spec,
                placement,
                driver,
                self._ledger,
                self.tally,
                front_end,
                self._stopping,
                families=self._families(),
            )
            try:
                if not alone:
                    await self._refuse_unserved(client, placement.queue)
                await self._refuse_reused(client)
                return await stay.run()
            finally:
                self.held = stay.held
                self._limit_reached = driver.limit_reached
                self._withdrawn = driver.withdrawn > 0
                self.budget = limit.budget
                self.tally.unknown_micro = self.budget.unknown if self.budget else 0
                self._driver = None
                front_end.end()

    def _families(self) -> frozenset[str]:
        """Families of the models that are asked, as far as the input says."""
        from agentflow.handlers.claude.request import DEFAULT_MODEL

        models: Iterable[str | None] = getattr(self._items, "models", ())
        return frozenset(family(model or DEFAULT_MODEL) for model in models)

    async def _refuse_unserved(self, client: Client, queue: str) -> None:
        """Raise UsageError for a kind that no worker there runs; each line of it would wait."""
        kinds: dict[str, int] = getattr(self._items, "kinds", {})
        there = await served.elsewhere(client, queue, kinds)
        if there is not None:
            served.check(kinds, there | (self._spec.served if self._spec.workers else frozenset()))

    async def _refuse_reused(self, client: Client) -> None:
        """Raise InvalidInput for lines whose id is that of another request."""
        from agentflow.job import reuse

        if getattr(self._items, "named", True):
            name = getattr(self._items, "name", "the input")
            retry = self._spec.retry_failed
            await reuse.check(client, self._left(), name=name, retry_failed=retry)


def _count(only: Container[int], total: int) -> int:
    return sum(at in only for at in range(total))
