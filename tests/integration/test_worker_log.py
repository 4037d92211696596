"""Deliveries that are not the plain first one: each row of the table, carried out by a worker."""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agentflow.bus.streams.jetstream import PubAck
from agentflow.errors import NoAnswer, WrongSequence
from agentflow.protocol import limits, record, subjects
from agentflow.protocol.record import EMPTY, Failure, State
from agentflow.rules import records as entries
from agentflow.rules.retry import Signal
from agentflow.worker import suspect
from agentflow.worker.attempt import Attempt
from tests.integration.conftest import StartWorker
from tests.support.ghost import GHOST, TASK, claimed_by_ghost, follower
from tests.support.handlers import failing, opened
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(45)


# Records that were left behind.


async def test_a_task_handed_back_is_claimed_without_a_question(
    observer: Observer, start_worker: StartWorker
) -> None:
    ghost = await claimed_by_ghost(observer)
    handed = follower(observer, ghost, State.QUEUED, attempt=0)
    await observer.log_as(GHOST).append(handed)
    await start_worker({"gate": opened()})
    ended = await observer.ended("it")
    assert (ended.attempt, ended.failures) == (1, 0)


async def test_a_schedule_that_was_never_stored_is_stored_again(
    observer: Observer, start_worker: StartWorker
) -> None:
    ghost = await claimed_by_ghost(observer)
    log = observer.log_as(GHOST)
    parked = follower(
        observer, ghost, State.RETRYING, resume_at=log.now(), reason="overloaded", failures=1
    )
    await log.append(parked)  # and died before the schedule
    await start_worker({"gate": opened()})
    ended = await observer.ended("it")
    assert (ended.state, ended.attempt, ended.failures) == (State.SUCCEEDED, 2, 1)
    await observer.at_rest()


async def test_a_dead_letter_that_was_never_stored_is_stored_again(
    observer: Observer, start_worker: StartWorker
) -> None:
    await observer.listen_for_replies("answers")
    ack = await observer.submit(TASK, {subjects.REPLY: "answers"})
    origin = await observer.origin("it", ack, kind="gate")
    log = observer.log_as(GHOST)
    failed = entries.failed(
        origin,
        EMPTY,
        actor=GHOST,
        now=log.now(),
        reason="why",
        error=Failure(type="why", message="because"),
    )
    await log.append(failed)  # and died before the dead letter
    gate = opened()
    await start_worker({"gate": gate})
    await observer.at_rest()
    letter = await observer.dead("it")
    assert letter is not None
    assert letter.headers[subjects.REASON] == "why"
    assert gate.runs == []
    await observer.until(lambda: len(observer.replies) == 1)


async def test_a_manual_retry_starts_the_count_anew(
    observer: Observer, start_worker: StartWorker
) -> None:
    ghost = await claimed_by_ghost(observer)
    assert ghost.record is not None
    log = observer.log_as(GHOST)
    carry = msgspec.Raw(b'{"journal": 7}')
    failed = msgspec.structs.replace(
        follower(observer, ghost, State.FAILED, reason="x", failures=5), carry=carry
    )
    last = await log.append(failed)
    gate = opened()
    await start_worker({"gate": gate})
    await observer.submit(TASK, {subjects.ID: "it", subjects.FOLLOWS: str(last.sequence)})
    ended = await observer.ended("it", after=last.sequence)
    assert (ended.state, ended.attempt, ended.failures) == (State.SUCCEEDED, 2, 0)
    assert ended.carry == carry
    # A second retry of the same failure comes too late.
    await observer.submit(TASK, {subjects.ID: "it", subjects.FOLLOWS: str(last.sequence)})
    await observer.at_rest()
    assert len(gate.runs) == 1


async def test_a_cancelled_task_never_runs(observer: Observer, start_worker: StartWorker) -> None:
    await observer.submit(TASK)
    await observer.log_as("client").cancel("it")
    gate = opened()
    await start_worker({"gate": gate})
    await observer.at_rest()
    assert gate.runs == []
    assert await observer.states("it") == [State.CANCELLED]


