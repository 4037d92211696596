"""How a run is interrupted: the worker stops, somebody cancels, time is up."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agentflow.handlers.contract import Handler, Outcome, Run
from agentflow.protocol import headers as blocks
from agentflow.protocol import subjects
from agentflow.protocol.control import Cancel, encode
from agentflow.protocol.record import State, Usage
from agentflow.worker.worker import Worker
from tests.integration.conftest import StartWorker
from tests.support.handlers import Gate, opened
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(45)


async def test_the_stop_hands_back_and_another_finishes(
    observer: Observer, start_worker: StartWorker
) -> None:
    gate = Gate()

    async def spender(run: Run) -> Outcome:
        run.usage = Usage(input_tokens=10)
        return await gate(run)

    first = await start_worker({"tested": spender}, grace=0.05, slots=2)
    for task_id in ("it", "too"):
        await observer.submit({"prompt": "x", "kind": "tested", "id": task_id})
        await observer.state(task_id, State.RUNNING)
    await first.actor.close()
    for task_id in ("it", "too"):
        handed = (await observer.state(task_id, State.QUEUED)).record
        assert handed is not None
        assert (handed.attempt, handed.failures) == (0, 0)
        assert (handed.reason, handed.usage.input_tokens) == ("handed_back", 10)
    assert first.stuck == 0

    gate.opened.set()
    second = await start_worker({"tested": spender})
    # The lease of 15 s has not run out: it was handed back, not lost.
    for task_id in ("it", "too"):
        ended = await observer.ended(task_id, within=10)
        assert (ended.attempt, ended.failures, ended.actor) == (1, 0, second.actor.name)
        assert ended.usage.input_tokens == 20
    await observer.at_rest()


async def test_a_stop_lets_finish_what_can(observer: Observer, start_worker: StartWorker) -> None:
    gate = Gate()
    worker = await start_worker({"tested": gate}, grace=30)
    await observer.submit({"prompt": "x", "kind": "tested", "id": "it"})
    await gate.started.wait()
    stopping = asyncio.create_task(worker.actor.close())
    await worker.actor.stopping.wait()
    await observer.submit({"prompt": "x", "kind": "echo", "id": "not"})
    gate.opened.set()
    await stopping
    assert await observer.states("it") == [State.RUNNING, State.SUCCEEDED]
    assert await observer.states("not") == []
    assert await observer.messages() == 1


async def test_a_second_word_to_stop_is_faster(
    observer: Observer, start_worker: StartWorker
) -> None:
    gate = Gate()
    worker = await start_worker({"tested": gate}, grace=600)
    await observer.submit({"prompt": "x", "kind": "tested", "id": "it"})
    await gate.started.wait()
    stopping = asyncio.create_task(worker.actor.close())
    await worker.actor.stopping.wait()
    worker.actor.stop()
    await stopping
    assert await observer.states("it") == [State.RUNNING, State.QUEUED]


async def test_a_handler_that_does_not_end_is_left_to_the_lease(
    observer: Observer, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed = asyncio.Event()

    async def stubborn(run: Run) -> Outcome:
        while not freed.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await freed.wait()
        return Outcome()

    monkeypatch.setattr("agentflow.worker.worker.HAND_BACK", 0.2)
    worker = await start_worker({"tested": stubborn}, grace=0.05)
    await observer.submit({"prompt": "x", "kind": "tested", "id": "it"})
    await observer.state("it", State.RUNNING)
    async with asyncio.timeout(15):
        await worker.actor.close()
    assert worker.stuck == 1
    assert await observer.states("it") == [State.RUNNING]
    freed.set()


async def test_a_cancel_hint_keeps_the_usage(observer: Observer, start_worker: StartWorker) -> None:
    gate = Gate()

    async def spender(run: Run) -> Outcome:
        run.usage = Usage(input_tokens=10)
        run.cost_micro = 5
        return await gate(run)

    worker = await start_worker({"tested": spender}, slots=1)
    await observer.submit({"prompt": "x", "kind": "tested", "id": "it"})
    await gate.started.wait()
    mailbox = subjects.control("worker", worker.actor.name)
    observer.connection.publish(mailbox, encode(Cancel("it")))
    ended = await observer.ended("it")
    assert (ended.state, ended.attempt) == (State.CANCELLED, 1)
    assert (ended.usage.input_tokens, ended.cost_usd) == (10, 0.000005)
    assert len(gate.ended) == 1
    await observer.submit("good", {subjects.ID: "good"})
    assert (await observer.ended("good")).state == State.SUCCEEDED
    await observer.at_rest()


async def _never_returns(run: Run) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError


async def _turns_it_into_an_error(run: Run) -> Outcome:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ConnectionError("cut off") from None
    raise AssertionError


async def _reports_without_a_pause(run: Run) -> Outcome:
    while True:
        await run.progress(0.5)


@pytest.mark.parametrize(
    "handler", [_never_returns, _turns_it_into_an_error, _reports_without_a_pause]
)
@pytest.mark.parametrize("way", ["cancel", "stop", "timeout"])
async def test_an_interruption_whatever_the_handler_does(
    observer: Observer, start_worker: StartWorker, handler: Handler, way: str
) -> None:
    """A report of progress under way is finished first: what ends the run follows it."""
    worker = await start_worker({"tested": handler}, grace=0.0)
    fields = {"timeout": 0.2, "max_attempts": 1} if way == "timeout" else {}
    await observer.submit({"prompt": "x", "kind": "tested", "id": "it", **fields})
    await observer.state("it", State.RUNNING)
    match way:
        case "cancel":
            mailbox = subjects.control("worker", worker.actor.name)
            observer.connection.publish(mailbox, encode(Cancel("it")))
            assert (await observer.ended("it")).state == State.CANCELLED
        case "stop":
            await worker.actor.close()
            assert (await observer.last("it")).state == State.QUEUED
        case _:
            ended = await observer.ended("it")
            assert ended.error is not None
            assert (ended.state, ended.error.type) == (State.FAILED, "timeout")
    log = await observer.log("it")
    for before, entry in itertools.pairwise(log):
        assert entry.record is not None
        assert entry.record.follows == before.sequence


async def test_a_cancel_before_the_handler_starts(
    observer: Observer, start_worker: StartWorker
) -> None:
    """The hint may come while the claim is being written; the handler must not start then."""
    gate = Gate()
    worker = await start_worker({"tested": gate})
    log = worker._log
    claimed: Callable[..., Awaitable[Any]] = log.append

    async def append(*arguments: Any) -> Any:
        last = await claimed(*arguments)
        for held in worker._holding.of_task("it"):
            assert held.run is None
            worker._receive(Cancel("it"))
        return last

    log.append = append  # type: ignore[method-assign]
    await observer.submit({"prompt": "x", "kind": "tested", "id": "it"})
    ended = await observer.ended("it")
    log.append = claimed  # type: ignore[method-assign]
    assert ended.state == State.CANCELLED
    assert gate.runs == []


@pytest.fixture
async def paused(observer: Observer) -> str:
    """The kind `tested` is paused; gives the subject of the key."""
    key = subjects.kv("pause.kind.tested")
    await observer.js.store(key, b'{"v": 1, "from": "2026-01-01T00:00:00Z"}')
    return key


async def held_at_a_gate(observer: Observer, worker: Worker) -> None:
    async def held() -> bool:
        return worker.actor.heartbeat().held == 1

    await observer.submit({"prompt": "x", "kind": "tested", "id": "it"})
    await observer.becomes(held)


async def test_the_stop_does_not_wait_for_what_waits_itself(
    observer: Observer, start_worker: StartWorker, paused: str
) -> None:
    gate = opened()
    first = await start_worker({"tested": gate}, grace=600)
    await held_at_a_gate(observer, first)
    await first.actor.close()
    assert await observer.log("it") == []
    assert gate.runs == []
    second = await start_worker({"tested": gate})
    await observer.js.purge(subjects.KV_STREAM, paused)
    await observer.js.store(paused, b"", blocks.encode({"KV-Operation": "DEL"}))
    ended = await observer.ended("it")
    assert (ended.attempt, ended.actor) == (1, second.actor.name)
    await observer.at_rest()


@pytest.mark.usefixtures("paused")
async def test_a_task_cancelled_at_a_gate_is_let_go(
    observer: Observer, start_worker: StartWorker
) -> None:
    gate = opened()
    worker = await start_worker({"tested": gate}, slots=1)
    await held_at_a_gate(observer, worker)
    await observer.log_as("client").cancel("it")
    mailbox = subjects.control("worker", worker.actor.name)
    observer.connection.publish(mailbox, encode(Cancel("it")))
    await observer.at_rest()
    assert await observer.states("it") == [State.CANCELLED]
    assert gate.runs == []
