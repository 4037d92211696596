"""What to do with a delivery: the protocol's table (rules/claim.py), carried out.

The plain case, a first delivery of an original, claims without reading anything. Every other case,
and every refusal, reads the log's last record and asks the table again.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from agentflow.bus.wire.connection import Connection
from agentflow.errors import BusError, InvalidTask, PayloadTooLarge
from agentflow.handlers.contract import Handler, Routed, defaults_of
from agentflow.log.task import Overtaken, TaskLog
from agentflow.protocol import control, limits, subjects
from agentflow.protocol import task as tasks
from agentflow.protocol.control import Held as HeldAnswer
from agentflow.protocol.control import Holds
from agentflow.protocol.record import EMPTY, Failure, Last
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Defaults, Task, TaskBody
from agentflow.rules import records as entries
from agentflow.rules import starting
from agentflow.rules.claim import Act, Delivery, after_silence, decide, is_fresh
from agentflow.rules.records import Origin
from agentflow.rules.routes.gates import Route
from agentflow.rules.starting import Park, TooLate
from agentflow.worker import reply
from agentflow.worker.attempt import Attempts
from agentflow.worker.gates import Gates
from agentflow.worker.held import Ending, Held, Holding
from agentflow.worker.suspect import Suspects

_log = logging.getLogger(__name__)

NOTE_FOR: Final = 2.5 * limits.UPGRADE_DELAY
"""A message that this version does not understand comes again within this time, or is gone."""
_KIND: Final = re.compile(limits.KIND_PATTERN)


class Parsed:
    """A delivery as far as it could be read: a task, or the reason why it is none."""

    __slots__ = ("delivery", "origin", "problem", "task")

    def __init__(
        self, held: Held, now: datetime, defaults: Mapping[str, Defaults], *, deadly: bool
    ) -> None:
        delivered = held.delivered
        headers = delivered.message.headers
        self.problem: InvalidTask | None = None
        self.task: Task | None = None
        follows = 0
        body: TaskBody | None = None
        queue, priority = "", Priority.NORMAL
        missing = tasks.missing_abilities(headers)
        try:
            queue, priority = subjects.parse_task(delivered.message.subject)
            follows = tasks.follows(headers)
            if not deadly and not missing:
                body = tasks.parse_body(delivered.message.data, headers)
            tasks.given_id(headers, body)
        except InvalidTask as error:
            self.problem = error
        task_id = tasks.task_id(headers, body, queue, delivered.sequence, delivered.stored_ns)
        if body is not None and self.problem is None:
            try:
                self.task = tasks.build(body, headers, queue, priority, task_id, defaults)
            except InvalidTask as error:
                self.problem = error
        task = self.task
        self.origin = Origin(
            id=task_id,
            queue=queue,
            priority=priority,
            message=delivered.identity,
            submitted=datetime.fromtimestamp(delivered.stored_ns / 1e9, UTC),
            kind=task.kind if task else _kind(headers.get(subjects.KIND, "")),
            labels=task.labels if task else {},
            model=task.model if task else None,
        )
        self.delivery = Delivery(
            message=delivered.identity,
            follows=follows,
            delivered=delivered.delivered,
            age=now.timestamp() - delivered.stored_ns / 1e9,
            understood=not missing,
            deadly=deadly,
        )


def _tell_dropped(parsed: Parsed) -> None:
    """The only trace of a message that no record names; `agentflow verify --log` looks for it."""
    delivery, task_id = parsed.delivery, parsed.origin.id
    facts = {"action": "drop", "task_id": task_id}
    _log.info(
        "task %s: message %s dropped, the log is past it", task_id, delivery.message, extra=facts
    )


def _kind(header: str) -> str:
    """A kind fit for the record of what is no task: a header may be megabytes of anything."""
    return header if _KIND.fullmatch(header) else "unknown"


class Intake:
    """Carries the table out for one worker."""

    def __init__(
        self,
        connection: Connection,
        log: TaskLog,
        holding: Holding,
        attempts: Attempts,
        handlers: dict[str, Handler],
        gates: Gates,
        *,
        unknown_kind_for: float,
    ) -> None:
        self._connection = connection
        self._log = log
        self._holding = holding
        self._attempts = attempts
        self._handlers = handlers
        known: dict[str, object] = dict(handlers)
        # Asked once: whether an object fits a Protocol takes longer than a record.
        self._routes = {
            kind: handler.route for kind, handler in known.items() if isinstance(handler, Routed)
        }
        self._gates = gates
        self._unknown_kind_for = unknown_kind_for
        self._defaults = defaults_of(handlers)
        self._upgrade = ("", 0.0)
        self._suspects = Suspects()

    def notes(self) -> list[str]:
        """What a person should know of; sent with the heartbeats."""
        text, since = self._upgrade
        return [text] if text and time.monotonic() - since < NOTE_FOR else []

    async def take(self, held: Held) -> None:
        """Do what the table says until the delivery is dealt with. Raises Overtaken, BusError."""
        deadly = await self._suspects.deadly(held.delivered)
        parsed = Parsed(held, self._log.now(), self._defaults, deadly=deadly)
        held.id, held.queue, held.kind = parsed.origin.id, parsed.origin.queue, parsed.origin.kind
        if is_fresh(parsed.delivery):
            act, last = Act.CLAIM, EMPTY
        else:
            last = await self._log.read(held.id)
            act = decide(parsed.delivery, last)
        while True:
            if act is Act.ASK:
                answer = await self._ask(held, parsed, last)
                if answer is None:
                    return  # its owner lives: leave the delivery alone
                act = answer
            if held.ending is Ending.STOPPING:
                self._holding.give_back(held)  # nothing is written yet, so nothing needs to be
                return
            try:
                await self._do(act, held, parsed, last)
                return
            except Overtaken as overtaken:
                if held.last is not None:
                    raise  # the task was claimed here; what follows is another's
                last = overtaken.last
                act = decide(parsed.delivery, last)

    async def _do(self, act: Act, held: Held, parsed: Parsed, last: Last) -> None:
        message = held.delivered.message
        match act:
            case Act.CLAIM:
                await self._claim(held, parsed, last)
            case Act.ACK:
                if last.record is not None and last.record.terminal:
                    reply.answer(self._connection, held, last)
                if last.record is None or last.record.message != parsed.delivery.message:
                    _tell_dropped(parsed)
                self._holding.ack(held)
            case Act.REPUBLISH_DEAD:
                await self._log.publish_dead(last, message.data, message.block)
                reply.answer(self._connection, held, last)
                self._holding.ack(held)
            case Act.REPUBLISH_SCHEDULE:
                try:
                    await self._log.publish_schedule(last, message.data, message.block)
                except PayloadTooLarge as error:
                    # Its headers fill the server's max_payload: no schedule could ever carry it.
                    await self._fail(held, parsed, last, "too_large", f"cannot be parked: {error}")
                else:
                    self._holding.ack(held)
            case Act.EXPIRE:
                text = f"the task waited more than {limits.HORIZON // limits.DAY} days"
                await self._fail(held, parsed, last, "expired", text)
            case Act.REJECT:
                text = (
                    f"the message was delivered more than {limits.MAX_DELIVERIES} times, and "
                    "parsing it kills the process that does it"
                )
                await self._fail(held, parsed, last, "too_many_deliveries", text)
            case Act.LOST:
                who = last.record.actor if last.record else "unknown"
                text = f"its worker {who} was lost, and no attempt is left"
                await self._fail(held, parsed, last, "worker_lost", text, lost=True)
            case Act.UPGRADE:
                text = f"upgrade needed: task {held.id} is of a newer version"
                self._upgrade = (text, time.monotonic())
                _log.warning("%s", text, extra={"action": "upgrade", "task_id": held.id})
                self._holding.give_back(held, limits.UPGRADE_DELAY)

    async def _claim(self, held: Held, parsed: Parsed, last: Last) -> None:
        task = parsed.task
        if parsed.problem is not None or task is None:
            problem = parsed.problem or InvalidTask("the message cannot be read")
            await self._fail(held, parsed, last, problem.reason, str(problem))
            return
        before = last.record
        while True:
            now = self._log.now()
            if not starting.is_plain(task, self._handlers):
                facts = starting.Facts(
                    now=now,
                    submitted=(before and before.timings.submitted) or parsed.origin.submitted,
                    attempts=before.attempt if before else 0,
                    original=parsed.delivery.follows == 0,
                    unknown_kind_for=self._unknown_kind_for,
                )
                match starting.verdict(task, facts, self._handlers):
                    case Park() as park:
                        await self._park(held, parsed, last, park)
                        return
                    case TooLate(reason=reason, text=text):
                        await self._fail(held, parsed, last, reason, text)
                        return
            handler = self._handlers[task.kind]
            find = self._routes.get(task.kind)
            route = find(task) if find else None
            if self._gates.open(task.queue, task.kind, route):
                break
            if not await self._wait_at_gate(held, task, route):
                return
        record = entries.claimed(parsed.origin, last, actor=self._log.actor, now=now)
        claim = await self._log.append(record)
        await self._attempts.run(held, task, parsed.origin, claim, handler, route)

    async def _wait_at_gate(self, held: Held, task: Task, route: Route | None) -> bool:
        """Hold the message until the gate opens; False when this worker stops meanwhile."""
        held.interruptible = True
        try:
            if held.ending is None:
                await self._gates.admit(task.queue, task.kind, route)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if held.ending is None or current is None:
                raise
            current.uncancel()
        finally:
            held.interruptible = False
        if held.ending is not None:
            self._holding.give_back(held)
            return False
        return True

    async def _park(self, held: Held, parsed: Parsed, last: Last, park: Park) -> None:
        record = entries.parked(
            parsed.origin,
            last,
            park.state,
            actor=self._log.actor,
            now=self._log.now(),
            resume_at=park.until,
            reason=park.reason,
        )
        await self._log.park(record, held.delivered.message)
        self._holding.ack(held)

    async def _fail(
        self, held: Held, parsed: Parsed, last: Last, reason: str, text: str, *, lost: bool = False
    ) -> None:
        failures = last.record.failures if last.record else 0
        record = entries.failed(
            parsed.origin,
            last,
            actor=self._log.actor,
            now=self._log.now(),
            reason=reason,
            error=Failure(type=reason, message=text[: limits.ERROR_TEXT]),
            failures=failures + 1 if lost else failures,
        )
        ended = await self._log.fail(record, held.delivered.message)
        self._attempts.failed += 1
        self._holding.ack(held)
        reply.answer(self._connection, held, ended)
        self._attempts.observers.ended(record)

    async def _ask(self, held: Held, parsed: Parsed, last: Last) -> Act | None:
        """Ask the owner of a running task whether it holds the message; None when it does."""
        assert last.record is not None
        owner = last.record.actor
        attempts = parsed.task.max_attempts if parsed.task else limits.MAX_ATTEMPTS
        if owner != self._log.actor and await self._is_held(owner, held):
            return None
        facts = {"action": "takeover", "task_id": held.id, "attempt": last.record.attempt}
        _log.warning("task %s: its worker %s is silent; taking over", held.id, owner, extra=facts)
        return after_silence(parsed.delivery, last, attempts)

    async def _is_held(self, owner: str, held: Held) -> bool:
        question = control.encode(Holds(message=held.delivered.identity))
        loop = asyncio.get_running_loop()
        end = loop.time() + limits.ASK_FOR
        while (now := loop.time()) < end and held.ending is not Ending.STOPPING:
            try:
                answer = await self._connection.request(
                    subjects.control("worker", owner), question, timeout=limits.ASK_EVERY
                )
            except BusError:
                pass  # no responders is silence too: the owner may be reconnecting at this moment
            else:
                match control.decode(answer.data):
                    case HeldAnswer(holds=holds):
                        return holds
            await asyncio.sleep(max(0.0, now + limits.ASK_EVERY - loop.time()))
        return False
