"""Dead letters: found, grouped, retried and dropped without a master."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

import agentflow
from agentflow.client import Client
from agentflow.client.operate.deadletters import DeadFilter
from agentflow.errors import TaskError, TaskNotFound
from agentflow.handlers.contract import AttemptFailed, Outcome, Run
from agentflow.protocol import headers as blocks
from agentflow.protocol import subjects
from agentflow.protocol.record import EMPTY, Failure, Last, Usage
from agentflow.rules import records as entries
from agentflow.rules.retry import Signal
from tests.support.masters import origin
from tests.support.nats_server import NatsServer


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with agentflow.connect(nats_server.url) as opened:
        yield opened


class Broken:
    """Fails until it is mended, each time with another number in the text."""

    def __init__(self) -> None:
        self.mended = False
        self.count = 0

    async def __call__(self, run: Run) -> Outcome:
        self.count += 1
        run.usage = Usage(input_tokens=10)
        if self.mended:
            return Outcome(text="at last")
        status = run.task.params.get("status", 400)
        text = f"request {1000 + self.count} of 'task {self.count}' broke"
        failure = Failure(type="invalid_request_error", message=text, status=status)
        raise AttemptFailed(failure, Signal(status=status))


async def failed(client: Client, count: int, **fields: Any) -> list[str]:
    """Ids of so many tasks that failed, their letters stored."""
    tasks = [await client.submit("x", kind="broken", **fields) for _ in range(count)]
    for task in tasks:
        await task.result(20, raise_on_failure=False)
        while await client.js.last(subjects.DEAD, subjects.dead("*", task.id)) is None:
            await asyncio.sleep(0.01)
    return [task.id for task in tasks]


async def ids(client: Client, **wanted: Any) -> set[str]:
    return {letter.id async for letter in client.dead.letters(DeadFilter(**wanted))}


async def test_they_are_found_grouped_retried_and_dropped(
    client: Client, start_worker: Any
) -> None:
    broken = Broken()
    await start_worker({"broken": broken}, queues=["default", "other"], slots=50)
    first = await failed(client, 6, labels={"team": "a"})
    second = await failed(client, 3, queue="other", params={"status": 401}, max_attempts=1)
    everything = {*first, *second}

    assert await ids(client) == everything
    assert await ids(client, queue="other") == {*second}
    assert await ids(client, label={"team": "a"}) == {*first}
    assert await ids(client, label={"team": "b"}) == set()
    assert await ids(client, reason="invalid_request") == {*first}
    assert await ids(client, older_than=3600.0) == set()
    assert await ids(client, older_than=0.001) == everything

    most, least = await client.dead.groups()
    assert (most.count, most.status, most.type) == (6, 400, "invalid_request_error")
    assert most.message == "request <n> of <text> broke"
    assert (least.count, least.status, least.queues) == (3, 401, ["other"])
    assert await ids(client, fingerprint=least.fingerprint) == {*second}

    letter, record, payload = await client.dead.find(first[0])
    assert record is not None
    assert (letter.follows, letter.labels, letter.truncated) == (
        (await client.read(first[0])).sequence,
        {"team": "a"},
        False,
    )
    assert msgspec.json.decode(payload)["prompt"] == "x"

    # Retried, they fail again; the letters of that are not for this reading.
    outcomes = [each async for each in client.dead.retry(DeadFilter(queue="default"))]
    assert {each.id for each in outcomes if each.done} == {*first}
    for task_id in first:
        await client.task(task_id, newer_than=record.follows).result(20, raise_on_failure=False)
        while (await client.read(task_id)).state != "failed" or task_id not in await ids(client):
            await asyncio.sleep(0.01)
    assert broken.count == 6 + 3 + 6
    broken.mended = True
    again = await client.read(first[0])
    assert (await client.dead.retry_one(first[0])).done
    result = await client.task(first[0], newer_than=again.sequence).result(20)
    # Its history is kept.
    assert (result.text, result.attempts, result.failures) == ("at last", 3, 0)
    assert result.usage.input_tokens == 30
    outcome = await client.dead.retry_one(first[0])
    assert not outcome.done
    assert "only a failed one can be retried" in outcome.text

    assert (await client.dead.drop_one(second[0])).done
    assert not (await client.dead.drop_one(second[0])).done
    dropped = [each async for each in client.dead.drop(DeadFilter(reason="authentication"))]
    assert {each.id for each in dropped} == {*second[1:]}
    assert await ids(client) == {*first[1:]}
    assert (await client.read(second[0])).state == "failed"


async def test_a_server_nobody_has_used_has_none(client: Client) -> None:
    assert await ids(client) == set()
    with pytest.raises(TaskNotFound, match="task x has no dead letter"):
        await client.dead.find("x")


@pytest.mark.parametrize("nats_server", ["max_payload: 65536"], indirect=True)
async def test_a_letter_that_is_not_whole_is_not_retried(
    client: Client, nats_server: NatsServer, observer: Any
) -> None:
    log = observer.log_as("w-1")
    claim = await log.append(entries.claimed(origin("big"), EMPTY, actor="w-1", now=log.now()))
    error = Failure(type="handler", message="broke")
    last: Last = await log.append(
        entries.failed(
            origin("big"), claim, actor="w-1", now=log.now(), reason="handler_error", error=error
        )
    )
    block = blocks.encode({subjects.LABELS: '{"a":"b"}', subjects.NEEDS: "deadline"})
    await log.publish_dead(last, b"p" * 65_400, block)
    letter, _, payload = await client.dead.find("big")
    assert letter.truncated
    assert len(payload) < 65_400
    with pytest.raises(TaskError, match="too large to be kept whole; submit it anew"):
        await client.retry("big")
    assert (await client.dead.find("big"))[0].sequence == letter.sequence
    # With a payload of one's own it goes on, and nothing of the letter's marks goes with it.
    await client.retry("big", b"short")
    sent = await observer.js.last(subjects.TASKS, "agentflow.tasks.default")
    assert sent is not None
    assert sent.data == b"short"
    assert subjects.TRUNCATED not in sent.headers
