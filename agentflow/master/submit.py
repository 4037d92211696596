"""`agentflow.api.submit` and `agentflow.api.run`: a task in a request, for those without a client.

    nats req agentflow.api.run 'Write a haiku' --timeout 60s

The payload is a task as on a task subject and is stored unchanged; the id is chosen here where none
is given. `run` is idempotent by id: a task that has ended is answered at once, one that runs is
waited for. When the requester goes away, or the master, the task goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from typing import Final

import msgspec

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.submitter import Submitter
from agentflow.bus.wire.message import Message
from agentflow.errors import MasterAbsent, PayloadTooLarge, UsageError
from agentflow.log.task import TaskLog
from agentflow.protocol import api, record, subjects, task, traceparent
from agentflow.protocol.asked import Asked, asked
from agentflow.protocol.subjects import Priority
from agentflow.rules import reuse
from agentflow.telemetry import tracing

RUNS: Final = 5_000
"""Requests that may wait for their result at once."""
PATIENCE: Final = 5.0
"""Seconds to wait while the queue is full; a requester does not wait much longer itself."""
LOOK_EVERY: Final = 5.0
"""A waiting run looks at the log this often: a live copy may be missed."""
ANSWER_ROOM: Final = 16 * 1024


class Prepared(msgspec.Struct, frozen=True):
    """A validated task, ready to be stored; `named` says that the requester chose its id."""

    task: task.Task
    asked: Asked
    headers: dict[str, str]
    payload: bytes
    named: bool
    lane: str = ""


def prepare(payload: bytes, headers: Mapping[str, str]) -> Prepared:
    """Validate a task. Raises InvalidTask, UsageError."""
    queue = subjects.check_queue(headers.get(api.QUEUE, "default"))
    try:
        priority = Priority(headers.get(subjects.PRIORITY, Priority.NORMAL))
    except ValueError:
        raise UsageError(
            f"priority {headers[subjects.PRIORITY][:40]!r} is not one of {', '.join(Priority)}"
        ) from None
    lane = subjects.check_lane(headers.get(subjects.LANE, ""))
    if subjects.FOLLOWS in headers:
        raise UsageError("a continuation is published on the task's subject, not submitted here")
    body = task.parse_body(payload, headers)
    given_id = task.given_id(headers, body)
    built = task.build(body, headers, queue, priority, given_id or secrets.token_hex(10))
    own = {
        name: value
        for name, value in headers.items()
        if name.startswith("Agentflow-") or name == subjects.CONTENT_TYPE
    }
    own.pop(api.QUEUE, None)
    own.pop(subjects.PRIORITY, None)
    own.pop(subjects.LANE, None)
    own |= {subjects.ID: built.id, subjects.KIND: built.kind} | traceparent.of(headers)
    if built.model:
        own[subjects.MODEL] = built.model
    if title := task.title(body, headers):
        own[subjects.TITLE] = title
    if built.labels:
        own[subjects.LABELS] = task.labels_header(built.labels)
    return Prepared(built, asked(built), own, payload, named=given_id is not None, lane=lane)


def _compare(prepared: Prepared, last: record.Last) -> None:
    """Raise IdReused where the log of its id holds another request."""
    reuse.check(prepared.task.id, prepared.asked, last.record)


class Submissions:
    """Stores tasks for requesters and waits for their ends."""

    def __init__(self, js: JetStream, log: TaskLog) -> None:
        self._js = js
        self._log = log
        self._submitter = Submitter(js)
        self._stopping = asyncio.Event()
        self._spans = tracing.found()
        self.waiting = 0

    async def submit(self, payload: bytes, headers: Mapping[str, str]) -> api.Submitted:
        """Validate and store. Raises InvalidTask, IdReused, UsageError, StreamFull, BusError."""
        prepared = prepare(payload, headers)
        if prepared.named:
            _compare(prepared, await self._log.read(prepared.task.id))
        return await self._store(prepared)

    async def run(self, payload: bytes, headers: Mapping[str, str]) -> bytes:
        """The final record of the task, as JSON, whatever its state. Raises as `submit`."""
        prepared = prepare(payload, headers)
        if self.waiting >= RUNS:
            raise UsageError(f"{RUNS:,} requests wait for results already; submit and get instead")
        task_id = prepared.task.id
        wake = asyncio.Event()

        def ended(_: Message) -> None:
            wake.set()

        self.waiting += 1
        subscription = await self._js.connection.subscribe(
            f"agentflow.live.results.{task_id}", ended
        )
        try:
            last = await self._log.read(task_id) if prepared.named else record.EMPTY
            _compare(prepared, last)
            if last.record is None:
                await self._store(prepared)
            while last.record is None or not last.record.terminal:
                await self._woken(wake, task_id)
                last = await self._log.read(task_id)
                _compare(prepared, last)
            return self._fitting(last.record)
        finally:
            self.waiting -= 1
            await subscription.close()

    async def stop(self) -> None:
        """Tell who waits that nobody will answer; their tasks go on."""
        self._stopping.set()
        await asyncio.sleep(0.05)  # the answers are written in the requests' own asyncio tasks

    async def _store(self, prepared: Prepared) -> api.Submitted:
        built, headers = prepared.task, prepared.headers
        with contextlib.ExitStack() as span:
            if self._spans is not None:
                told = self._spans.submit(built.id, built.queue, headers)
                headers = headers | span.enter_context(told)
            ack = await self._submitter.submit(
                built.queue,
                built.priority,
                prepared.payload,
                headers,
                lane=prepared.lane,
                patience=PATIENCE,
            )
        return api.Submitted(
            id=built.id, queue=built.queue, priority=built.priority, sequence=ack.seq
        )

    async def _woken(self, wake: asyncio.Event, task_id: str) -> None:
        waits = [
            asyncio.ensure_future(self._stopping.wait()),
            asyncio.ensure_future(wake.wait()),
        ]
        try:
            await asyncio.wait(waits, timeout=LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._stopping.is_set():
            raise MasterAbsent(
                f"the master stops; the task goes on: agentflow get {task_id} --wait"
            )
        wake.clear()

    def _fitting(self, final: record.Record) -> bytes:
        answer = record.encode(final)
        if len(answer) > self._js.connection.max_payload - ANSWER_ROOM:
            raise PayloadTooLarge(
                f"the result has {len(answer):,} bytes, too many for an answer; "
                f"read it with: agentflow get {final.id}"
            )
        return answer
