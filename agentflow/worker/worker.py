"""The worker actor: pulls for free slots, holds what it took, stops in order.

Stopping: pull no more; hand back what waits; wait for what runs, up to the grace period (a second
signal ends the wait); hand back what still runs; then the heartbeat says goodbye.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, Final

from agentflow.actor import Actor
from agentflow.batches.batcher import Batcher
from agentflow.batches.pace import Pace
from agentflow.bus.streams.bucket import Board
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.puller import Puller
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Delivered
from agentflow.errors import AgentFlowError, Superseded
from agentflow.handlers.contract import Handler
from agentflow.log.task import TaskLog
from agentflow.protocol import subjects
from agentflow.protocol.control import (
    Cancel,
    Control,
    Drain,
    Holds,
    RouteWait,
    RunningTask,
    Said,
    Text,
    Waits,
)
from agentflow.protocol.control import (
    Held as HeldAnswer,
)
from agentflow.protocol.subjects import Priority
from agentflow.rules.redaction import Redaction
from agentflow.rules.routes.clock import NO_LIMITS, Limits
from agentflow.worker import reply
from agentflow.worker.consumers import Consumers
from agentflow.worker.deaf import Deaf, LeftBehind
from agentflow.worker.gates import Gates
from agentflow.worker.held import Ending, Held, Holding
from agentflow.worker.intake import Intake
from agentflow.worker.kinds import Kinds
from agentflow.worker.lag import Lag, working_on
from agentflow.worker.lanes import Lanes
from agentflow.worker.observer import Observer
from agentflow.worker.shared import Shared
from agentflow.worker.starved import Starved

_log = logging.getLogger(__name__)

GRACE: Final = 30.0
LISTED_TASKS: Final = 200
CHARACTERS_OF_A_TOKEN: Final = 4
"""Roughly: what is generated just now is shown while it comes."""
RETRY_DELAY: Final = 1.0
RETRY_DELAY_MAX: Final = 30.0
HAND_BACK: Final = 5.0
"""Seconds for writing the records of what is handed back."""


class Worker:
    """Runs the tasks of some queues with some handlers, `slots` at once.

    `route_limits` are configured limits of its routes; None: it takes no tickets at all.
    """

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
        batches: Pace | None = None,
        route_limits: Limits | None = NO_LIMITS,
        redaction: Redaction | None = None,
    ) -> None:
        self._js, self._connection = JetStream(connection), connection
        self._queues = [subjects.check_queue(queue) for queue in queues]
        self._slots = slots
        self._grace = grace
        self._simulated = simulated
        self._kinds = Kinds(handlers, unknown_kind_for=unknown_kind_for)
        self.actor = Actor(
            connection, role="worker", name=name, describe=self._describe, receive=self._receive
        )
        self._log = TaskLog(self._js, self.actor.name, redaction)
        self._holding = Holding(connection)
        self._deaf = Deaf(self._holding, self._leave)
        self._starved = Starved(self._holding, self._queues, slots, self._free)
        self._lag = Lag()
        self._gates = self._make_gates(route_limits)
        self._shared = Shared(connection, self._log, self._holding, self._gates, self._kinds)
        self._intake = Intake(self._shared)
        self._batcher = self._make_batcher(self._gates.board, batches)
        self._consumers = Consumers(self._js, self._queues, self._holding, lease=lease)
        self._lanes = Lanes(self._js, self._gates.board, self._queues, self._holding)
        self._puller = self._make_puller()
        self._idle = asyncio.Event()
        self.stuck = 0
        """Handlers that did not end when the worker did; their process cannot exit by itself."""

    def _make_gates(self, limits: Limits | None) -> Gates:
        return Gates(
            self._js,
            actor=self.actor.name,
            slots=self._slots,
            limits=limits,
            pools=lambda: list(self._kinds.pools()),
        )

    def _make_puller(self) -> Puller:
        lanes, gates = self._lanes, self._gates
        puller = Puller(
            self._connection,
            subjects.TASKS,
            [
                [subjects.consumer(queue, priority) for queue in self._queues]
                for priority in Priority
            ],
            slots=self._slots,
            free=self._free,
            deliver=self._deliver,
            ensure=self._mend_consumers,
            allowed=lambda consumer: gates.may_pull(lanes.queue_of(consumer)),
            choose=lanes.choose,
            emptied=lanes.emptied,
        )
        lanes.puller, gates.on_open = puller, puller.refill
        return puller

    async def _mend_consumers(self) -> None:
        await self._consumers.ensure()
        await self._lanes.again()

    def _make_batcher(self, board: Board, pace: Pace | None) -> Batcher | None:
        handler = self._kinds.batched("claude")
        if pace is None or handler is None:
            return None
        return Batcher(
            self._js,
            self._log,
            board,
            handler,
            self._queues,
            pace,
            ended=self._shared.endings.settled,
            reply=partial(reply.tell, self._connection),
        )

    async def start(self) -> None:
        """Make sure of streams and consumers, say hello, begin to pull. Raises BusError."""
        self._idle.set()
        await self._consumers.start(self.actor.stopping)
        self._connection.on_connect(self._reconnected)
        await self._gates.start()
        await self.actor.start()
        self.actor.background("lag", self._lag.measure)
        self.actor.background("renewals", self._holding.renew)
        self.actor.background("watchdog", self._puller.watch)
        self.actor.background("deaf", self._deaf.watch)
        self.actor.background("starved", self._starved.watch)
        self.actor.background("consumers", self._consumers.keep)
        self.actor.background("bucket", self._gates.watch)
        if self._batcher is not None:
            self.actor.background("batches", self._batcher.keep)
            self.actor.on_stop("batches", self._batcher.stop)
        self._gates.budgets.lease = self._holding.lease
        self.actor.background("budgets", self._gates.budgets.keep)
        if self._kinds.asks:
            self.actor.background("growth", self._gates.governor.watch)
            self.actor.background("slots", self._gates.governor.keep)
            self.actor.on_stop("slots", self._gates.governor.forget)
        self.actor.on_stop("pulling", self._puller.stop)
        self.actor.on_stop("tasks", self._settle)
        self.actor.on_stop("budgets", self._gates.budgets.close)
        await self._lanes.look()
        self.actor.background("lanes", self._lanes.keep)
        if not self.actor.stopping.is_set():  # told so while it started
            await self._puller.start()

    async def run(self) -> None:
        """Work until told to stop, then stop in order."""
        await self.actor.run()

    # Watching.

    def observe(self, observer: Observer) -> None:
        """Tell `observer` of every attempt."""
        self._shared.observers.add(observer)

    @property
    def queues(self) -> Sequence[str]:
        """What it serves."""
        return self._queues

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

    @property
    def batches(self) -> tuple[int, int, int]:
        """Batches it looks after, those of unknown outcome among them, and those paid twice."""
        return self._batcher.figures() if self._batcher is not None else (0, 0, 0)

    @property
    def limited(self) -> dict[str, RouteWait]:
        """Who waits for the limits of routes."""
        told = self._gates.governor.waiting()
        return {} if told is None else told.routes

    # Taking.

    def _free(self) -> int:
        return self._slots - len(self._holding) - len(self._deaf)

    def _deliver(self, delivered: Delivered) -> None:
        held = self._holding.get(delivered.identity)
        if held is not None:
            # Redelivered although it is held here: from now on this delivery is renewed and acked.
            held.delivered.message.reply = delivered.message.reply
            return
        held = Held(delivered)
        self._holding.add(held)
        self._lanes.started(held)
        self._idle.clear()
        held.work = asyncio.get_running_loop().create_task(self._conclude(held))

    def _leave(self, held: Held) -> None:
        """Go on with a message without its handler."""
        handler, end_without = held.work, held.end_without
        assert handler is not None and end_without is not None
        work = self._conclude(held, end_without())
        held.leave_handler(asyncio.get_running_loop().create_task(work))
        handler.cancel()  # it may hear the second time

    async def _conclude(self, held: Held, instead: Awaitable[None] | None = None) -> None:
        """Deal with a message, or end it by `instead`; whatever happens, it is held no longer."""
        working_on(held)
        try:
            await (self._intake.take(held) if instead is None else instead)
        except LeftBehind:
            # What was done instead has concluded it, or will.
            self._deaf.ended(held)
            self._puller.refill()
            return
        except Superseded as error:
            _log.info("%s", error, extra={"action": "superseded", "task_id": held.id})
        except asyncio.CancelledError:
            self._holding.give_back(held)
        except AgentFlowError as error:
            _log.warning("task %s: %s", held.id, error, extra=_log_facts(held))
            self._holding.give_back(held, _delay(held))
        except Exception:
            _log.exception("task %s: handling its message failed", held.id, extra=_log_facts(held))
            self._holding.give_back(held, _delay(held))
        except BaseException:
            self._let_go(held)
            raise
        self._let_go(held)

    def _let_go(self, held: Held) -> None:
        self._lanes.ended(held)
        self._holding.remove(held)
        held.tell_let_go()
        if not self._holding:
            self._idle.set()
        self._puller.refill()

    async def _reconnected(self) -> None:
        await self._consumers.reconnected()
        self.actor.beat()

    # Mailbox and heartbeat.

    def _receive(self, message: Control) -> Control | Awaitable[Control] | None:
        match message:
            case Holds(message=identity):
                return HeldAnswer(holds=self._holding.get(identity) is not None)
            case Cancel(id=task_id, by=by):
                return self._cancel(task_id, by)
            case Drain():
                self.actor.stop()
            case Waits(id=task_id):
                return self._gates.governor.waiting(task_id)
            case Said(id=task_id):
                return self._said(task_id)
        return None

    def _said(self, task_id: str) -> Text | None:
        """The text that its run has generated so far."""
        for held in self._holding.of_task(task_id):
            if held.run is not None and held.stream is not None:
                offset, text = held.stream.sent()
                return Text(id=task_id, attempt=held.run.attempt, offset=offset, text=text)
        return None

    def _cancel(self, task_id: str, by: str | None) -> HeldAnswer | Awaitable[HeldAnswer]:
        """Interrupt its run, now; the answer comes when what became of it is written."""
        running = []
        for held in self._holding.of_task(task_id):
            held.interrupt(Ending.CANCELLED, by)
            if held.run is not None:
                running.append(held)
        return _when_written(running) if running else HeldAnswer(holds=False)

    def _describe(self) -> dict[str, Any]:
        running = [held for held in self._holding if held.run is not None]
        return {
            "queues": self._queues,
            "kinds": sorted(self._kinds.handlers),
            "slots": self._slots - len(self._deaf),
            "running": len(running),
            "held": len(self._holding) - len(running),
            "work": _work(running),
            "done": self._shared.endings.done,
            "failed": self._shared.endings.failed,
            "simulated": self._simulated,
            "lease_s": self._holding.lease,
            "loop_lag_ms": self._lag.worst_ms(),
            "notes": [
                *self._consumers.notes,
                *self._lanes.notes,
                *self._intake.notes(),
                *self._gates.notes(),
                *self._deaf.notes(),
                *self._starved.notes(),
                *self._kinds.notes(),
            ],
            "pools": _with(self._kinds.pools(), self._gates.governor.shown()),
            "batches": self._batcher.progress() if self._batcher is not None else [],
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
        if self._holding:
            await self._hand_back()
        self.stuck = len(self._holding) + len(self._deaf)
        if self.stuck:
            _log.warning("%d handlers do not end when they are cancelled", self.stuck)

    async def _hand_back(self) -> None:
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
        await self._empty(1.0)

    async def _empty(self, within: float) -> bool:
        try:
            async with asyncio.timeout(within):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


def _with(pools: dict[str, Any], waiting: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """What handlers say of their pools, with who waits for them."""
    merged = {pool: dict(families) for pool, families in pools.items()}
    for pool, families in waiting.items():
        own = merged.setdefault(pool, {})
        for family, figures in families.items():
            own[family] = {**own.get(family, {}), **figures}
    return merged


def _work(running: list[Held]) -> dict[str, dict[str, int]]:
    """How many run, by queue and kind."""
    work: dict[str, dict[str, int]] = {}
    for held in running:
        kinds = work.setdefault(held.queue, {})
        kinds[held.kind] = kinds.get(held.kind, 0) + 1
    return work


def _log_facts(held: Held) -> dict[str, object]:
    """For the log."""
    attempt = held.run.attempt if held.run is not None else None
    return {"action": "give_back", "task_id": held.id, "attempt": attempt}


async def _when_written(running: list[Held]) -> HeldAnswer:
    await asyncio.gather(*(held.let_go() for held in running))
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
        # What was told comes with the end of an answer; before it the text counts.
        output_tokens=max(
            held.run.usage.output_tokens, held.run.characters // CHARACTERS_OF_A_TOKEN
        ),
    )