# Later versions.


@pytest.mark.parametrize(
    "change",
    [
        {"state": "waiting"},
        {"v": record.VERSION + 1},
        {"v": record.VERSION + 1, "state": "succeeded"},
        {"attempt": "not a number"},
    ],
)
async def test_a_record_of_a_later_version_is_left_alone(
    observer: Observer,
    start_worker: StartWorker,
    change: dict[str, Any],
) -> None:
    ack = await observer.submit(TASK)
    origin = await observer.origin("it", ack, kind="gate")
    log = observer.log_as(GHOST)
    made = entries.claimed(origin, EMPTY, actor=GHOST, now=log.now())
    fields = {**msgspec.json.decode(record.encode(made)), **change}
    await observer.js.store(subjects.progress("it"), msgspec.json.encode(fields))
    gate = opened()
    worker = await start_worker({"gate": gate})
    await _is_left_for_later(observer, worker)
    assert len(await observer.log("it")) == 1
    assert gate.runs == []


@pytest.mark.parametrize("payload", [b'{"prompt": "x", "id": "it"}', b"\xff", b""])
async def test_an_ability_that_is_missing_leaves_the_task_for_later(
    observer: Observer,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    payload: bytes,
) -> None:
    await observer.submit(payload, {subjects.NEEDS: "time-travel", subjects.ID: "it"})
    await observer.deliver_often(101)
    worker = await start_worker()
    await _is_left_for_later(observer, worker)
    assert await observer.log("it") == []
    # The note goes when what caused it has not come again for a while.
    monkeypatch.setattr("agentflow.worker.intake.NOTE_FOR", 0.0)
    assert worker.actor.heartbeat().notes == []


async def _is_left_for_later(observer: Observer, worker: Any) -> None:
    async def noted() -> bool:
        return any("upgrade needed" in note for note in worker.actor.heartbeat().notes)

    async def let_go() -> bool:
        return len(worker._holding) == 0

    await observer.becomes(noted)
    await observer.becomes(let_go)
    assert await observer.messages() == 1
    consumer = await observer.js.consumer_info(subjects.TASKS, "default-normal")
    # Handed back with a delay: not acked, and nobody gets it at once.
    assert (consumer["num_ack_pending"], consumer["num_pending"]) == (1, 0)
    assert await observer.dead("it") is None


# Too often, too late.


