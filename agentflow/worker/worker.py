"""The worker actor: pulls for free slots, holds what it took, stops in order.

Stopping: pull no more; hand back what waits; wait for what runs, up to the grace period (a second
signal ends the wait); hand back what still runs; then the heartbeat says goodbye.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from agentflow.actor import Actor
from agentflow.bus.streams import provision
from agentflow.bus.streams.bucket import Board
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.puller import Puller
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Delivered
from agentflow.errors import (
    AgentFlowError,
    BusError,
    NotFound,
    PermissionDenied,
    Superseded,
)
from agentflow.handlers.contract import Handler, Noted, Pooled
from agentflow.log.task import TaskLog
from agentflow.protocol import subjects
from agentflow.protocol.control import (
    Cancel,
    Control,
    Drain,
    Holds,
    RunningTask,
)
from agentflow.protocol.control import (
    Held as HeldAnswer,
)
from agentflow.protocol.subjects import Priority
from agentflow.worker.attempt import Attempts
from agentflow.worker.gates import Gates
from agentflow.worker.held import Ending, Held, Holding
from agentflow.worker.intake import Intake
from agentflow.worker.lag import Lag, working_on
from agentflow.worker.observer import Observer

_log = logging.getLogger(__name__)

GRACE: Final = 30.0
STREAMS_WITHIN: Final = 20.0
"""Seconds in which a master that starts at the same time has made the streams."""
STREAMS_EVERY: Final = 0.5
CONSUMERS_EVERY: Final = 30.0
LISTED_TASKS: Final = 200
RETRY_DELAY: Final = 1.0
RETRY_DELAY_MAX: Final = 30.0
HAND_BACK: Final = 5.0
"""Seconds for writing the records of what is handed back."""


class Worker:
    """Runs the tasks of some queues with some handlers, `slots` at once."""

    def __init__(
        self,
        connection: Connection,
        handlers: dict[str, Handler],
        *,
        queues: Sequence[str] = ("default",),
        slots: int = 10,
        lease: float | None = None,
        name: str | None = None,
        grace: float = GRACE,
        simulated: bool = False,
        unknown_kind_for: float = 0.0,
    ) -> None:
        self._js = JetStream(connection)
        self._connection = connection
        self._queues = [subjects.check_queue(queue) for queue in queues]
        self._slots = slots
        self._lease = lease
        self._grace = grace
        self._simulated = simulated
        self._kinds = sorted(handlers)
        self.actor = Actor(
            connection, role="worker", name=name, describe=self._describe, receive=self._receive
        )
        self._log = TaskLog(self._js, self.actor.name)
        self._holding = Holding(connection)
        self._lag = Lag()
        self._gates = Gates(Board(self._js), actor=self.actor.name, slots=slots, now=self._log.now)
        known: list[object] = list(handlers.values())
        self._pooled = [handler for handler in known if isinstance(handler, Pooled)]
        self._noted = [handler for handler in known if isinstance(handler, Noted)]
        self._attempts = Attempts(connection, self._log, self._holding, self._gates)
        self._intake = Intake(
            connection,
            self._log,
            self._holding,
            self._attempts,
            handlers,
            self._gates,
            unknown_kind_for=unknown_kind_for,
        )
        self._queue_of = {
            subjects.consumer(queue, priority): queue
            for queue in self._queues
            for priority in Priority
        }
        self._puller = Puller(
            connection,
            subjects.TASKS,
            [
                [subjects.consumer(queue, priority) for queue in self._queues]
                for priority in Priority
            ],
            slots=slots,
            free=self._free,
            deliver=self._deliver,
            ensure=self._ensure,
            allowed=lambda consumer: self._gates.may_pull(self._queue_of[consumer]),
        )
        self._gates.on_open = self._puller.refill
        self._consumer_notes: list[str] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self.stuck = 0
        """Handlers that did not end when the worker did; their process cannot exit by itself."""

    async def start(self) -> None:
        """Make sure of streams and consumers, say hello, begin to pull. Raises BusError."""
        try:
            await provision.wait_ready(self._js)
        except TimeoutError:
            raise BusError(
                f"the NATS server at {self._connection.options.shown} answers, but its JetStream "
                "does not; start it with -js, or look into its log"
            ) from None
        await self._find_streams()
        await self._ensure()
        self._lease = None  # from here on the consumers say how long it is
        await self._js.stream_info(subjects.TASKS)
        self._connection.on_connect(self._reconnected)
        await self._gates.start()
        await self.actor.start()
        self.actor.background("lag", self._lag.measure)
        self.actor.background("renewals", self._holding.renew)
        self.actor.background("watchdog", self._puller.watch)
        self.actor.background("consumers", self._keep_consumers)
        self.actor.background("bucket", self._gates.watch)
        self.actor.on_stop("pulling", self._puller.stop)
        self.actor.on_stop("tasks", self._settle)
        if not self.actor.stopping.is_set():  # told so while it started
            await self._puller.start()

    async def _find_streams(self) -> None:
        """Create what is missing, or wait until somebody does who may. Raises BusError."""
        found = await provision.ensure_streams(self._js)
        for difference in found:
            _log.warning("%s: %s", difference.name, difference.text)
        end = asyncio.get_running_loop().time() + STREAMS_WITHIN
        missing = [difference for difference in found if difference.missing]
        sentences = [f"{difference.name} {difference.text}" for difference in missing]
        while missing and not self.actor.stopping.is_set():
            if asyncio.get_running_loop().time() > end:
                raise BusError(sentences[0])
            # Only looked for: each try to create them would stand in the server's log.
            await asyncio.sleep(STREAMS_EVERY)
            missing = [each for each in await provision.check_streams(self._js) if each.missing]

    async def run(self) -> None:
        """Work until told to stop, then stop in order."""
        await self.actor.run()

    # Watching.

    def observe(self, observer: Observer) -> None:
        """Tell `observer` of every attempt."""
        self._attempts.observers.counting = observer

    @property
    def slots(self) -> int:
        """Tasks at once."""
        return self._slots

    @property
    def running(self) -> int:
        """Tasks that run now."""
        return sum(held.run is not None for held in self._holding)

    @property
    def gate_held(self) -> int:
        """Messages that wait at a gate."""
        return self._gates.held

    # Taking.

    def _free(self) -> int:
        return self._slots - len(self._holding)

    def _deliver(self, delivered: Delivered) -> None:
        held = self._holding.get(delivered.identity)
        if held is not None:
            # Redelivered although it is held here: from now on this delivery is renewed and acked.
            held.delivered.message.reply = delivered.message.reply
            return
        held = Held(delivered)
        self._holding.add(held)
        self._idle.clear()
        held.work = asyncio.get_running_loop().create_task(self._work(held))

    async def _work(self, held: Held) -> None:
        working_on(held)
        try:
            await self._intake.take(held)
        except Superseded as error:
            _log.info("%s", error, extra={"action": "superseded", "task_id": held.id})
        except asyncio.CancelledError:
            self._holding.give_back(held)
        except AgentFlowError as error:
            _log.warning("task %s: %s", held.id, error, extra=_facts(held))
            self._holding.give_back(held, _delay(held))
        except Exception:
            _log.exception("task %s: handling its message failed", held.id, extra=_facts(held))
            self._holding.give_back(held, _delay(held))
        finally:
            self._holding.remove(held)
            # Both lead back here; without the circle a task's memory is free at once.
            held.run = held.work = None
            if not self._holding:
                self._idle.set()
            self._puller.refill()

    # Consumers.

    async def _ensure(self) -> None:
        try:
            await self._ensure_consumers()
        except NotFound:
            await self._mend_streams()
            await self._ensure_consumers()

    async def _mend_streams(self) -> None:
        """Make again what somebody deleted while this worker ran: nobody else may be there."""
        try:
            found = await provision.check_streams(self._js)
        except PermissionDenied:
            return
        missing = [each.name for each in found if each.missing]
        if missing:
            names = ", ".join(missing)
            _log.error("%s was deleted and is made anew; what it held is lost", names)
            await provision.ensure_streams(self._js)

    async def _ensure_consumers(self) -> None:
        leases, notes = [], []
        for queue in self._queues:
            differences, lease = await provision.ensure_consumers(
                self._js, queue, lease=self._lease
            )
            leases.append(lease)
            notes += [f"{difference.name}: {difference.text}" for difference in differences]
        self._holding.lease = min(leases)
        self._consumer_notes = notes

    async def _keep_consumers(self) -> None:
        while True:
            await asyncio.sleep(CONSUMERS_EVERY)
            await self._mend_streams()
            await self._ensure()
            await self._js.stream_info(subjects.TASKS)  # the server's clock may have been set

    async def _reconnected(self) -> None:
        try:
            await provision.wait_ready(self._js)
            await self._js.stream_info(subjects.TASKS)
        except (AgentFlowError, TimeoutError) as error:
            _log.info("after reconnecting: %s", error)
        self.actor.beat()

    # Mailbox and heartbeat.

    def _receive(self, message: Control) -> Control | Awaitable[Control] | None:
        match message:
            case Holds(message=identity):
                return HeldAnswer(holds=self._holding.get(identity) is not None)
            case Cancel(id=task_id):
                return self._cancel(task_id)
            case Drain():
                self.actor.stop()
        return None

    def _cancel(self, task_id: str) -> HeldAnswer | Awaitable[HeldAnswer]:
        """Interrupt its run, now; the answer comes when what became of it is written."""
        works = []
        for held in self._holding.of(task_id):
            held.interrupt(Ending.CANCELLED)
            if held.run is not None and held.work is not None:
                works.append(held.work)
        return _when_written(works) if works else HeldAnswer(holds=False)

    def _describe(self) -> dict[str, Any]:
        running = [held for held in self._holding if held.run is not None]
        return {
            "queues": self._queues,
            "kinds": self._kinds,
            "slots": self._slots,
            "running": len(running),
            "held": len(self._holding) - len(running),
            "work": _work(running),
            "done": self._attempts.done,
            "failed": self._attempts.failed,
            "simulated": self._simulated,
            "lease_s": self._holding.lease,
            "loop_lag_ms": self._lag.worst_ms(),
            "notes": [
                *self._consumer_notes,
                *self._intake.notes(),
                *self._gates.notes(),
                *[note for handler in self._noted for note in handler.notes()],
            ],
            "pools": {
                pool: families
                for handler in self._pooled
                for pool, families in handler.pools().items()
            },
            "tasks": [_shown(held) for held in running[:LISTED_TASKS]],
        }

    # Stopping.

    async def _settle(self) -> None:
        """Hand back what has not begun, wait for what runs, then hand back the rest."""
        for held in self._holding:
            if held.run is None:
                # It waits at a gate or asks an owner: neither ends because this worker stops.
                held.interrupt(Ending.STOPPING)
        waits = {
            asyncio.ensure_future(self._idle.wait()),
            asyncio.ensure_future(self.actor.hurry.wait()),
        }
        await asyncio.wait(waits, timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not self._holding:
            return
        _log.info("handing back %d tasks", len(self._holding))
        for held in self._holding:
            held.interrupt(Ending.STOPPING)
        if await self._empty(HAND_BACK):
            return
        # Writes that find no server, and handlers that do not listen: the lease hands these back.
        _log.warning("%d tasks could not be handed back; the lease will", len(self._holding))
        for held in self._holding:
            if held.work is not None:
                held.work.cancel()
        if not await self._empty(1.0):
            self.stuck = len(self._holding)
            _log.warning("%d handlers do not end when they are cancelled", self.stuck)

    async def _empty(self, within: float) -> bool:
        try:
            async with asyncio.timeout(within):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


def _work(running: list[Held]) -> dict[str, dict[str, int]]:
    """How many run, by queue and kind."""
    found: dict[str, dict[str, int]] = {}
    for held in running:
        kinds = found.setdefault(held.queue, {})
        kinds[held.kind] = kinds.get(held.kind, 0) + 1
    return found


def _facts(held: Held) -> dict[str, object]:
    """For the log."""
    attempt = held.run.attempt if held.run is not None else None
    return {"action": "give_back", "task_id": held.id, "attempt": attempt}


async def _when_written(works: list[asyncio.Task[None]]) -> HeldAnswer:
    await asyncio.wait(works)
    return HeldAnswer(holds=True)


def _delay(held: Held) -> float:
    """Longer from time to time: what fails here may go on failing."""
    return min(RETRY_DELAY * held.delivered.delivered, RETRY_DELAY_MAX)


def _shown(held: Held) -> RunningTask:
    assert held.run is not None
    return RunningTask(
        id=held.id,
        kind=held.kind,
        queue=held.queue,
        attempt=held.run.attempt,
        since=held.since,
        output_tokens=held.run.usage.output_tokens,
    )
