"""Pause, resume, drain and why, against real workers and a real master."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

import agentflow
from agentflow.client import Flow
from agentflow.errors import TaskNotFound, UsageError, WorkerNotFound
from agentflow.protocol import subjects
from agentflow.protocol.task import Task
from agentflow.rules import gates
from agentflow.rules.draining import DrainView
from agentflow.rules.gates import Closed
from tests.support import masters
from tests.support.handlers import Gate
from tests.support.masters import a_master, ready
from tests.support.nats_server import NatsServer


@pytest.fixture
async def flow(nats_server: NatsServer) -> AsyncIterator[Flow]:
    async with agentflow.connect(nats_server.url) as opened:
        yield opened


async def close(flow: Flow, name: str, until: datetime | None, reason: str = "auth") -> None:
    """What a worker writes whose credential was refused."""
    value = Closed(since=datetime.now(UTC), until=until, reason=reason, actor="w1")
    await flow.gates._board.change(f"closed.{name}", lambda _: msgspec.json.encode(value))


async def test_a_pause_holds_without_worker_or_master_and_is_lifted(
    flow: Flow, observer: Any, start_worker: Any, nats_server: NatsServer
) -> None:
    assert await flow.pauses() == []
    first = await flow.pause("one", reason="the disk is full")
    assert (first.what, first.name, first.reason) == ("queue", "one", "the disk is full")
    assert "@" in first.actor
    assert await flow.pause("one") == first  # since when stays
    await flow.pause(kind="my.kind")
    nats_server.kill()
    nats_server.start()
    await flow.connection.connected.wait()
    await start_worker(queues=["one", "two"])
    held = await flow.submit("x", kind="echo", queue="one")
    passes = await flow.submit("x", kind="echo", queue="two")
    await passes.result(20)
    assert (await flow.read(held.id)).record is None
    assert not await flow.unserved("one")  # nobody pulls, yet somebody would
    assert [gate.name for gate in await flow.pauses()] == ["my_kind", "one"]
    assert [gate.name for gate in await flow.resume("one")] == ["one"]
    await held.result(20)
    assert await flow.resume("one") == []
    assert [gate.name for gate in await flow.resume(kind="my.kind")] == ["my_kind"]
    for wrong in ({}, {"queue": "a", "kind": "b"}):
        with pytest.raises(UsageError):
            await flow.pause(**wrong)
    for name in ("Not A Queue", "a.b", ">"):
        with pytest.raises(UsageError):
            await flow.pause(name)


async def test_pools_are_opened_by_name_family_or_all(flow: Flow) -> None:
    await flow.pause("q")
    for name in ("main.opus", "main.haiku", "other.opus"):
        await close(flow, name, None)
    await close(flow, "past.opus", datetime.now(UTC) - timedelta(seconds=1), "rate")
    assert [gate.name for gate in await flow.pauses()] == [
        "main.haiku", "main.opus", "other.opus", "q",
    ]  # fmt: skip
    assert len(await flow.resume(pool="main.opus")) == 1
    assert await flow.resume(pool="mai") == []
    assert [gate.name for gate in await flow.resume(pool="main")] == ["main.haiku"]
    assert len(await flow.resume(all=True)) == 2
    assert await flow.pauses() == []
    with pytest.raises(UsageError):
        await flow.resume(pool="a.b.c")


async def test_stats_show_what_is_stopped(flow: Flow, nats_server: NatsServer) -> None:
    async with a_master(nats_server.url) as master:
        await ready(master)
        await flow.pause("q", reason="tests")
        await close(flow, "main.opus", None)

        async def told() -> bool:
            return len((await flow.stats()).gates) == 2

        async with asyncio.timeout(20):
            while not await told():
                pass
        pool, queue = (await flow.stats()).gates
        assert (pool.name, pool.reason, pool.until) == ("main.opus", "auth", None)
        assert (queue.key, queue.reason) == (gates.queue_key("q"), "tests")


async def test_a_drained_worker_finishes_what_it_runs(
    flow: Flow, observer: Any, start_worker: Any
) -> None:
    gate = Gate()
    worker = await start_worker({"gate": gate}, name="one", grace=30.0)
    other = await start_worker(name="two", queues=["second"])
    task = await flow.submit("x", kind="gate")
    await gate.started.wait()
    with pytest.raises(WorkerNotFound, match="there are one, two"):
        await flow.drain("three")
    (told,) = await _drained(flow, worker, "one")
    assert (told.name, told.actor, told.stopping) == ("one", worker.actor.name, False)
    # Told again it would hurry, and hand the task back.
    (told,) = await flow.drain(worker.actor.name)
    assert told.stopping
    assert not worker.actor.hurry.is_set()
    assert not other.actor.stopping.is_set()
    gate.opened.set()
    assert (await task.result(20)).ok


async def _drained(flow: Flow, worker: Any, name: str) -> Any:
    """Drain a worker of this process: its `run` would stop it."""

    async def stop() -> None:
        await worker.actor.stopping.wait()
        worker.actor.beat()  # as Actor.close does first

    stopping = asyncio.ensure_future(stop())
    found = await flow.drain(name)
    await stopping
    return found


async def test_why_without_a_master(flow: Flow, start_worker: Any) -> None:
    gate = Gate()
    worker = await start_worker({"gate": gate})
    task = await flow.submit("x", kind="gate")
    await gate.started.wait()
    found = await flow.why(task.id)
    assert (found.state, found.reason) == ("running", "running")
    assert worker.actor.name in found.text
    gate.opened.set()
    await task.result(20)
    assert (await flow.why(task.id)).reason == "succeeded"
    moment = datetime.now(UTC) + timedelta(hours=1)
    later = await flow.submit("x", kind="gate", not_before=moment)
    while (await flow.read(later.id)).record is None:
        pass
    found = await flow.why(later.id)
    assert (found.reason, found.until) == ("not_before", moment)
    with pytest.raises(TaskNotFound, match="no master answers"):
        await flow.why("unheard")


async def test_why_a_task_waits_its_turn(
    flow: Flow, start_worker: Any, nats_server: NatsServer
) -> None:
    async with a_master(nats_server.url) as master:
        await ready(master)
        lonely = await flow.submit("x", kind="echo", queue="lonely")
        assert (await flow.why(lonely.id)).reason == "no_worker"
        gate = Gate()
        await start_worker({"gate": gate}, slots=1)
        async with asyncio.timeout(20):
            while not await flow.workers():
                pass
        await masters.fill(flow.js, 10, queue="default")
        running = await flow.submit("x", kind="gate")
        await gate.started.wait()
        tasks = [await flow.submit("x", kind="gate") for _ in range(20)]
        # Bare and named subject are one priority, in the order of arrival.
        await flow.js.store(f"{subjects.task('default')}.normal", b'{"id": "named", "prompt": "x"}')
        for _ in range(3):
            await flow.submit("x", kind="gate", priority="high")
        last = await flow.submit("x", kind="gate")
        found = await flow.why(last.id)
        assert found.reason == "queued", found.text
        info = await flow.js.consumer_info(subjects.TASKS, "default-normal")
        taken = 22 - info["num_pending"]  # what the worker has fetched ahead
        high = (await flow.js.consumer_info(subjects.TASKS, "default-high"))["num_pending"]
        assert found.ahead == 21 - taken + high
        assert found.estimate_s is not None, found.text
        before = await flow.why(tasks[-1].id)
        assert before.ahead == found.ahead - 2
        await flow.pause("default")
        assert (await flow.why(last.id)).reason == "paused_queue"
        assert (await flow.why(running.id)).reason == "running"
        strange = await flow.submit("x", kind="strange")
        await flow.resume("default")
        found = await flow.why(strange.id)
        assert found.reason == "no_worker_for_kind", found.text
        gate.opened.set()
        await last.result(20)


class Routed(Gate):
    """Of a pool, as the handler of Claude is."""

    def route(self, task: Task) -> tuple[str, str]:
        return "main", "opus"


async def test_why_says_closed_and_until_when(
    flow: Flow, start_worker: Any, nats_server: NatsServer
) -> None:
    async with a_master(nats_server.url) as master:
        await ready(master)
        until = datetime.now(UTC) + timedelta(hours=1)
        await close(flow, "main.opus", until, "rate")
        worker = await start_worker({"claude": Routed()})
        task = await flow.submit("x", model="claude-opus-4-1")
        async with asyncio.timeout(20):
            while not worker._gates.held:
                await asyncio.sleep(0.01)
        found = await flow.why(task.id)
        assert (found.state, found.reason, found.until) == ("queued", "closed", until)
        assert "rate limit" in found.text
        await close(flow, "main.opus", None)
        found = await flow.why(task.id)
        assert (found.reason, found.until) == ("closed", None)
        assert "agentflow resume --pool main.opus" in found.text


async def test_a_drained_queue_runs_nothing_more_and_says_what_is_left(
    flow: Flow, start_worker: Any, nats_server: NatsServer
) -> None:
    gate = Gate()
    await start_worker({"slow": gate}, queues=["one", "two"], slots=2, name="w1")
    async with a_master(nats_server.url) as master:
        await ready(master)
        runs = await flow.submit("x", kind="slow", queue="one")
        await gate.started.wait()
        seen: list[DrainView] = []
        early = await flow.drain_tasks("one", reason="move", timeout=0.1, told=seen.append)
        assert not early.done
        assert (early.gate.what, early.gate.name, early.gate.reason) == ("queue", "one", "move")
        waits = await flow.submit("x", kind="echo", queue="one")

        said = asyncio.Event()

        def told(view: DrainView) -> None:
            seen.append(view)
            if view.running:
                said.set()

        draining = asyncio.create_task(flow.drain_tasks("one", told=told))
        async with asyncio.timeout(20):
            await said.wait()
        assert [(busy.name, busy.running) for busy in seen[-1].workers] == [("w1", 1)]
        assert not draining.done()
        await (await flow.submit("x", kind="echo", queue="two")).result(20)
        gate.opened.set()
        async with asyncio.timeout(30):
            found = await draining
        assert (found.done, found.running, found.waiting) == (True, 0, 1)
        assert found.gate.reason == "move"  # the earlier pause stands
        assert (await runs.result(20)).ok
        assert (await flow.read(waits.id)).record is None
        await flow.resume("one")
        assert (await waits.result(20)).ok


async def test_a_drained_kind_lets_the_others_pass(flow: Flow, start_worker: Any) -> None:
    gate = Gate()
    await start_worker({"slow": gate}, slots=4)
    await flow.submit("x", kind="slow")
    await gate.started.wait()
    draining = asyncio.create_task(flow.drain_tasks(kind="slow"))
    async with asyncio.timeout(20):
        while not await flow.pauses():
            await asyncio.sleep(0.02)
    held = await flow.submit("x", kind="slow")
    await (await flow.submit("x", kind="echo")).result(20)
    gate.opened.set()
    async with asyncio.timeout(30):
        found = await draining
    assert found.done
    assert found.waiting is None  # only of a queue does a master know that
    assert held.id not in [run.task.id for run in gate.runs]
    with pytest.raises(UsageError):
        await flow.drain_tasks("a", kind="b")
