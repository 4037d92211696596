"""Tasks that go into a batch instead of a slot: parked by whoever is delivered them.

    1  the record, `waiting`
    2  its entry in AGENTFLOW_BATCH, and with a deadline a schedule that brings it back then
    3  ack

Who gathers them is somebody else, or this worker at another moment (agentflow/batches).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from agentflow.bus.streams.bucket import value_of
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.errors import BusError, InvalidTask, PayloadTooLarge, WrongSequence
from agentflow.handlers.batching import Batched
from agentflow.log.task import TaskLog
from agentflow.protocol import batches, subjects
from agentflow.protocol import headers as blocks
from agentflow.protocol.record import Last
from agentflow.protocol.task import Task
from agentflow.rules import records, starting
from agentflow.worker.endings import Endings
from agentflow.worker.gates import Gates
from agentflow.worker.held import Interrupted
from agentflow.worker.kinds import Kinds
from agentflow.worker.parsed import Parsed

if TYPE_CHECKING:
    from agentflow.telemetry.spans import Spans

_log = logging.getLogger(__name__)

_TOLD: Final = b'{"v":1}'
"""A table of which nothing is known but that tasks wait."""


class IntoBatches:
    """Parks tasks for the batches of this worker's credentials."""

    def __init__(
        self,
        connection: Connection,
        log: TaskLog,
        gates: Gates,
        kinds: Kinds,
        endings: Endings,
        spans: Spans | None = None,
    ) -> None:
        self._connection = connection
        self._log = log
        self._gates = gates
        self._kinds = kinds
        self._endings = endings
        self._spans = spans
        self._known: set[str] = set()

    async def park(self, parsed: Parsed, last: Last) -> None:
        """Let a task that may start now wait for a batch. Raises Overtaken, BusError."""
        log, task = self._log, parsed.task
        assert task is not None
        try:
            handler = self._handler(task)
            if task.payload is None:  # else where it is built, which fetches it once
                handler.batch_request(task)
        except InvalidTask as problem:
            await self._endings.refuse(parsed, last, problem.reason, str(problem))
            return
        try:
            with parsed.held.interruptible():
                await self._gates.admit(task.queue, task.kind, None)
        except Interrupted:
            self._endings.give_back(parsed.held)
            return
        await self._make_known(handler.pool, task.queue)
        record = records.into_batch(
            parsed.origin, last, actor=log.actor, now=log.now(), pool=handler.pool
        )
        if self._spans is not None:
            record = self._spans.waiting(record, parsed.held.delivered.message.headers)
        await self.again(parsed, await log.append(record))

    async def again(self, parsed: Parsed, last: Last) -> None:
        """Store what goes with a `waiting` record, and ack. Raises Overtaken, BusError."""
        message = parsed.held.delivered.message
        try:
            await self._log.publish_entry(last, message.data, message.block)
            await self._until_deadline(parsed, last)
        except PayloadTooLarge as error:
            text = f"cannot be parked: {error}"
            await self._endings.refuse(parsed, last, "too_large", text)
        else:
            self._endings.settle(parsed.held, last)

    async def wake(self, parsed: Parsed, last: Last) -> None:
        """It waits, and its deadline may have passed. Raises Overtaken, BusError."""
        task = parsed.task
        if task is not None and starting.past_deadline(task, self._log.now()):
            text = f"its deadline {task.deadline:%Y-%m-%dT%H:%M:%SZ} has passed"
            await self._endings.refuse(parsed, last, "deadline", text)
            return
        await self._until_deadline(parsed, last)
        self._endings.settle(parsed.held, last)

    async def _until_deadline(self, parsed: Parsed, last: Last) -> None:
        deadline = parsed.task.deadline if parsed.task is not None else None
        if deadline is not None:
            message = parsed.held.delivered.message
            await self._log.publish_schedule(last, message.data, message.block, at=deadline)

    def _handler(self, task: Task) -> Batched:
        handler = self._kinds.batched(task.kind)
        if handler is None:
            raise InvalidTask(
                f"task {task.id}: kind {task.kind} cannot be asked in batches; submit it without"
                " batch"
            )
        return handler

    async def _make_known(self, pool: str, queue: str) -> None:
        """Let batchers that do not serve this queue know that something waits there."""
        key = batches.key(pool, queue)
        if key in self._known:
            return
        js, subject = JetStream(self._connection), subjects.kv(key)
        try:
            last = await js.last(subjects.KV_STREAM, subject)
            if value_of(last) is None:
                expected = str(last.sequence if last else 0)
                block = blocks.encode({"Nats-Expected-Last-Subject-Sequence": expected})
                await js.store(subject, _TOLD, block)
        except WrongSequence:
            pass  # somebody else has just made it known
        except BusError as error:
            _log.info("%s is not made known yet: %s", key, error)
            return
        self._known.add(key)
