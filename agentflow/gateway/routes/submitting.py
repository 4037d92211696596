"""Tasks put into a queue: one, or as many as come.

`Idempotency-Key` is the task's id: the same request under it again is answered as the first was,
another one is refused (422). Whether a key is new the log says; before a worker has seen the task,
its message does, and what was submitted here in the last moments is known by heart.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Any, Final

import msgspec
from aiohttp import web

from agentflow.client.operate.webhooks import checked
from agentflow.client.tasks.submission import Submission, asked_as_sent
from agentflow.errors import AgentFlowError, IdReused, InvalidTask
from agentflow.gateway.gateway import Admitted
from agentflow.gateway.http import problems
from agentflow.gateway.http.call import BODY_MOST, Call, answer, too_large
from agentflow.gateway.http.problems import Problem, Refusal
from agentflow.gateway.http.route import Route
from agentflow.gateway.routes.reading import WAIT_MOST, WaitQuery, result_of
from agentflow.gateway.webhooks import KNOWN
from agentflow.protocol import limits, subjects, task, webhooks
from agentflow.protocol.asked import differences
from agentflow.protocol.record import State
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import TaskBody
from agentflow.protocol.webhooks import Webhook
from agentflow.rules import destinations, reuse
from agentflow.views.row import Row, encode_labels

LINES: Final = "application/x-ndjson"
AT_ONCE: Final = 512
"""Tasks of a bulk that are under way to the server."""
LINE_WITHIN: Final = 60.0
"""Seconds in which the next piece of a bulk must come."""
BEHIND: Final = 16 * 1024 * 1024
"""Bytes of outcomes that wait for a client that sends all before it reads anything."""
_PREFER: Final = re.compile(r"\bwait\s*=\s*(\d+(?:\.\d+)?)")
_FIRST: Final = asyncio.FIRST_COMPLETED
_FIELDS: Final = TaskBody.__struct_fields__


class NewTask(TaskBody, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A task: what it asks, the queue, priority and lane that it goes to, and where its events are
    sent (`webhook`)."""

    queue: str = "default"
    priority: Priority = Priority.NORMAL
    lane: str | None = None
    webhook: Webhook | None = None


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """A task is stored. `sequence` is its message's place, 0 where it was known before."""

    id: str
    queue: str
    priority: str
    sequence: int
    known: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a line of a bulk: the task's id and sequence, or why it is none."""

    line: int
    id: str = ""
    sequence: int = 0
    error: Problem | None = None


_one = msgspec.json.Decoder(NewTask)
_encoder = msgspec.json.Encoder()
_HEADERS: Final = {"Content-Type": LINES, "Cache-Control": "no-store"}


def _given(new: NewTask) -> dict[str, Any]:
    """The fields of the task that are there. Raises InvalidTask."""
    if new.payload is not None:
        raise InvalidTask("payload is made by whoever submits: send prompt, system and params")
    return {name: value for name in _FIELDS if (value := getattr(new, name)) is not None}


async def hooked(call: Call, hook: Webhook) -> str:
    """The id of a hook that may be. Raises UsageError."""
    destinations.check(hook.url, call.gateway.settings.webhooks)
    return await call.gateway.client.operate.webhooks.keep(checked(hook, KNOWN))


async def _labelled(call: Call, new: NewTask) -> None:
    """Give a task with a webhook the label by which its events are found."""
    if new.webhook is not None:
        new.labels = {**(new.labels or {}), webhooks.LABEL: await hooked(call, new.webhook)}


def _message(call: Call, new: NewTask, task_id: str | None = None) -> Submission:
    """The task as its message. Raises InvalidTask, UsageError, Refusal."""
    if call.who.queues and not call.who.reaches(new.queue):
        raise Refusal(403, f"the token is bound to {', '.join(sorted(call.who.queues))}")
    if task_id is None:
        task_id = new.id
    return call.gateway.client.tasks.message(
        _given(new), task_id=task_id, queue=new.queue, priority=new.priority, lane=new.lane
    )


