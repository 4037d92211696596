"""From a call's arguments to a stored task message.

A task is checked here exactly as the worker will check it: its own payload is parsed again. Sent
again after an unanswered publish it has the same id, so the log makes the second one harmless.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from agentflow import classes
from agentflow.bus.streams import lanes, provision
from agentflow.bus.streams.jetstream import JetStream, PubAck
from agentflow.bus.streams.payloads import Payloads
from agentflow.client.session import Session
from agentflow.errors import (
    InvalidTask,
    NoAnswer,
    NoStream,
    NotConnected,
    NotFound,
    StreamFull,
    UsageError,
)
from agentflow.protocol import headers as blocks
from agentflow.protocol import limits, subjects, task
from agentflow.protocol.asked import Asked, asked
from agentflow.protocol.faithful import flaw
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import TaskBody
from agentflow.telemetry import tracing

OUTSTANDING: Final = 4096
"""Publishes without an answer; far below the 10,000 at which a server begins to refuse them."""
LANE_LABEL: Final = "AGENTFLOW_LANE_LABEL"
"""The setting that names the label whose value is a task's lane."""
PATIENCE: Final = 30.0
"""Seconds to go on while the server is away."""

_IN_HEADERS: Final = frozenset({"id", "title"})
_encoder = msgspec.json.Encoder(enc_hook=classes.encode_hook)
_PRIORITIES: Final = frozenset(Priority)


class Submission(NamedTuple):
    """A task message ready to be sent; `large` is what its reference leads to."""

    id: str
    queue: str
    subject: str
    payload: bytes
    block: bytes
    large: bytes | None = None
    body: TaskBody | None = None

    @property
    def asked(self) -> Asked | None:
        """What it asks, None of a task that is asked already."""
        return None if self.body is None else asked(self.body)


def fields_of(item: str | Mapping[str, Any] | TaskBody) -> dict[str, Any]:
    """An item as the fields of a task; a text is the prompt. Raises InvalidTask for no task."""
    if isinstance(item, str):
        return {"prompt": item}
    if isinstance(item, TaskBody):
        names = item.__struct_fields__
        return {name: value for name in names if (value := getattr(item, name)) is not None}
    if not isinstance(item, Mapping):
        raise InvalidTask(
            f"{item!r:.80} is a {type(item).__name__}, not a task; give a prompt as text, or a "
            "dict of a task's fields"
        )
    return {name: value for name, value in item.items() if value is not None}


def prepare(
    fields: Mapping[str, Any] | TaskBody,
    *,
    task_id: str,
    queue: str = "default",
    priority: str = Priority.NORMAL,
    lane: str | None = None,
    reply: str | None = None,
    needs: str | None = None,
    follows: int = 0,
) -> Submission:
    """The message for a task. Raises InvalidTask and UsageError, naming what to correct.

    `task_id` counts, whatever id the fields give. Without a `lane` its labels may say one.
    """
    subjects.check_id(task_id)
    subjects.check_queue(queue)
    if priority not in _PRIORITIES:
        raise UsageError(f"priority {priority[:40]!r} is not one of high, normal, low")
    payload, body, large = fitting(_payload(fields))
    if body.not_before is not None or body.schema is not None:
        _check(body)
    headers = {subjects.ID: task_id, **_headers(body, reply, needs), **_title(fields)}
    if follows:
        headers[subjects.FOLLOWS] = str(follows)
    return Submission(
        task_id,
        queue,
        subjects.task(queue, priority, _lane(body) if lane is None else subjects.check_lane(lane)),
        payload,
        blocks.encode(headers),
        large,
        None if follows else body,
    )


def _lane(body: TaskBody) -> str:
    """The lane that a task's label says, where a setting names that label. Raises UsageError."""
    label = os.environ.get(LANE_LABEL)
    return subjects.check_lane((body.labels or {}).get(label, "")) if label else ""


def asked_as_sent(body: TaskBody) -> Asked:
    """What a task asks, long as it may be: as its message has it. Raises InvalidTask."""
    return asked(fitting(_payload(body))[1])


def _headers(body: TaskBody, reply: str | None, needs: str | None) -> dict[str, str]:
    """What a task message says beside its payload. Raises UsageError."""
    headers = {subjects.KIND: body.kind or "claude"}
    if body.model:
        headers[subjects.MODEL] = body.model
    if body.labels:
        headers[subjects.LABELS] = task.labels_header(body.labels)
    if reply is not None:
        if not reply or not reply.isprintable() or any(char in reply for char in " *>"):
            raise UsageError(f"{reply[:80]!r} is not a subject to reply to")
        headers[subjects.REPLY] = reply
    # A worker that does not know these fields must leave the task to one that does.
    if needed := dict.fromkeys([*task.abilities(body), *_names(needs)]):
        headers[subjects.NEEDS] = ",".join(needed)
    return headers


def _title(fields: Mapping[str, Any] | TaskBody) -> dict[str, str]:
    """The header of a title, of the whole prompt: the message may only refer to it.

    Raises InvalidTask.
    """
    told = fields_of(fields)
    given = told.get("title")
    if given is not None and not isinstance(given, str):
        raise InvalidTask(f"the task's title is a {type(given).__name__}, not a text")
    if given is not None:
        return {subjects.TITLE: task.title_of(given)}  # an empty one too: it hides the prompt
    title = task.title_of(task.beginning(told.get("prompt"), told.get("params")))
    return {subjects.TITLE: title} if title else {}


def _check(body: TaskBody) -> None:
    """Raise InvalidTask for what its worker would refuse: too far ahead, no schema of ours."""
    task.build(body, {}, "", Priority.NORMAL, "")
    if body.schema is not None:
        from agentflow.rules import schemas  # 30 ms that only these pay

        schemas.checked(body.schema)


