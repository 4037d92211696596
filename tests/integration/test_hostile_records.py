"""One bad record, subject or number costs one row, and blinds nobody.

Whoever may write records may write anything, and a server in between lets any byte by in a subject.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

import agentflow
from agentflow.bus.streams.jetstream import JetStream
from agentflow.client import Client
from agentflow.master import Master
from agentflow.protocol import record
from tests.support import masters
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.until import until

pytestmark = pytest.mark.timeout(60)

FINE = {
    "v": 1,
    "id": "x",
    "state": "failed",
    "attempt": 1,
    "failures": 1,
    "actor": "a",
    "follows": 0,
    "message": "1-1",
    "time": "2026-01-01T00:00:00Z",
    "queue": "default",
    "priority": "normal",
    "kind": "echo",
    "labels": {},
    "usage": {},
    "cost_usd": 0,
    "timings": {},
    "error": {"type": "x", "message": "x"},
}
HUGE = 10**19
BAD: dict[str, tuple[bytes, dict[str, object]]] = {
    "attempt": (b"bad", {"attempt": HUGE}),
    "a negative attempt": (b"bad", {"attempt": -1}),
    "failures": (b"bad", {"failures": 2**63}),
    "follows": (b"bad", {"follows": HUGE}),
    "tokens": (b"bad", {"usage": {"output_tokens": HUGE}}),
    "tokens far below nothing": (b"bad", {"usage": {"input_tokens": -HUGE}}),
    "cost": (b"bad", {"cost_usd": 1e300}),
    "a run of ages": (b"bad", {"timings": {"run_s": 1e300}}),
    "the year 9999": (b"bad", {"timings": {"submitted": "9999-12-31T23:59:59-14:00"}}),
    "the year 1": (b"bad", {"timings": {"ended": "0001-01-01T00:00:00+14:00"}}),
    "resumes in the year 1": (b"bad", {"resume_at": "0001-01-01T00:00:00+14:00"}),
    "an id that is an escape": (b"\x1bx", {"id": "\x1bx"}),
    "an id of 1,200 characters": (b"A" * 1200, {"id": "A" * 1200}),
    "an id that is not UTF-8": (b"\xff\xfe", {}),
    "an id of empty tokens' likes": (b"a.b.c.d", {}),
    "an actor with a blank": (b"bad", {"actor": "a b", "state": "running"}),
    "an actor that is a wildcard": (b"bad", {"actor": "*.>", "state": "running"}),
    "an actor with a line break": (b"bad", {"actor": "a\r\nPUB x 0", "state": "running"}),
    "words of control characters": (b"bad", {"queue": "\x1b[2J", "kind": "\x00", "model": "\x9b"}),
    "no JSON": (b"bad", {"": 1}),
}


async def publish(server: NatsServer, subject: bytes, data: bytes) -> None:
    """As bytes: no client would let some of these subjects by."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    writer.write(b"PUB %s %d\r\n%s\r\nPING\r\n" % (subject, len(data), data))
    while (line := await reader.readline()) and not line.startswith(b"PONG"):
        assert not line.startswith(b"-ERR"), line
    writer.close()


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with agentflow.connect(nats_server.url) as found:
        yield found


async def lists(master: Master, client: Client, task_id: str) -> None:
    """Wait until the index knows a task, and see that lists show it."""
    await until(lambda: master.index.get(task_id) is not None)
    listed = [result.id for result in await client.list()]
    assert task_id in listed, listed
    assert (await client.stats()).ready


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_record_costs_one_row(
    name: str, nats_server: NatsServer, observer: Observer, client: Client
) -> None:
    task_id, fields = BAD[name]
    data = b"{" if name == "no JSON" else msgspec.json.encode({**FINE, **fields})
    js = JetStream(observer.connection)
    async with masters.a_master(nats_server.url) as master:
        await masters.ready(master)
        await publish(nats_server, b"agentflow.results." + task_id, data)
        of = masters.origin("later")
        await masters.succeed(js, of, await masters.start(js, of))
        await lists(master, client, "later")
    async with masters.a_master(nats_server.url) as again:
        await masters.ready(again)
        await lists(again, client, "later")


async def test_a_task_on_a_queue_that_is_not_utf8_hides_no_other(
    nats_server: NatsServer, client: Client
) -> None:
    async with masters.a_master(nats_server.url) as master:
        await masters.ready(master)
        await publish(nats_server, b"agentflow.tasks.\xff\xfe", b"x")
        await publish(nats_server, b"agentflow.tasks.nobody", b'{"id": "waits", "prompt": "x"}')
        await lists(master, client, "waits")
    async with masters.a_master(nats_server.url) as again:
        await masters.ready(again)
        await lists(again, client, "waits")


def test_a_number_beyond_all_columns_makes_a_record_unreadable_and_no_other() -> None:
    data = msgspec.json.encode({**FINE, "attempt": HUGE})
    assert not record.decode(data, "agentflow.results.x").readable
    assert record.decode(msgspec.json.encode(FINE), "agentflow.results.x").readable