def decoded(data: bytes) -> NewTask:
    """A task in a body or a line. Raises InvalidTask naming the field at fault."""
    try:
        return _one.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    # In the words in which the command line says it.
    named = msgspec.json.decode(data) if _is_object(data) else None
    if isinstance(named, dict):
        if "webhook" in named:
            try:
                msgspec.convert(named.pop("webhook"), Webhook)
            except msgspec.ValidationError as error:
                raise InvalidTask(f"webhook: {error}", reason="bad_field") from None
        for field in ("queue", "priority", "lane"):
            value = named.pop(field, None)
            if value is not None and not isinstance(value, str):
                raise InvalidTask(f"{field} is a text", reason="bad_field")
            if field == "priority" and value is not None and value not in set(Priority):
                raise InvalidTask("priority is one of high, normal, low", reason="bad_field")
        data = msgspec.json.encode(named)
    task.decode_body(data)
    raise InvalidTask("this is no task")


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(data), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


async def _submit(call: Call) -> web.StreamResponse:
    if (kind := call.request.content_type) != "application/json":
        raise Refusal(415, f"the body is {kind}; send it as application/json")
    if (call.request.content_length or 0) > BODY_MOST:
        async with call.gateway.large:
            data = await call.read(limits.PAYLOAD_BYTES)
    else:
        # Who does not say how long it is has the room that everybody has.
        data = await call.read(BODY_MOST)
    new = decoded(data)
    wait = _wait(call)
    await _labelled(call, new)
    key = _key(call, new)
    message = _message(call, new, key)
    stored = await _stored(call, message, new, fresh=key is None)
    location = {"Location": f"{call.gateway.settings.path}/v1/tasks/{stored.id}"}
    if wait:
        response = await result_of(call, stored.id, wait)
        response.headers.update(location)
        return response
    return answer(stored, 200 if stored.known else 201, location)


def _key(call: Call, new: NewTask) -> str | None:
    """The id that the request gives its task. Raises Refusal."""
    key = call.header("Idempotency-Key")
    if key is None:
        return new.id
    key = key.strip('"')
    if not subjects.is_id(key):
        raise Refusal(400, "Idempotency-Key is 1 to 64 of A-Z a-z 0-9 _ -")
    if new.id is not None and new.id != key:
        raise Refusal(422, "the task has another id than its Idempotency-Key")
    return key


def _wait(call: Call) -> float:
    """Seconds to wait for the result."""
    if call.request.query_string:
        return call.query(WaitQuery).wait
    found = _PREFER.search(call.header("Prefer") or "")
    return min(float(found[1]), WAIT_MOST) if found else 0.0


async def _stored(call: Call, message: Submission, new: NewTask, *, fresh: bool) -> Submitted:
    """Store it, unless it is known. Raises IdReused, StreamFull, BusError."""
    gateway, tasks = call.gateway, call.gateway.client.tasks
    if not fresh and await _known(call, message):
        return Submitted(
            id=message.id, queue=message.queue, priority=new.priority, sequence=0, known=True
        )
    gateway.remember(_admitted(gateway.now, message, new, fresh))
    try:
        sequence = await tasks.store(message, wait_full=False)
    except BaseException:
        gateway.admitted.pop(message.id, None)
        raise
    return Submitted(id=message.id, queue=message.queue, priority=new.priority, sequence=sequence)


async def _known(call: Call, message: Submission) -> bool:
    """Whether the same was asked under this id before. Raises IdReused."""
    gateway, ask = call.gateway, message.asked
    assert ask is not None
    lately = gateway.admitted.get(message.id)
    if lately is not None and lately.ask is not None:
        if lately.ask != ask:
            raise IdReused(message.id, differences(lately.ask, ask))
        return True
    last = await gateway.client.read(message.id)
    if last.record is not None:
        reuse.check(message.id, ask, last.record)
        return True
    row = gateway.store.rows.get(message.id)
    if row is None or not row.message:
        return False
    body = await gateway.client.prompt(message.id, message=row.message)
    if body is None:
        return False
    if (before := asked_as_sent(body)) != ask:
        raise IdReused(message.id, differences(before, ask))
    return True


def _admitted(now: float, message: Submission, new: NewTask, fresh: bool) -> Admitted:
    ms = int(now * 1000)
    row = Row(
        id=message.id,
        sequence=0,
        state=State.QUEUED,
        queue=message.queue,
        updated=ms,
        priority=new.priority,
        kind=new.kind or "claude",
        model=new.model,
        labels=encode_labels(new.labels or {}),
        submitted=ms,
    )
    return Admitted(row, None if fresh else message.asked)


