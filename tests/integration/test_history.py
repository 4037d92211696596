"""The past and the payloads, read from the streams: exact, and from wherever they lie."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentflow.bus.streams.pages import stored_ns
from agentflow.client import Client
from agentflow.config import Connect
from agentflow.protocol import limits, subjects
from agentflow.protocol.identity import message_identity
from agentflow.protocol.record import State
from agentflow.rules.retry import Signal
from agentflow.views.row import Row, from_record
from tests.integration.conftest import StartWorker
from tests.support import masters
from tests.support.fold import messages
from tests.support.handlers import Gate, failing
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def client(nats_server: NatsServer, observer: Observer) -> AsyncIterator[Client]:
    async with Client(Connect(urls=(nats_server.url,))) as found:
        yield found


async def test_a_server_without_records_has_no_past(nats_server: NatsServer) -> None:
    async with Client(Connect(urls=(nats_server.url,))) as client:
        assert await client.history.span() is None
        assert await client.prompt("t1") is None
        observer = await Observer.open(nats_server.url)
        assert await client.history.span() is None
        assert await client.history.locate(datetime.now(UTC)) == 1
        assert await client.history.rows(1, 10) == []
        assert await client.history.log("t1") == []
        await observer.close()


async def test_every_record_is_a_row_at_the_time_it_was_stored(
    client: Client, observer: Observer
) -> None:
    await masters.fill(observer.js, 700)
    await observer.js.delete(subjects.RECORDS, 600)
    stored = await messages(observer.js, subjects.RECORDS)
    wanted = [
        from_record(
            message.headers["Nats-Subject"],
            int(message.headers["Nats-Sequence"]),
            stored_ns(message) // 1_000_000,
            message.data,
            detailed=True,
        )
        for message in stored
    ]
    span = await client.history.span()
    assert span is not None
    assert (span.first, span.last) == (1, 1_400)
    assert round(span.first_at.timestamp() * 1000) - wanted[0].updated in (0, 1)
    assert round(span.last_at.timestamp() * 1000) - wanted[-1].updated in (0, 1)

    read: list[Row] = []
    while rows := await client.history.rows(read[-1].sequence + 1 if read else 1, 611):
        assert len(rows) in (611, 1_399 - 2 * 611)
        read += rows
    assert read == wanted
    assert [row.sequence for row in await client.history.rows(599, 2)] == [599, 601]

    # The first record of each millisecond, and what lies between.
    for row in (wanted[0], wanted[555], wanted[-1]):
        at = datetime.fromtimestamp(row.updated / 1000, UTC)
        sequence = await client.history.locate(at)
        assert sequence == min(
            int(message.headers["Nats-Sequence"])
            for message in stored
            if stored_ns(message) >= row.updated * 1_000_000
        )
    assert await client.history.locate(span.first_at - timedelta(days=1)) == 1
    assert await client.history.locate(span.last_at + timedelta(days=1)) == 1_401


async def test_a_whole_log_is_read_in_its_order(client: Client, observer: Observer) -> None:
    of = masters.origin("t1")
    last = await masters.start(observer.js, of)
    await masters.fill(observer.js, 20)
    await masters.succeed(observer.js, of, last)
    log = await client.history.log("t1")
    assert [(sequence, record.state) for sequence, record in log] == [
        (entry.sequence, entry.state) for entry in await observer.log("t1")
    ]
    assert [record.state for _, record in log] == ["running", "succeeded"]


async def test_the_prompt_is_found_wherever_it_lies(
    nats_server: NatsServer, client: Client, observer: Observer, start_worker: StartWorker
) -> None:
    gate = Gate()
    task: dict[str, Any] = {"prompt": "do this", "labels": {"a": "b"}}

    async def told(task_id: str, **known: str) -> str | None:
        body = await client.prompt(task_id, **known)
        assert body is None or body.labels == {"a": "b"}
        return None if body is None else body.prompt

    ack = await observer.submit({**task, "id": "waits", "kind": "gate"})
    identity = message_identity(ack.seq, await observer.stored_ns(ack.seq))
    assert await told("waits") is None  # nobody knows where it is
    assert await told("waits", message=identity) == "do this"
    assert await told("waits", message=message_identity(ack.seq, 1)) is None
    assert await told("waits", message="nonsense") is None
    async with masters.a_master(nats_server.url) as found:
        await masters.ready(found)
        assert await told("waits") == "do this"

    await start_worker({"gate": gate, "fails": failing(Signal(status=400))})
    await observer.state("waits", State.RUNNING)
    assert await told("waits") == "do this"
    gate.opened.set()
    await observer.ended("waits")
    assert await told("waits") is None

    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await observer.submit({**task, "id": "later", "kind": "echo", "not_before": later})
    await observer.state("later", State.SCHEDULED)
    await observer.becomes(lambda: schedules(observer, 1))
    assert await told("later") == "do this"

    await observer.submit({**task, "id": "dead", "kind": "fails"})
    await observer.state("dead", State.FAILED)
    await observer.becomes(lambda: observer.dead("dead"))
    assert await told("dead") == "do this"


async def schedules(observer: Observer, count: int) -> bool:
    return await observer.messages(subjects.SCHEDULE) == count


async def test_what_is_no_task_is_shown_as_it_is(client: Client, observer: Observer) -> None:
    ack = await observer.submit(b'{"prompt": \xff', {"Agentflow-Id": "bad"})
    identity = message_identity(ack.seq, await observer.stored_ns(ack.seq))
    body = await client.prompt("bad", message=identity)
    assert body is not None
    assert body.prompt == '{"prompt": \N{REPLACEMENT CHARACTER}'
    assert len(body.prompt) < limits.TASK_BYTES
