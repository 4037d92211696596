"""Pause, resume, drain and why, against real workers and a real master."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

import agentflow
from agentflow.client import Client
from agentflow.errors import TaskNotFound, UsageError, WorkerNotFound
from agentflow.protocol import subjects
from agentflow.protocol.task import Task
from agentflow.rules.draining import DrainView
from agentflow.rules.routes import gates
from agentflow.rules.routes.closures import Closed
from agentflow.rules.routes.route import Route
from tests.support import masters
from tests.support.handlers import Gate
from tests.support.masters import a_master, ready
from tests.support.nats_server import NatsServer


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with agentflow.connect(nats_server.url) as opened:
        yield opened


async def close(client: Client, name: str, until: datetime | None, reason: str = "auth") -> None:
    """What a worker writes whose credential was refused."""
    value = Closed(since=datetime.now(UTC), until=until, reason=reason, actor="w1")
    await client.operate.pauses._board.change(
        f"closed.{name}", lambda _: msgspec.json.encode(value)
    )


async def test_a_pause_holds_without_worker_or_master_and_is_lifted(
    client: Client, observer: Any, start_worker: Any, nats_server: NatsServer
) -> None:
    assert await client.pauses() == []
    first = await client.pause("one", reason="the disk is full")
    assert (first.what, first.name, first.reason) == ("queue", "one", "the disk is full")
    assert "@" in first.actor
    assert await client.pause("one") == first  # since when stays
    await client.pause(kind="my.kind")
    nats_server.kill()
    nats_server.start()
    await client.connection.connected.wait()
    await start_worker(queues=["one", "two"])
    held = await client.submit("x", kind="echo", queue="one")
    passes = await client.submit("x", kind="echo", queue="two")
    await passes.result(20)
    assert (await client.read(held.id)).record is None
    assert not await client.unserved("one")  # nobody pulls, yet somebody would
    assert [gate.name for gate in await client.pauses()] == ["my_kind", "one"]
    assert [gate.name for gate in await client.resume("one")] == ["one"]
    await held.result(20)
    assert await client.resume("one") == []
    assert [gate.name for gate in await client.resume(kind="my.kind")] == ["my_kind"]
    for wrong in ({}, {"queue": "a", "kind": "b"}):
        with pytest.raises(UsageError):
            await client.pause(**wrong)
    for name in ("Not A Queue", "a.b", ">"):
        with pytest.raises(UsageError):
            await client.pause(name)


async def test_pools_are_opened_by_name_family_or_all(client: Client) -> None:
    await client.pause("q")
    for name in ("main.opus", "main.haiku", "other.opus"):
        await close(client, name, None)
    await close(client, "past.opus", datetime.now(UTC) - timedelta(seconds=1), "rate")
    assert [gate.name for gate in await client.pauses()] == [
        "main.haiku", "main.opus", "other.opus", "q",
    ]  # fmt: skip
    assert len(await client.resume(pool="main.opus")) == 1
    assert await client.resume(pool="mai") == []
    assert [gate.name for gate in await client.resume(pool="main")] == ["main.haiku"]
    assert len(await client.resume(all=True)) == 2
    assert await client.pauses() == []
    with pytest.raises(UsageError):
        await client.resume(pool="a.b.c")


async def test_stats_show_what_is_stopped(client: Client, nats_server: NatsServer) -> None:
    async with a_master(nats_server.url) as master:
        await ready(master)
        await client.pause("q", reason="tests")
        await close(client, "main.opus", None)

        async def told() -> bool:
            return len((await client.stats()).gates) == 2

        async with asyncio.timeout(20):
            while not await told():
                pass
        pool, queue = (await client.stats()).gates
        assert (pool.name, pool.reason, pool.until) == ("main.opus", "auth", None)
        assert (queue.key, queue.reason) == (gates.queue_key("q"), "tests")


async def test_a_drained_worker_finishes_what_it_runs(
    client: Client, observer: Any, start_worker: Any
) -> None:
    gate = Gate()
    worker = await start_worker({"gate": gate}, name="one", grace=30.0)
    other = await start_worker(name="two", queues=["second"])
    task = await client.submit("x", kind="gate")
    await gate.started.wait()
    with pytest.raises(WorkerNotFound, match="there are one, two"):
        await client.drain("three")
    (told,) = await _drained(client, worker, "one")
    assert (told.name, told.actor, told.stopping) == ("one", worker.actor.name, False)
    # Told again it would hurry, and hand the task back.
    (told,) = await client.drain(worker.actor.name)
    assert told.stopping
    assert not worker.actor.hurry.is_set()
    assert not other.actor.stopping.is_set()
    gate.opened.set()
    assert (await task.result(20)).ok


async def _drained(client: Client, worker: Any, name: str) -> Any:
    """Drain a worker of this process: its `run` would stop it."""

    async def stop() -> None:
        await worker.actor.stopping.wait()
        worker.actor.beat()  # as Actor.close does first

    stopping = asyncio.ensure_future(stop())
    found = await client.drain(name)
    await stopping
    return found


async def test_why_without_a_master(client: Client, start_worker: Any) -> None:
    gate = Gate()
    worker = await start_worker({"gate": gate})
    task = await client.submit("x", kind="gate")
    await gate.started.wait()
    found = await client.why(task.id)
    assert (found.state, found.reason) == ("running", "running")
    assert worker.actor.name in found.text
    gate.opened.set()
    await task.result(20)
    assert (await client.why(task.id)).reason == "succeeded"
    moment = datetime.now(UTC) + timedelta(hours=1)
    later = await client.submit("x", kind="gate", not_before=moment)
    while (await client.read(later.id)).record is None:
        pass
    found = await client.why(later.id)
    assert (found.reason, found.until) == ("not_before", moment)
    with pytest.raises(TaskNotFound, match="no master answers"):
        await client.why("unheard")


async def test_why_a_task_waits_its_turn(
    client: Client, start_worker: Any, nats_server: NatsServer
) -> None:
    async with a_master(nats_server.url) as master:
        await ready(master)
        lonely = await client.submit("x", kind="echo", queue="lonely")
        assert (await client.why(lonely.id)).reason == "no_worker"
        gate = Gate()
        await start_worker({"gate": gate}, slots=1)
        async with asyncio.timeout(20):
            while not await client.workers():
                pass
        await masters.fill(client.js, 10, queue="default")
        running = await client.submit("x", kind="gate")
        await gate.started.wait()
        tasks = [await client.submit("x", kind="gate") for _ in range(20)]
        # Bare and named subject are one priority, in the order of arrival.
        await client.js.store(
            f"{subjects.task('default')}.normal", b'{"id": "named", "prompt": "x"}'
        )
        for _ in range(3):
            await client.submit("x", kind="gate", priority="high")
        last = await client.submit("x", kind="gate")
        found = await client.why(last.id)
        assert found.reason == "queued", found.text
        info = await client.js.consumer_info(subjects.TASKS, "default-normal")
        taken = 22 - info["num_pending"]  # what the worker has fetched ahead
        high = (await client.js.consumer_info(subjects.TASKS, "default-high"))["num_pending"]
        assert found.ahead == 21 - taken + high
        assert found.estimate_s is not None, found.text
        before = await client.why(tasks[-1].id)
        assert before.ahead == found.ahead - 2
        await client.pause("default")
        assert (await client.why(last.id)).reason == "paused_queue"
        assert (await client.why(running.id)).reason == "running"
        strange = await client.submit("x", kind="strange")
        await client.resume("default")
        found = await client.why(strange.id)
        assert found.reason == "no_worker_for_kind", found.text
        gate.opened.set()
        await last.result(20)


class Routed(Gate):
    """Of a pool, as the handler of Claude is."""

    def route(self, task: Task) -> Route:
        return Route("main", "opus")


async def test_why_says_closed_and_until_when(
    client: Client, start_worker: Any, nats_server: NatsServer
) -> None:
    async with a_master(nats_server.url) as master:
        await ready(master)
        until = datetime.now(UTC) + timedelta(hours=1)
        await close(client, "main.opus", until, "rate")
        worker = await start_worker({"claude": Routed()})
        task = await client.submit("x", model="claude-opus-4-1")
        async with asyncio.timeout(20):
            while not worker._gates.held:
                await asyncio.sleep(0.01)
        found = await client.why(task.id)
        assert (found.state, found.reason, found.until) == ("queued", "closed", until)
        assert "rate limit" in found.text
        await close(client, "main.opus", None)
        found = await client.why(task.id)
        assert (found.reason, found.until) == ("closed", None)
        assert "agentflow resume --pool main.opus" in found.text


async def test_a_drained_queue_runs_nothing_more_and_says_what_is_left(
    client: Client, start_worker: Any, nats_server: NatsServer
) -> None:
    gate = Gate()
    await start_worker({"slow": gate}, queues=["one", "two"], slots=2, name="w1")
    async with a_master(nats_server.url) as master:
        await ready(master)
        runs = await client.submit("x", kind="slow", queue="one")
        await gate.started.wait()
        seen: list[DrainView] = []
        early = await client.drain_tasks("one", reason="move", timeout=0.1, told=seen.append)
        assert not early.done
        assert (early.gate.what, early.gate.name, early.gate.reason) == ("queue", "one", "move")
        waits = await client.submit("x", kind="echo", queue="one")

        said = asyncio.Event()

        def told(view: DrainView) -> None:
            seen.append(view)
            if view.running:
                said.set()

        draining = asyncio.create_task(client.drain_tasks("one", told=told))
        async with asyncio.timeout(20):
            await said.wait()
        assert [(busy.name, busy.running) for busy in seen[-1].workers] == [("w1", 1)]
        assert not draining.done()
        await (await client.submit("x", kind="echo", queue="two")).result(20)
        gate.opened.set()
        async with asyncio.timeout(30):
            found = await draining
        assert (found.done, found.running, found.waiting) == (True, 0, 1)
        assert found.gate.reason == "move"  # the earlier pause stands
        assert (await runs.result(20)).ok
        assert (await client.read(waits.id)).record is None
        await client.resume("one")
        assert (await waits.result(20)).ok


async def test_a_drained_kind_lets_the_others_pass(client: Client, start_worker: Any) -> None:
    gate = Gate()
    await start_worker({"slow": gate}, slots=4)
    await client.submit("x", kind="slow")
    await gate.started.wait()
    draining = asyncio.create_task(client.drain_tasks(kind="slow"))
    async with asyncio.timeout(20):
        while not await client.pauses():
            await asyncio.sleep(0.02)
    held = await client.submit("x", kind="slow")
    await (await client.submit("x", kind="echo")).result(20)
    gate.opened.set()
    async with asyncio.timeout(30):
        found = await draining
    assert found.done
    assert found.waiting is None  # only of a queue does a master know that
    assert held.id not in [run.task.id for run in gate.runs]
    with pytest.raises(UsageError):
        await client.drain_tasks("a", kind="b")