# Many.


class _Bulk:
    """Lines in, a line of outcome each out, in the order of the lines."""

    def __init__(self, call: Call, response: web.StreamResponse) -> None:
        self._call = call
        self._response = response
        self._under_way: deque[asyncio.Future[Outcome]] = deque()
        self._changed = asyncio.Event()
        self._line = 0
        self._read = False

    async def run(self) -> None:
        """Until the last line has its outcome."""
        writing = asyncio.get_running_loop().create_task(self._write(), name="bulk")
        try:
            await self._read_all(writing)
            self._read = True
            self._changed.set()
            await writing
        finally:
            writing.cancel()
            for future in self._under_way:
                future.cancel()

    async def _read_all(self, writing: asyncio.Task[None]) -> None:
        rest = b""
        content = self._call.request.content
        try:
            while not writing.done():
                async with asyncio.timeout(LINE_WITHIN):
                    chunk = await content.readany()
                if not chunk:
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    await self._take(line, writing)
                if len(rest) > BODY_MOST:
                    raise too_large(BODY_MOST)
            await self._take(rest, writing)
        except (Refusal, TimeoutError) as error:
            refusal = error if isinstance(error, Refusal) else Refusal(408, "no line came in time")
            told = asyncio.get_running_loop().create_future()
            told.set_result(Outcome(line=self._line + 1, error=problems.of_refusal(refusal)))
            self._under_way.append(told)
            self._response.force_close()

    async def _take(self, line: bytes, writing: asyncio.Task[None]) -> None:
        self._line += 1
        if not line.strip():
            return
        while len(self._under_way) >= AT_ONCE and not writing.done():
            await asyncio.wait((self._under_way[0], writing), return_when=_FIRST)
            await asyncio.sleep(0)
        work = self._one(self._line, line)
        self._under_way.append(asyncio.get_running_loop().create_task(work))
        self._changed.set()

    async def _one(self, number: int, line: bytes) -> Outcome:
        try:
            new = decoded(line)
            if new.webhook is not None:
                await _labelled(self._call, new)
            message = _message(self._call, new)
            sequence = await self._call.gateway.client.tasks.store(message)
        except Refusal as refusal:
            return Outcome(line=number, error=problems.of_refusal(refusal))
        except AgentFlowError as error:
            return Outcome(line=number, error=problems.of_error(error))
        return Outcome(line=number, id=message.id, sequence=sequence)

    async def _write(self) -> None:
        under_way = self._under_way
        while under_way or not self._read:
            if not under_way:
                self._changed.clear()
                await self._changed.wait()
                continue
            await asyncio.wait((under_way[0],))
            data = bytearray()
            while under_way and under_way[0].done():
                data += _encoder.encode(under_way.popleft().result()) + b"\n"
            await self._response.write(bytes(data))


async def _bulk(call: Call) -> web.StreamResponse:
    if call.request.content_type not in (LINES, "application/jsonl", "application/json-lines"):
        raise Refusal(415, f"a bulk is JSON lines; send it as {LINES}")
    _ = call.gateway.client  # nothing is begun without a connection
    response = web.StreamResponse(headers={**_HEADERS, **call.cors})
    await response.prepare(call.request)
    if (transport := call.request.transport) is not None:
        # Who sends all before it reads anything would else wait for us, and we for it.
        transport.set_write_buffer_limits(high=BEHIND)
    await _Bulk(call, response).run()
    return response


ROUTES: Final = [
    Route(
        method="POST",
        path="/v1/tasks",
        do=_submit,
        says="Put a task into a queue. With `wait`, or `Prefer: wait=60`: its result.",
        role="submitter",
        scoped=True,
        query=WaitQuery,
        body=NewTask,
        answer=Submitted,
        status=201,
    ),
    Route(
        method="POST",
        path="/v1/tasks/bulk",
        do=_bulk,
        says="Put many tasks into queues: JSON lines in, a line of outcome each, in their order.",
        role="submitter",
        scoped=True,
        body=NewTask,
        answer=Outcome,
        kind=LINES,
        takes=LINES,
    ),
]