def fitting(payload: bytes) -> tuple[bytes, TaskBody, bytes | None]:
    """A payload as a message takes it, its fields, and what must lie in the bucket of payloads.

    Raises InvalidTask.
    """
    if len(payload) <= limits.TASK_BYTES:
        return payload, task.parse_body(payload, {}), None
    task.check_size(len(payload))
    body, large = task.split(task.decode_body(payload))
    return task.encode_body(body), body, large


def _names(needs: str | None) -> list[str]:
    return [name.strip() for name in (needs or "").split(",") if name.strip()]


def _payload(fields: Mapping[str, Any] | TaskBody) -> bytes:
    """The task as JSON, without id and title: those are in the headers."""
    try:
        kind = fields.get("schema") if isinstance(fields, Mapping) else None
        if isinstance(fields, Mapping) and isinstance(kind, type):
            fields = {**fields, "schema": classes.schema_of(kind)}
        wrong = flaw(fields, "")
        if wrong is not None:
            raise InvalidTask(f"the task's {wrong}")
        if isinstance(fields, TaskBody):
            return task.encode_body(msgspec.structs.replace(fields, id=None, title=None))
        return _encoder.encode({k: value for k, value in fields.items() if k not in _IN_HEADERS})
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidTask(f"the task cannot be written as JSON: {error}") from None


_WITHOUT: Final = {
    False: "JetStream is not enabled there",
    True: "the streams are missing, it is not enabled for this account, or has no leader",
}
"""Why no stream takes a task, by whether the server says that it has JetStream."""


class _Room:
    """A semaphore; asyncio's looks through all who were woken before it wakes the next.

    With thousands of answers in one read that is quadratic.
    """

    __slots__ = ("_free", "_waiting")

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # the place was given to us in the same moment
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)  # the place changes hands
                return
        self._free += 1


def _within(message: Submission, headers: Mapping[str, str]) -> Submission:
    """The message in the trace that headers name."""
    return message._replace(block=blocks.carried(message.block, headers))


class Sender:
    """Stores task messages; goes on while the server is away or the queue is full."""

    def __init__(self, session: Session, *, patience: float = PATIENCE) -> None:
        self._session = session
        self._room = _Room(OUTSTANDING)
        self._patience = patience
        self._timeout = min(5.0, patience)
        self._provisioned = False
        self._large = asyncio.Semaphore(1)

    async def send(self, message: Submission, *, wait_full: bool = True) -> PubAck:
        """Store a message. Raises BusError; StreamFull only with `wait_full=False`."""
        spans, passed = self._session.spans, tracing.passed.get()
        if spans is None and passed is None:
            return await self._send(message, wait_full)
        if spans is None:
            return await self._send(_within(message, passed or {}), wait_full)
        given = {**(passed or {}), **blocks.decode(message.block)}
        with spans.submit(message.id, message.queue, given) as headers:
            return await self._send(_within(message, headers), wait_full)

    async def _send(self, message: Submission, wait_full: bool) -> PubAck:
        js = self._session.js
        if message.large is not None:
            await self._put(message.id, message.large, wait_full)
        try:
            async with self._room:
                return await self._store(js, message)
        except StreamFull:
            if not wait_full:
                raise
        except NoStream as error:
            await lanes.check(self._session.js, message.subject)
            await self._provide(error)
        except (NoAnswer, NotConnected):
            pass
        return await self._again(message, wait_full)

    async def _put(self, task_id: str, large: bytes, wait_full: bool) -> None:
        """Store what is too long for the message, one at a time: many would fill the memory."""
        loop = asyncio.get_running_loop()
        async with self._large:
            end = loop.time() + self._patience
            while True:
                try:
                    await Payloads(self._session.js).put(task_id, large, wait_full=wait_full)
                    return
                except (NoStream, NotFound) as error:
                    if self._provisioned:
                        raise
                    await self._provide(error)
                except (NoAnswer, NotConnected):
                    if loop.time() > end:
                        raise
                    await asyncio.sleep(0.5 + random.random())

    async def _store(self, js: JetStream, message: Submission) -> PubAck:
        return await js.store(message.subject, message.payload, message.block, self._timeout)

    async def _again(self, message: Submission, wait_full: bool) -> PubAck:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience
        pause = 0.05
        while True:
            js = self._session.js  # raises: a client that is closed is not a server that is away
            try:
                async with self._room:
                    return await self._store(js, message)
            except StreamFull:
                if not wait_full:
                    raise
                end = loop.time() + self._patience
                pause = max(pause, 0.5)
            except NotConnected:
                if loop.time() > end:
                    raise
            except NoStream:
                # A server that has JetStream may only be loading its streams.
                connection = js.connection
                if loop.time() > end or not connection.server.get("jetstream"):
                    raise NoStream(
                        f"nothing takes tasks at {connection.options.shown}: "
                        f"{_WITHOUT[bool(connection.server.get('jetstream'))]}; "
                        "`agentflow doctor` says more"
                    ) from None
            except NoAnswer as error:
                if loop.time() > end:
                    raise NoAnswer(
                        f"task {message.id}: {error}; whether it is stored is unknown, and "
                        "submitting it again with this id is harmless"
                    ) from None
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause = min(pause * 1.5, 5.0)

    async def _provide(self, error: NoStream | NotFound) -> None:
        """Create the streams where this is the first to use the server. Raises NoStream."""
        if self._provisioned:
            return
        self._provisioned = True
        for difference in await provision.ensure_streams(self._session.js):
            if difference.missing:
                raise NoStream(f"{difference.name} {difference.text}") from error