DEADLY = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
ENDLESS = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.mark.parametrize("trial", [DEADLY, ENDLESS], ids=["dies", "does not end"])
async def test_a_message_that_kills_whoever_parses_it_fails_unparsed(
    trial: tuple[str, ...],
    observer: Observer,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No payload is known to do that, so a process that dies stands in for the one that parses."""

    def never(*_: object) -> None:
        raise AssertionError("it must not be parsed")

    monkeypatch.setattr("agentflow.protocol.task.parse_body", never)
    monkeypatch.setattr(suspect, "COMMAND", trial)
    monkeypatch.setattr(suspect, "WITHIN", 0.5)
    await observer.submit(TASK, {subjects.ID: "it"})
    await observer.deliver_often(limits.MAX_DELIVERIES)
    await start_worker({"gate": opened()})
    ended = await observer.ended("it")
    assert (ended.state, ended.reason) == (State.FAILED, "too_many_deliveries")
    await observer.at_rest()
    assert await observer.dead("it") is not None


async def test_more_than_a_hundred_deliveries_alone_end_nothing(
    observer: Observer, start_worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    await observer.submit(TASK)
    await observer.deliver_often(limits.MAX_DELIVERIES)
    with caplog.at_level(logging.WARNING, suspect.__name__):
        await start_worker({"gate": opened()})
        assert (await observer.ended("it")).state == State.SUCCEEDED
    assert "parsing it does no harm" in caplog.text


async def test_a_hundred_naks_for_an_upgrade_do_not_fail_the_task_when_it_comes(
    observer: Observer, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await observer.submit(TASK, {subjects.NEEDS: "time-travel"})
    await observer.deliver_often(limits.MAX_DELIVERIES)  # as an older worker does in 100 minutes
    monkeypatch.setattr("agentflow.protocol.task.ABILITIES", frozenset({"time-travel"}))
    await start_worker({"gate": opened()})
    assert (await observer.ended("it")).state == State.SUCCEEDED


@pytest.mark.parametrize("headers", [{}, {subjects.FOLLOWS: "7"}])
async def test_a_task_older_than_its_log_could_be_fails(
    observer: Observer,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
) -> None:
    monkeypatch.setattr(limits, "HORIZON", 0.1)
    ack: PubAck = await observer.submit(TASK, headers)
    stored = await observer.stored_ns(ack.seq)
    await asyncio.sleep(stored / 1e9 + 0.3 - observer.log_as("clock").now().timestamp())
    gate = opened()
    await start_worker({"gate": gate})
    ended = await observer.ended("it")
    assert (ended.state, ended.reason) == (State.FAILED, "expired")
    assert gate.runs == []
    await observer.at_rest()


async def test_a_continuation_outlives_its_log(
    observer: Observer, start_worker: StartWorker
) -> None:
    await start_worker({"gate": opened()})
    await observer.submit(TASK, {subjects.FOLLOWS: "4711"})
    ended = await observer.ended("it")
    assert (ended.state, ended.attempt) == (State.SUCCEEDED, 1)


# A refusal or a missing answer proves nothing.


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("error", [NoAnswer("lost on its way"), WrongSequence("by a new leader")])
async def test_what_became_of_a_write_is_read_from_the_log(
    observer: Observer,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    stored: bool,
) -> None:
    """Every first write fails for all the worker can tell: half of them are stored all the same."""
    worker = await start_worker({"gate": failing(Signal(status=409), times=1)})
    real = worker._js.store
    seen: set[bytes] = set()

    async def store(subject: str, payload: bytes, *more: Any) -> PubAck:
        if payload in seen:
            return await real(subject, payload, *more)
        seen.add(payload)
        if stored:
            await real(subject, payload, *more)
        raise error

    monkeypatch.setattr(worker._js, "store", store)
    await observer.submit(TASK)
    ended = await observer.ended("it")
    assert (ended.state, ended.attempt, ended.failures) == (State.SUCCEEDED, 2, 1)
    assert await observer.states("it") == [
        State.RUNNING,
        State.RETRYING,
        State.RUNNING,
        State.SUCCEEDED,
    ]
    await observer.at_rest()


# What the worker does when it fails itself.


async def test_a_fault_of_the_worker_gives_the_message_back(
    observer: Observer, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start_worker({"gate": opened()})
    real: Callable[..., Any] = Attempt.run
    faults = 0

    async def faulty(attempt: Attempt) -> Any:
        nonlocal faults
        faults += 1
        if faults == 1:
            raise RuntimeError("a fault of the worker's own, after the claim")
        return await real(attempt)

    monkeypatch.setattr(Attempt, "run", faulty)
    await observer.submit(TASK)
    ended = await observer.ended("it")
    assert (ended.state, ended.attempt, ended.failures) == (State.SUCCEEDED, 2, 1)


async def test_differences_of_the_consumers_come_and_go(
    observer: Observer, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    name = f"CONSUMER.CREATE.{subjects.TASKS}.default-low"
    info = await observer.js.consumer_info(subjects.TASKS, "default-low")
    for limit, notes in ((7, 1), (-1, 0)):
        config = {**info["config"], "max_deliver": limit}
        body = {"stream_name": subjects.TASKS, "config": config, "action": "update"}
        await observer.js.api(name, body)
        await worker._consumers.ensure()
        assert len(worker.actor.heartbeat().notes) == notes
