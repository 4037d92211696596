"""The master: it provisions, keeps the index, answers, notices lost workers, and sweeps.

Tasks flow without it. What it knows it learned from the streams and forgets when it ends; several
may run, and all of them answer.

    records, tasks    two followers (bus/streams/follower.py); messages become rows (views/row.py)
    index             rows and sums (index.py)
    presence          heartbeats (presence.py)
    api, submissions  the service `agentflow` (api.py, submit.py)
    lease, sweep      one of several masters ends what is lost (lease.py, sweep.py), and removes
                      what was acknowledged and is still there (leftovers.py), and payloads that no
                      task wants any more (payloads.py)
    consumers         made for queues that hold tasks and were never served (consumers.py)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agentflow.actor import Actor
from agentflow.bus.streams import provision
from agentflow.bus.streams.bucket import Board
from agentflow.bus.streams.follower import Follower, Source
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.lease import Lease
from agentflow.bus.streams.pages import stored_ns, subject_of
from agentflow.bus.streams.provision import Difference
from agentflow.bus.streams.rows import in_slices, take_tasks
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.bus.wire.monitoring import sync_of
from agentflow.bus.wire.patience import connect_patiently
from agentflow.bus.wire.service import Service
from agentflow.config import Connect
from agentflow.errors import AgentFlowError, BusError, NoStream
from agentflow.log.task import TaskLog
from agentflow.master import index as indexes
from agentflow.master.api import Api
from agentflow.master.consumers import QueueConsumers
from agentflow.master.index import Index
from agentflow.master.leftovers import Leftovers
from agentflow.master.payloads import PayloadSweep
from agentflow.master.presence import Presence
from agentflow.master.queues import Queues
from agentflow.master.submit import Submissions
from agentflow.master.sweep import USUAL, Sweep, SweepRate
from agentflow.master.vanished import Vanished
from agentflow.protocol import limits, subjects
from agentflow.protocol.control import Control, Drain
from agentflow.protocol.record import Last
from agentflow.rules.durability import weaker
from agentflow.telemetry import logs, tracing
from agentflow.version import __version__
from agentflow.views.row import from_record, row_of_record

if TYPE_CHECKING:
    from agentflow.telemetry.metrics import MasterMetrics

_log = logging.getLogger(__name__)

RECORDS: Final = Source(stream=subjects.RECORDS, live=subjects.LIVE_RECORDS, gather=0.1, most=400)
TASKS: Final = Source(
    stream=subjects.TASKS, live=(subjects.LIVE_TASKS,), gather=1.0, most=8_192, queue=True
)
"""Live copies of tasks are small and say all that the stream would tell in megabytes."""
PROVISION_EVERY: Final = 15.0
TIDY_EVERY: Final = 5.0
RETRY: Final = 1.0


class Master:
    """A master on a connection. `start`, then `run` until told to stop."""

    def __init__(
        self,
        connection: Connection,
        *,
        name: str | None = None,
        retention: float = limits.RETENTION,
        index_limit: int = indexes.LIMIT,
        lost_after: float = limits.LOST_AFTER,
        rate: SweepRate = USUAL,
        durable: bool = False,
        monitor: str | None = None,
    ) -> None:
        self._js = JetStream(connection)
        self._connection = connection
        self._retention = retention
        self._durability = (durable, monitor)
        self._weaker = ""
        self.actor = Actor(
            connection, role="master", name=name, describe=self._describe, receive=self._receive
        )
        self.log = TaskLog(self._js, self.actor.name)
        self.index = Index(limit=index_limit)
        self.records = Follower(self._js, RECORDS, take=self._take_records, reset=self._forget_all)
        self.tasks = Follower(
            self._js, TASKS, take=self._take_tasks, reset=self.index.forget_unseen
        )
        self.presence = Presence(connection, lost_after=lost_after)
        self.lease = Lease(self._js, self.actor.name)
        self.sweep = Sweep(
            self._js,
            self.log,
            index=self.index,
            presence=self.presence,
            lease=self.lease,
            corrected=self._corrected,
            rate=rate,
        )
        self.leftovers = Leftovers(self._js, self.log, self.lease)
        self.payloads = PayloadSweep(
            self._js, self.log, self.lease, self.index, retention=retention
        )
        self._queues = Queues(self._js)
        self.consumers = QueueConsumers(self._js, self._queues, self.lease)
        self._board = Board(self._js)
        self._submissions = Submissions(self._js, self.log)
        self._vanished = Vanished(self._js, self.index, self.tasks)
        self._api = Api(
            self._js,
            self.log,
            index=self.index,
            presence=self.presence,
            queues=self._queues,
            submissions=self._submissions,
            fresh=self.tasks.fresh,
            board=self._board,
            status=self._status,
        )
        self._service = Service(
            connection,
            name="agentflow",
            version=__version__,
            description="AgentFlow: run, submit, get and list tasks; workers and stats",
            endpoints=self._api.endpoints(),
        )
        self._differences: list[Difference] = []
        self._provision_now = asyncio.Event()
        self._began = 0.0
        self.rebuilt_in: float | None = None
        """Seconds from the start until the index knew everything."""

    async def start(self) -> None:
        """Provision, listen, answer. Raises BusError, TimeoutError when JetStream is not there."""
        self._began = time.monotonic()
        await provision.wait_ready(self._js)
        await self._provide()
        self._connection.on_connect(self._provision_now.set)
        await self.records.start()
        await self.tasks.start()
        await self.presence.start()
        try:
            await self._board.start()
        except NoStream:  # who may not create the bucket waits for it
            self.actor.background("bucket", self._board.read_again)
        await self.actor.start()
        for name, work in (
            ("provisioning", self._keep_provided),
            ("records", self._follow_records),
            ("tasks", self._follow_tasks),
            ("rebuilding", self._rebuilt),
            ("presence", self.presence.watch),
            ("tidying", self._tidy),
            ("lease", self.lease.keep),
            ("board", self._board.watch),
            ("sweep", self.sweep.run),
            ("leftovers", self.leftovers.run),
            ("consumers", self.consumers.keep),
            ("payloads", self.payloads.run),
        ):
            self.actor.background(name, work)
        self.actor.on_stop("requests", self._submissions.stop)
        self.actor.on_stop("service", self._service.stop)
        self.actor.on_stop("lease", self.lease.release)
        await self._service.start()
        # Nobody is told that we are ready before the server knows of every interest. It answers in
        # order; nats-py's own flush may overtake what is still to be written.
        await provision.wait_ready(self._js)

    async def run(self) -> None:
        """Serve until told to stop, then stop in order."""
        # Whoever reads that it is ready may tell it to stop: a signal before is its end.
        self.actor.heed_signals()
        shown = self._connection.options.shown
        _log.info("master %s is ready at %s", self.actor.name, shown, extra={"action": "ready"})
        await self.actor.run()

    async def close(self) -> None:
        """Stop in order."""
        await self.actor.close()

    @property
    def ready(self) -> bool:
        """Whether the index knows everything that the streams had when it began."""
        return self.records.caught_up.is_set() and self.tasks.caught_up.is_set()

    def metrics(self) -> MasterMetrics:
        """What Prometheus may ask."""
        from agentflow.master.measured import measured

        return measured(
            self._js,
            self.actor,
            lease=self.lease,
            presence=self.presence,
            queues=self._queues,
        )

    # Provisioning.

    async def _provide(self) -> None:
        differences = await provision.ensure_streams(self._js, retention=self._retention)
        for difference in differences:
            if difference not in self._differences:
                _log.warning("%s: %s", difference.name, difference.text)
        self._differences = differences
        durable, monitor = self._durability
        text = weaker(await sync_of(self._connection, monitor), durable=durable)
        if text and text != self._weaker:
            _log.warning("%s", text)
        self._weaker = text

    async def _keep_provided(self) -> None:
        """Look now and then, and after a reconnection: an administrator may delete a stream."""
        while True:
            try:
                async with asyncio.timeout(PROVISION_EVERY):
                    await self._provision_now.wait()
            except TimeoutError:
                pass
            self._provision_now.clear()
            try:
                await provision.wait_ready(self._js)
                await self._provide()
            except (BusError, TimeoutError) as error:
                _log.info("the streams could not be checked: %s", error)
                await asyncio.sleep(RETRY)
                self._provision_now.set()

    # The index.

    async def _follow_records(self) -> None:
        await self._follow(self.records)

    async def _follow_tasks(self) -> None:
        await self._follow(self.tasks)

    async def _follow(self, follower: Follower) -> None:
        while True:
            try:
                await follower.run()
            except BusError as error:
                _log.info("reading the streams: %s; trying again", error)
                follower.check()
                await asyncio.sleep(RETRY)

    async def _rebuilt(self) -> None:
        await self.records.caught_up.wait()
        await self.tasks.caught_up.wait()
        self.rebuilt_in = time.monotonic() - self._began
        _log.info("%s tasks are known after %.1f s", f"{len(self.index):,}", self.rebuilt_in)

    async def _take_records(self, entries: Sequence[tuple[int, Message]], whole: bool) -> int:
        newest: dict[str, tuple[int, Message]] = {}
        for sequence, message in entries:
            # Of several records of one log the last makes the row; most short tasks have two.
            newest[subject_of(message).split(".", 2)[2]] = (sequence, message)
        async for part in in_slices(list(newest.values())):
            self.index.put(
                from_record(
                    subject_of(message), sequence, stored_ns(message) // 1_000_000, message.data
                )
                for sequence, message in part
            )
        return 0

    async def _take_tasks(self, entries: Sequence[tuple[int, Message]], whole: bool) -> int:
        return await take_tasks(entries, whole, self.index.put)

    def _corrected(self, last: Last) -> None:
        """What was read from the leader is newer than the row."""
        if last.record is not None:
            self.index.put([row_of_record(last.record, last.sequence)])

    def _forget_all(self) -> None:
        self.index.clear()
        self.tasks.restart()

    async def _tidy(self) -> None:
        """Keep the index within its bounds."""
        while True:
            await asyncio.sleep(TIDY_EVERY)
            await _in_turns(self.index.evict)
            if self.records.max_age:
                before = round((self.log.now().timestamp() - self.records.max_age) * 1000)
                await _in_turns(partial(self.index.expire, before))
            if self.ready and self._connection.connected.is_set():
                await self._vanished.look()

    # What is said about it.

    def _notes(self) -> list[str]:
        notes = [f"{difference.name}: {difference.text}" for difference in self._differences]
        return [*notes, self._weaker] if self._weaker else notes

    def _status(self) -> dict[str, Any]:
        return {
            "notes": self._notes(),
            "ready": self.ready,
            "master": self.actor.name,
            "since": self.actor.started,
        }

    def _describe(self) -> dict[str, Any]:
        return {"notes": self._notes(), "failed": self.sweep.lost}

    def _receive(self, message: Control) -> None:
        match message:
            case Drain():
                self.actor.stop()


async def _in_turns(step: Callable[[], int]) -> None:
    """Repeat until nothing is left, with a turn of the event loop between."""
    while True:
        if not step():
            return
        await asyncio.sleep(0)


async def serve(
    options: Connect,
    *,
    name: str | None = None,
    retention: float = limits.RETENTION,
    wait: float = 10.0,
    durable: bool = False,
    monitor: str | None = None,
    metrics: tuple[str, int] | None = None,
) -> None:
    """Run a master until SIGTERM or SIGINT; `metrics` is where Prometheus may ask.

    It warns where the server (`monitor` is its monitoring port) is less `durable` than asked.

    Raises AgentFlowError when it cannot start.
    """
    async with (
        await connect_patiently(options, "agentflow master", wait) as connection,
        contextlib.AsyncExitStack() as stack,
    ):
        tracing.begin("master", f"{connection.name}-{os.getpid()}")
        stack.callback(tracing.end)
        master = Master(
            connection, name=name, retention=retention, durable=durable, monitor=monitor
        )
        logs.set_actor(master.actor.name)
        if metrics is not None:
            # The library behind it costs memory and start-up time that others do without.
            from agentflow.telemetry.metrics import served

            await stack.enter_async_context(served(master.metrics(), metrics))
        if tracing.wanted("metrics") and tracing.installed():
            from agentflow.telemetry.otlp import pushed

            who = tracing.resource("master", master.actor.name)
            await stack.enter_async_context(pushed(master.metrics(), who))
        try:
            await master.start()
        except TimeoutError:
            raise BusError(
                f"JetStream does not answer at {options.shown}; `agentflow doctor` says why"
            ) from None
        except AgentFlowError:
            await master.close()
            raise
        await master.run()
