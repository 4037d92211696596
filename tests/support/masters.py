"""A master in the test's own process, and what fills streams for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.master import Master
from agentflow.protocol import api, headers, record, subjects
from agentflow.protocol.record import EMPTY, Last, State, Usage
from agentflow.rules import records as entries
from agentflow.rules.records import Origin, Spent

T = TypeVar("T")


class TaskView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task in an answer as a program that knows docs/protocol.md alone would read it."""

    id: str
    state: str
    queue: str
    priority: str
    kind: str = "unknown"
    model: str | None = None
    labels: dict[str, str] = {}
    attempt: int = 0
    failures: int = 0
    actor: str = ""
    submitted: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    updated: datetime | None = None
    resume_at: datetime | None = None
    reason: str | None = None
    error: record.Failure | None = None
    usage: Usage = Usage()
    cost_usd: float | None = None
    stop_reason: str | None = None
    text_head: str | None = None
    simulated: bool = False
    sequence: int = 0
    message: str = ""
    title: str | None = None
    by: str | None = None
    dropped: bool = False


class Tasks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer to list and get."""

    tasks: list[TaskView] = []
    total: int = 0
    next: str | None = None


@asynccontextmanager
async def a_master(url: str, **options: Any) -> AsyncIterator[Master]:
    """A started master; stopped in order at the end, unless its connection was closed before."""
    connection = await Connection.open(Connect(urls=(url,)), "master")
    master = Master(connection, **options)
    try:
        await master.start()
        yield master
    finally:
        async with asyncio.timeout(15):
            await master.close()
            await connection.close()


async def ready(master: Master) -> None:
    """Wait until the index knows everything."""
    async with asyncio.timeout(20):
        await master.records.caught_up.wait()
        await master.tasks.caught_up.wait()


class Refusal(Exception):
    """An error answer of the master."""

    def __init__(self, code: str, type: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.type = type


async def ask_raw(
    connection: Connection, verb: str, data: bytes = b"", headers_: dict[str, str] | None = None
) -> bytes:
    """An answer's bytes. Raises Refusal."""
    message = await connection.request(
        subjects.api(verb),
        data,
        block=headers.encode(headers_) if headers_ else b"",
        timeout=20,
    )
    code = message.headers.get(api.ERROR_CODE) if message.block else None
    if code:
        error = msgspec.json.decode(message.data, type=api.ErrorBody).error
        assert message.headers[api.ERROR_TEXT]
        raise Refusal(code, error.type, error.message)
    return message.data


async def ask(connection: Connection, verb: str, answer: type[T], **request: Any) -> T:
    """A request of the API, answered."""
    data = await ask_raw(connection, verb, msgspec.json.encode(request))
    return msgspec.json.decode(data, type=answer)


def origin(task_id: str, *, message: str = "1-1", **fields: Any) -> Origin:
    """What a record says of its message."""
    values: dict[str, Any] = {
        "queue": "default",
        "priority": "normal",
        "submitted": datetime.now(UTC),
        "kind": "echo",
    }
    return Origin(id=task_id, message=message, **(values | fields))


async def append(js: JetStream, entry: record.Record) -> Last:
    """Store a record, fenced."""
    block = headers.fence(entry.id, entry.follows)
    # Hundreds at once, perhaps on a busy machine: the answer may be long in coming.
    ack = await js.store(entry.subject, record.encode(entry), block, 60.0)
    return Last(ack.seq, entry)


async def start(js: JetStream, of: Origin, *, actor: str = "w-1", last: Last = EMPTY) -> Last:
    """A task that runs."""
    return await append(js, entries.claimed(of, last, actor=actor, now=datetime.now(UTC)))


async def succeed(
    js: JetStream, of: Origin, last: Last, *, text: str = "done", spent: Spent | None = None
) -> Last:
    """A task that has ended."""
    now = datetime.now(UTC)
    entry = entries.follow(
        of,
        last,
        State.SUCCEEDED,
        actor="w-1",
        now=now,
        ended=now,
        text=text,
        spent=spent or Spent(usage=Usage(10, 20), cost_micro=5),
    )
    return await append(js, entry)


async def fill(js: JetStream, count: int, prefix: str = "t", **fields: Any) -> None:
    """`count` tasks that ran and succeeded: two records each."""
    gate = asyncio.Semaphore(500)

    async def one(number: int) -> None:
        async with gate:
            of = origin(f"{prefix}{number:05}", labels={"line": str(number)}, **fields)
            await succeed(js, of, await start(js, of), text="x" * 500)

    await asyncio.gather(*(one(number) for number in range(count)))
