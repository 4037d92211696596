"""Acts leave a trace: a cancelled or dropped task says what it was, and who ended it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from agentflow.audit import verify
from agentflow.bus.wire.message import Message
from agentflow.client import Client
from agentflow.client.operate.bulk import Selection
from agentflow.client.operate.deadletters import EVERYTHING
from agentflow.client.session import orderer
from agentflow.client.tasks.queued import Queue
from agentflow.config import Connect
from agentflow.errors import TaskNotFound
from agentflow.protocol import subjects
from agentflow.protocol.record import EMPTY, Failure, Record, State
from agentflow.rules import records as entries
from tests.support import masters
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def client(nats_server: NatsServer, observer: Observer) -> AsyncIterator[Client]:
    async with Client(Connect(urls=(nats_server.url,))) as found:
        yield found


async def last(client: Client, task_id: str) -> Record:
    record = (await client._parts.session.log.read(task_id)).record
    assert record is not None
    return record


async def fail(client: Client, task_id: str) -> None:
    """A task that ended without success, and its letter."""
    await client.submit("x", id=task_id, kind="echo")
    found = await Queue(client._parts.session, client._parts.asking).find(task_id)
    assert found is not None
    stored = await client.js.get(subjects.TASKS, found.sequence)
    assert stored is not None
    error = Failure(type="ValueError", message="no")
    now = datetime.now(UTC)
    entry = entries.failed(found.origin, EMPTY, actor="w", now=now, reason="error", error=error)
    await client._parts.session.log.fail(
        entry, Message(stored.subject, "", stored.data, stored.block)
    )
    await client.js.delete(subjects.TASKS, found.sequence)


async def is_traced(client: Client, task_id: str) -> None:
    record = await last(client, task_id)
    assert record.state == State.CANCELLED
    assert (record.queue, record.priority, record.kind) == ("q1", "high", "echo")
    assert record.labels == {"job": "a"}
    assert record.title == "hello there"
    assert record.by == orderer()
    assert record.asked is not None
    assert record.timings.submitted is not None
    report = await verify(client.js)
    assert report.kept, report.findings


@pytest.mark.parametrize("how", ["handle", "id", "by reading the queue", "plain"])
async def test_a_task_cancelled_in_its_queue_says_what_it_was(client: Client, how: str) -> None:
    if how == "plain":
        # As any NATS client may: its id stands in the payload alone.
        body = b'{"id": "c1", "kind": "echo", "prompt": "hello there", "labels": {"job": "a"}}'
        await client.connection.request("agentflow.tasks.q1.high", body)
        await client.cancel("c1")
    else:
        handle = await client.submit(
            "hello there", id="c1", queue="q1", priority="high", kind="echo", labels={"job": "a"}
        )
        await (handle.cancel() if how == "handle" else client.cancel("c1"))
    await is_traced(client, "c1")
    info = await client.js.stream_info(subjects.TASKS)
    assert info["state"]["messages"] == 0


async def test_many_cancelled_at_once_keep_what_they_were(
    client: Client, nats_server: NatsServer
) -> None:
    async with masters.a_master(nats_server.url):
        for number in range(40):
            await client.submit(
                "hello there",
                id=f"c{number}",
                queue="q1",
                priority="high",
                kind="echo",
                labels={"job": "a"},
            )
        while (await client.stats()).counts.get("queued") != 40:
            await asyncio.sleep(0.05)
        ended = [each async for each in client.operate.bulk.cancel(Selection(queue="q1"))]
        assert len(ended) == 40
    for number in (0, 39):
        await is_traced(client, f"c{number}")


async def test_a_dropped_letter_leaves_who_dropped_it(client: Client) -> None:
    for number in range(3):
        await fail(client, f"f{number}")
    dropped = [each async for each in client.dead.drop(EVERYTHING)]
    assert [each.done for each in dropped] == [True] * 3
    record = await last(client, "f1")
    assert record.state == State.FAILED
    assert record.dropped
    assert record.by == orderer()
    assert record.error is not None
    with pytest.raises(TaskNotFound, match="dropped the dead letter"):
        await client.retry("f1")
    report = await verify(client.js)
    assert report.kept, report.findings
    assert report.figures.letters_dropped == 3


async def test_a_letter_that_is_deleted_without_a_word_is_found(client: Client) -> None:
    await fail(client, "f1")
    await client.js.purge(subjects.DEAD, "agentflow.dead.>")
    report = await verify(client.js)
    assert [finding.kind for finding in report.findings] == ["no dead letter"]
