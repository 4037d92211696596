"""Cancel: what waits never starts, what runs is hung up on, and who does not hear is fenced."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import agentflow
from agentflow.client import Client
from agentflow.client.operate.bulk import Selection
from agentflow.errors import TaskNotFound, UsageError
from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import control, subjects
from agentflow.protocol.control import Cancel, Held
from agentflow.protocol.record import Usage
from agentflow.simulator import Simulator
from tests.support.handlers import Gate
from tests.support.masters import a_master, ready
from tests.support.nats_server import NatsServer


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with agentflow.connect(nats_server.url) as opened:
        yield opened


async def test_an_answer_of_claude_is_hung_up_on_and_its_usage_kept(
    client: Client, start_worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentflow.handlers.claude.handler import ClaudeHandler

    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    async with Simulator() as simulator:
        simulator.set_mode({"tokens_per_s": 5})
        handler = ClaudeHandler(api_key="sk-ant-test-0123456789", base_url=simulator.url)
        await handler.start()
        try:
            worker = await start_worker({"claude": handler})
            task = await client.submit("Count to a thousand", max_tokens=1000)
            async for event in task.watch():
                if event.kind == "tokens":
                    break
            assert simulator.log.in_flight == 1
            began = time.monotonic()
            result = await task.cancel()
            await simulator.wait_for(lambda: simulator.log.in_flight == 0)
            took = time.monotonic() - began
        finally:
            await handler.close()
            gc.unfreeze()
        entry = simulator.stats().log[0]
    assert entry.disconnected
    assert took < 5  # it takes some ms; without cancelling, minutes
    assert result.state == "cancelled"
    assert result.actor == worker.actor.name
    assert result.usage.input_tokens > 0
    assert result.cost_usd is not None
    assert result.cost_usd > 0
    assert result.request_id


async def test_a_worker_that_does_not_hear_is_fenced(
    client: Client, observer: Any, start_worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()
    ended = asyncio.Event()

    async def deaf(run: Run) -> Outcome:
        run.usage = Usage(input_tokens=9)
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        ended.set()
        return Outcome(text="too late")

    monkeypatch.setattr("agentflow.client.tasks.steering.OWNER_WITHIN", 0.1)
    worker = await start_worker({"deaf": deaf}, lease=1.0)
    task = await client.submit(kind="deaf", params={"x": 1})
    await observer.until(lambda: observer.live.get(task.id))
    outcome = await client.tasks.steering.end(task.id)
    assert (outcome.result.state, outcome.already) == ("cancelled", False)
    assert outcome.result.actor == client.tasks._session.log.actor
    released.set()
    await ended.wait()
    await observer.becomes(lambda: _empty(observer))
    last = await client.read(task.id)
    assert last.sequence == outcome.result.sequence
    assert not len(worker._holding)


async def _empty(observer: Any) -> bool:
    return not (await observer.js.stream_info(subjects.TASKS))["state"]["messages"]


async def test_the_worker_answers_when_the_record_is_written(
    client: Client, observer: Any, start_worker: Any
) -> None:
    gate = Gate()
    worker = await start_worker({"gate": gate})
    task = await client.submit("x", kind="gate")
    await gate.started.wait()
    mailbox = subjects.control("worker", worker.actor.name)
    for task_id, expected in (("another", False), (task.id, True)):
        message = await client.connection.request(mailbox, control.encode(Cancel(id=task_id)))
        assert control.decode(message.data) == Held(holds=expected)
    record = (await client.read(task.id)).record
    assert record is not None
    assert (record.state, record.actor) == ("cancelled", worker.actor.name)


async def test_a_scheduled_task_is_cancelled_and_never_starts(
    client: Client, observer: Any, start_worker: Any
) -> None:
    gate = Gate()
    gate.opened.set()
    await start_worker({"gate": gate})
    moment = datetime.now(UTC) + timedelta(seconds=1)
    task = await client.submit("x", kind="gate", not_before=moment)
    other = await client.submit("y", kind="gate", not_before=moment + timedelta(seconds=0.3))
    for each in (task, other):
        await observer.becomes(
            lambda each=each: observer.js.last(subjects.SCHEDULE, f"agentflow.schedule.{each.id}.*")
        )
    assert (await client.cancel(task.id)).state == "cancelled"
    assert await observer.js.last(subjects.SCHEDULE, f"agentflow.schedule.{task.id}.*") is None
    # The second comes later, so by then the first would have started.
    await other.result(20)
    assert [run.task.id for run in gate.runs] == [other.id]
    assert (await client.get(task.id)).attempts == 0


async def test_many_by_filter_in_every_state(
    client: Client, nats_server: NatsServer, observer: Any, start_worker: Any
) -> None:
    gate = Gate()
    await start_worker({"gate": gate}, slots=2)
    async with a_master(nats_server.url) as master:
        await ready(master)
        mine = {"run": "mine"}
        later = datetime.now(UTC) + timedelta(hours=1)
        parked = await client.submit("x", kind="gate", labels=mine, not_before=later)
        await observer.becomes(
            lambda: observer.js.last(subjects.SCHEDULE, f"agentflow.schedule.{parked.id}.*")
        )
        tasks = [await client.submit("x", kind="gate", labels=mine) for _ in range(150)]
        kept = await client.submit("y", queue="other", kind="gate", labels={"run": "yours"})
        selection = Selection(label=mine)
        await observer.becomes(
            lambda: _counts(client, selection, {"queued": 148, "scheduled": 1, "running": 2})
        )
        outcomes = [each async for each in client.cancel_all(label=mine)]
        assert len(outcomes) == 151
        assert {each.result.state for each in outcomes} == {"cancelled"}
        assert {each.result.id for each in outcomes} == {each.id for each in (*tasks, parked)}
        # Those that ran kept their place; nothing else ever started.
        assert len(gate.runs) == 2
        assert (await client.get(kept.id)).state == "queued"
        assert await client.operate.bulk.count(Selection(queue="other")) == {"queued": 1}
        with pytest.raises(UsageError, match="'failed' cannot be cancelled"):
            await client.operate.bulk.count(Selection(states=("failed",)))
        found = dict(
            [each async for each in client.operate.bulk.cancel_ids([kept.id, "unheard", kept.id])]
        )
        assert isinstance(found["unheard"], TaskNotFound)
        assert found[kept.id].result.state == "cancelled"  # type: ignore[union-attr]


async def _counts(client: Client, selection: Selection, expected: dict[str, int]) -> bool:
    return await client.operate.bulk.count(selection) == expected
