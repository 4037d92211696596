"""A task that another worker runs, or ran: ask, leave it alone, take over, stop."""

import asyncio
import contextlib

import pytest

from agentflow.bus.wire.message import Message
from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import control, subjects
from agentflow.protocol.control import Held, Holds
from agentflow.protocol.record import State, Usage
from agentflow.rules import records as entries
from agentflow.rules.records import Spent
from tests.integration.conftest import StartWorker
from tests.support.ghost import GHOST, TASK, claimed_by_ghost
from tests.support.handlers import Gate, opened
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(45)


@pytest.mark.usefixtures("short_ask")
async def test_a_task_of_a_silent_worker_is_taken_over(
    observer: Observer, start_worker: StartWorker
) -> None:
    ghost = await claimed_by_ghost(observer)
    spent = Spent(usage=Usage(input_tokens=5), cost_micro=9, run_s=1.5)
    assert ghost.record is not None
    log = observer.log_as(GHOST)
    report = entries.follow(
        entries.origin_of(ghost.record),
        ghost,
        State.RUNNING,
        actor=GHOST,
        now=log.now(),
        spent=spent,
        progress=0.5,
    )
    await log.append(report)

    worker = await start_worker({"gate": opened()})
    ended = await observer.ended("it")
    assert (ended.state, ended.attempt, ended.failures) == (State.SUCCEEDED, 2, 1)
    assert ended.actor == worker.actor.name
    assert (ended.usage.input_tokens, ended.cost_usd) == (5, 9e-6)
    assert ended.timings.run_s >= 1.5
    await observer.at_rest()


@pytest.mark.usefixtures("short_ask")
async def test_an_owner_that_holds_the_message_keeps_it(
    observer: Observer, start_worker: StartWorker
) -> None:
    ghost = await claimed_by_ghost(observer)
    assert ghost.record is not None
    holds = True
    asked: asyncio.Queue[str] = asyncio.Queue()

    def answer(message: Message) -> None:
        match control.decode(message.data):
            case Holds(message=identity):
                asked.put_nowait(identity)
                observer.connection.publish(message.reply, control.encode(Held(holds=holds)))

    await observer.connection.subscribe(subjects.control("worker", GHOST), answer)
    await observer.connection.flush()
    gate = opened()
    worker = await start_worker({"gate": gate}, lease=0.5)
    # Left alone, it is delivered again when the lease has passed, and the owner asked again.
    assert await asked.get() == ghost.record.message
    assert await asked.get() == ghost.record.message
    assert gate.runs == []
    assert await observer.states("it") == [State.RUNNING]
    assert await observer.messages() == 1
    assert worker.actor.heartbeat().running == 0

    holds = False
    ended = await observer.ended("it")
    assert (ended.attempt, len(gate.runs)) == (2, 1)


@pytest.mark.usefixtures("short_ask")
async def test_nonsense_is_no_answer_and_no_reason_to_hurry(
    observer: Observer, start_worker: StartWorker
) -> None:
    await claimed_by_ghost(observer)
    asked = 0

    def answer(message: Message) -> None:
        nonlocal asked
        asked += 1
        observer.connection.publish(message.reply, b"\xff nonsense")

    await observer.connection.subscribe(subjects.control("worker", GHOST), answer)
    await observer.connection.flush()
    await start_worker({"gate": opened()})
    assert (await observer.ended("it")).attempt == 2
    assert 1 <= asked <= 4


@pytest.mark.usefixtures("short_ask")
async def test_two_workers_never_run_one_message_at_once(
    observer: Observer, start_worker: StartWorker
) -> None:
    """A lease shorter than its renewal: redelivered all the time, asked, and left where it is."""
    gate = Gate()
    first = await start_worker({"gate": gate}, lease=0.5)
    await observer.submit(TASK)
    await gate.started.wait()
    first._holding.renew = asyncio.Event().wait  # type: ignore[method-assign,assignment]
    renewals = first.actor._tasks["renewals"]
    renewals.cancel()  # from now on only its answers keep the task
    second = await start_worker({"gate": gate})

    async def redelivered() -> bool:
        consumer = await observer.js.consumer_info(subjects.TASKS, "default-normal")
        return int(consumer["delivered"]["consumer_seq"]) >= 5

    await observer.becomes(redelivered)
    gate.opened.set()
    ended = await observer.ended("it")
    assert (ended.attempt, ended.actor) == (1, first.actor.name)
    assert len(gate.runs) == 1
    await observer.at_rest()
    assert second.actor.heartbeat().done == 0


@pytest.mark.usefixtures("short_ask")
async def test_a_worker_lost_too_often_fails_the_task(
    observer: Observer, start_worker: StartWorker
) -> None:
    await claimed_by_ghost(observer, {**TASK, "max_attempts": 1})
    gate = opened()
    await start_worker({"gate": gate})
    ended = await observer.ended("it")
    assert (ended.state, ended.reason) == (State.FAILED, "worker_lost")
    assert (ended.attempt, ended.failures) == (1, 1)
    assert ended.error is not None
    assert GHOST in ended.error.message
    assert gate.runs == []
    await observer.at_rest()
    assert await observer.dead("it") is not None


async def test_a_superseded_run_stops_at_once_and_acks_nothing(
    observer: Observer, start_worker: StartWorker
) -> None:
    stopped = asyncio.Event()
    go = asyncio.Event()

    async def reporter(run: Run) -> Outcome:
        await go.wait()
        try:
            with contextlib.suppress(Exception):  # what it cannot swallow is the cancellation
                await run.progress(0.5)
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return Outcome()

    worker = await start_worker({"gate": reporter})
    await observer.submit(TASK)
    running = await observer.state("it", State.RUNNING)
    assert running.record is not None
    log = observer.log_as(GHOST)
    origin = entries.origin_of(running.record)
    taken = await log.append(entries.claimed(origin, running, actor=GHOST, now=log.now()))
    go.set()
    await stopped.wait()

    async def let_go() -> bool:
        return len(worker._holding) == 0

    await observer.becomes(let_go)
    assert await observer.last("it") == taken
    assert await observer.messages() == 1
    # Neither acked nor handed back: it is still delivered, and comes again with the lease.
    consumer = await observer.js.consumer_info(subjects.TASKS, "default-normal")
    assert (consumer["num_ack_pending"], consumer["num_redelivered"]) == (1, 0)


async def test_the_result_of_a_superseded_run_is_dropped(
    observer: Observer, start_worker: StartWorker
) -> None:
    gate = Gate()
    worker = await start_worker({"gate": gate})
    await observer.submit(TASK)
    running = await observer.state("it", State.RUNNING)
    assert running.record is not None
    assert (await observer.log_as("client").cancel("it")).state == State.CANCELLED
    gate.opened.set()

    async def let_go() -> bool:
        return len(worker._holding) == 0

    await observer.becomes(let_go)
    assert await observer.states("it") == [State.RUNNING, State.CANCELLED]
    assert worker.actor.heartbeat().done == 0


async def test_a_running_task_is_renewed(observer: Observer, start_worker: StartWorker) -> None:
    await start_worker(lease=0.5)
    await observer.submit({"kind": "sleep", "id": "it", "params": {"seconds": 1.5}})
    assert (await observer.ended("it")).attempt == 1
    consumer = await observer.js.consumer_info(subjects.TASKS, "default-normal")
    assert consumer["delivered"]["consumer_seq"] == 1
