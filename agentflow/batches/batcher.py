"""The batcher of a worker: it goes from place to place, and does what the table says is next.

    open     build it and send it (create.py)
    sent     find out what became of it, unless it is this process's own (adopt.py)
    made     look now and then whether it has ended, then write its results (settle.py)

One create and one batch's results at a time in a process: a body is 200 MB of disk, and results are
some MB of memory. Whoever has the lease of a place bothers with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import msgspec

from agentflow.batches import adopt, closing, money
from agentflow.batches.create import Create
from agentflow.batches.entries import NotYet
from agentflow.batches.gather import Gathering
from agentflow.batches.pace import Pace
from agentflow.batches.place import Place, Settled
from agentflow.batches.settle import Collect, anybody_waits, give_up_all
from agentflow.bus.streams.bucket import Board
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.lease import Lease
from agentflow.errors import AgentFlowError, BusError
from agentflow.handlers.batching import Batch, Batched, Gone
from agentflow.log.task import TaskLog
from agentflow.protocol import batches
from agentflow.protocol.batches import Progress, Row, RowState
from agentflow.protocol.record import Record
from agentflow.rules.records import Spent

_log = logging.getLogger(__name__)

STOP_WITHIN: Final = 20.0
"""Seconds in which a create under way may still be answered when the worker stops."""
AUDIT_EVERY: Final = 10
"""Polls between two looks for creates that were given up and are done."""


class Work:
    """What a process does at most one of at a time."""

    def __init__(self) -> None:
        self.create = asyncio.Semaphore(1)
        self.collect = asyncio.Semaphore(1)


class Station:
    """A place, and what this batcher does there."""

    def __init__(self, place: Place, lease: Lease, work: Work) -> None:
        self.place = place
        self.lease = lease
        self._work = work
        self._gathering = Gathering(place)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._polled = -1e9
        self._polls = 0
        self.known: dict[str, Batch] = {}

    async def keep(self) -> None:
        """Turn by turn; runs until cancelled."""
        place = self.place
        while True:
            try:
                await self.lease.turn()
                if self.lease.held:
                    await self.turn()
            except AgentFlowError as error:
                _log.info("batches of %s: %s", place.key, error)
            except msgspec.DecodeError as error:
                _log.error("the table %s cannot be read, and is left alone: %s", place.key, error)
            await asyncio.sleep(place.pace.look)

    async def turn(self) -> None:
        """Begin what is next. Raises BusError."""
        place = self.place
        table = await place.read()
        due = time.monotonic() - self._polled >= place.pace.poll
        if due:
            self._polled = time.monotonic()
            self._polls += 1
        for row in table.rows:
            if row.nonce not in self._tasks:
                self._next(row, due)
        if table.late and due and self._polls % AUDIT_EVERY == 0:
            self._begin("audit", adopt.audit(place))
        if due and self._polls % AUDIT_EVERY == 1 and "money" not in self._tasks:
            self._begin("money", money.sweep(place))
        if await closing.paused(place) or await closing.closed(place) is not None:
            return
        for row in table.rows:
            busy = row.nonce in self._tasks or row.state is not RowState.OPEN
            if not busy and not await place.rests(row):
                self._begin(row.nonce, self._create(row))
        if await self._gathering.look(table):
            await self._gathering.reserve()

    def _next(self, row: Row, due: bool) -> None:
        match row.state:
            case RowState.SENT if due and row.nonce not in self.place.creating:
                self.place.seen_sent(row.nonce)
                self._begin(row.nonce, adopt.resolve(self.place, row))
            case RowState.MADE if due:
                self._begin(row.nonce, self._look(row))

    def _begin(self, name: str, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._bounded(name, work))
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def _bounded(self, name: str, work: Awaitable[None]) -> None:
        try:
            await work
        except NotYet as error:
            _log.info("batch %s: %s; again later", name, error)
        except AgentFlowError as error:
            _log.warning("batch %s: %s; again later", name, error)
            await asyncio.sleep(self.place.pace.look)
        except Exception:
            _log.exception("batch %s: a step failed, and is done again", name)
            await asyncio.sleep(5 * self.place.pace.look)

    async def _create(self, row: Row) -> None:
        async with self._work.create:
            if not await self._still(row):
                return
            await Create(self.place, row).run()
            self._polled = -1e9  # it may have ended already

    async def _still(self, row: Row) -> bool:
        """Whether the row is still as it was when its turn was taken."""
        now = (await self.place.read()).row(row.nonce)
        return now is not None and now.state is row.state

    async def _look(self, row: Row) -> None:
        place = self.place
        try:
            batch = await place.api.get(row.id)
        except Gone:
            await self._missing(row)
            return
        place.missing_for(row.id, there=True)
        self.known[row.nonce] = batch
        if not batch.ended:
            if batch.status == "in_progress" and await self._unwanted(row):
                await place.api.cancel(row.id)
            return
        async with self._work.collect:
            if await self._still(row):
                await Collect(place, row, batch).run()
        self.known.pop(row.nonce, None)

    async def _unwanted(self, row: Row) -> bool:
        """Whether a batch is to be cancelled: a person says so, or nobody waits for it."""
        if row.cancel:
            return True
        return self._polls % AUDIT_EVERY == 0 and not await anybody_waits(self.place, row)

    async def _missing(self, row: Row) -> None:
        """A batch that is not found may be found a minute later; after a day it is deleted."""
        place = self.place
        listing = await place.api.listed(row.since)
        there = any(batch.id == row.id for batch in listing.batches)
        if place.missing_for(row.id, there=there) < place.pace.gone or there:
            return
        text = (
            f"its batch {row.id} is deleted; it may be paid, so it is not asked again: retry it if"
            " that is what you want"
        )
        await give_up_all(place, row, "batch_gone", text)

    def progress(self) -> list[Progress]:
        """The batches here, for heartbeats."""
        return [self._shown(row) for row in self.place.table.rows] if self.lease.held else []

    def _shown(self, row: Row) -> Progress:
        batch = self.known.get(row.nonce)
        done = self.place.settled.get(row.nonce, Settled())
        return Progress(
            pool=self.place.pool,
            queue=self.place.queue,
            nonce=row.nonce,
            state=row.state,
            count=row.count,
            id=row.id,
            status=batch.status if batch else "",
            made=batch.created if batch else None,
            expires=batch.expires if batch else None,
            settled=done.count,
            cost_micro=done.cost_micro,
            saved_micro=done.saved_micro,
        )

    async def stop(self) -> None:
        """Let a create under way be answered, then end what goes on."""
        creates = [task for name, task in self._tasks.items() if name in self.place.creating]
        if creates:
            await asyncio.wait(creates, timeout=STOP_WITHIN)
        for task in list(self._tasks.values()):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=5.0)
        await self.lease.release()


class Batcher:
    """All places of a worker's credential."""

    def __init__(
        self,
        js: JetStream,
        log: TaskLog,
        board: Board,
        handler: Batched,
        queues: Collection[str],
        pace: Pace,
        *,
        ended: Callable[[Record, Spent | None], None],
        reply: Callable[..., None] = lambda subject, last: None,
    ) -> None:
        self._js = js
        self._log = log
        self._board = board
        self._handler = handler
        self._queues = queues
        self._pace = pace
        self._ended = ended
        self._reply = reply
        self._work = Work()
        self._stations: dict[str, Station] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def keep(self) -> None:
        """Look after every place there is; runs until cancelled."""
        while True:
            for queue in self._places():
                if queue not in self._stations:
                    self._open(queue)
            await asyncio.sleep(self._pace.look)

    def _places(self) -> set[str]:
        """Queues whose tasks may wait for this credential's batches."""
        known = {
            place[1]
            for name, _ in self._board.items(batches.KEYS)
            if (place := batches.parse_key(name)) is not None and place[0] == self._handler.pool
        }
        return known | set(self._queues)

    def _open(self, queue: str) -> None:
        place = Place(self._js, self._log, self._handler, queue, self._pace, ended=self._ended)
        place.reply = self._reply
        lease = Lease(self._js, self._log.actor, batches.lease_key(place.pool, queue))
        station = self._stations[queue] = Station(place, lease, self._work)
        self._running[queue] = asyncio.get_running_loop().create_task(
            station.keep(), name=f"batches {queue}"
        )

    def progress(self) -> list[Progress]:
        """The batches this worker looks after."""
        return [shown for station in self._stations.values() for shown in station.progress()]

    def figures(self) -> tuple[int, int, int]:
        """Batches under way here, those of unknown outcome among them, and those paid twice."""
        tables = [s.place.table for s in self._stations.values() if s.lease.held]
        rows = [row for table in tables for row in table.rows]
        unknown = sum(row.state is RowState.SENT for row in rows)
        return len(rows), unknown, sum(len(table.twice) for table in tables)

    async def stop(self) -> None:
        """End, leaving to another what goes on."""
        for task in self._running.values():
            task.cancel()
        stations = list(self._stations.values())
        with contextlib.suppress(BusError, TimeoutError):
            await asyncio.gather(*(station.stop() for station in stations))
