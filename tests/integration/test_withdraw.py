"""Withdraw: what waits of a job is taken back, what runs is left, and the log says what is true."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

import agentflow
from agentflow.audit import verify
from agentflow.client import Client
from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import subjects
from agentflow.protocol.jobs import Job
from agentflow.rules import records
from agentflow.rules.withdrawal import Step
from tests.integration.conftest import StartWorker
from tests.support.handlers import Gate
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

LABEL = {"job": "one"}


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with agentflow.connect(nats_server.url) as opened:
        yield opened


async def withdraw(client: Client, job: str = "one", *, in_hand: bool = True) -> dict[str, str]:
    found = client.operate.withdrawing.job(job, in_hand=in_hand)
    return {one.id: one.step async for one in found}


async def test_what_nobody_has_seen_leaves_nothing_behind(
    client: Client, observer: Observer
) -> None:
    await client.submit("A", kind="echo", id="a", labels=LABEL)
    await client.submit("B", kind="echo", id="b", labels={"job": "another"})
    await client.submit("C", kind="echo", id="c")

    assert await client.operate.withdrawing.count("one", 10) == 1
    assert await withdraw(client) == {"a": Step.REMOVE}

    assert (await observer.log("a"), await observer.messages()) == ([], 2)
    assert await withdraw(client) == {}


async def test_what_is_parked_fails_and_goes_on_when_it_is_retried(
    client: Client, observer: Observer, start_worker: StartWorker
) -> None:
    await start_worker()
    later = datetime.now(UTC) + timedelta(hours=1)
    await client.submit("A", kind="echo", id="a", labels=LABEL, not_before=later)
    await observer.state("a", "scheduled")

    async def parked() -> bool:  # the record is seen before its schedule is stored
        return await observer.messages(subjects.SCHEDULE) == 1

    await observer.becomes(parked)
    assert await withdraw(client) == {"a": Step.FAIL}

    last = await observer.last("a")
    assert last.record is not None
    assert (last.record.state, last.record.reason) == ("failed", "withdrawn")
    assert await observer.messages(subjects.SCHEDULE) == 0
    assert await observer.dead("a") is not None
    await client.retry("a")  # its instant holds

    async def parked_again() -> bool:
        return len(await observer.log("a")) == 3 and await parked()

    await observer.becomes(parked_again)
    last = await observer.last("a")
    assert last.record is not None
    assert (last.record.state, last.record.resume_at) == ("scheduled", later)


async def test_a_task_in_a_workers_hand_is_not_begun_later(
    client: Client, observer: Observer, start_worker: StartWorker
) -> None:
    """A gate of the worker holds it: its message is gone, and the worker would claim it."""
    gate = Gate()
    await start_worker({"gate": gate})
    await client.pause(kind="gate")
    await client.submit("A", kind="gate", id="a", labels=LABEL)

    async def held() -> bool | None:
        return (await observer.pending_acks()) == 1 or None

    await observer.becomes(held)
    assert await withdraw(client) == {"a": Step.FAIL}
    await client.resume(kind="gate")
    await client.submit("B", kind="gate", id="b")
    await gate.started.wait()
    gate.opened.set()
    await observer.ended("b")
    assert [run.task.id for run in gate.runs] == ["b"]
    assert await observer.states("a") == ["failed"]


async def test_what_runs_goes_on(
    client: Client, observer: Observer, start_worker: StartWorker
) -> None:
    gate = Gate()
    await start_worker({"gate": gate})
    await client.submit("A", kind="gate", id="a", labels=LABEL)
    await gate.started.wait()

    assert await withdraw(client) == {"a": Step.ASK}
    gate.opened.set()
    assert (await observer.ended("a")).state == "succeeded"


async def test_a_retry_by_hand_that_waits_becomes_a_dead_letter_again(
    client: Client, observer: Observer, start_worker: StartWorker
) -> None:
    async def fails(run: Run) -> Outcome:
        raise ValueError("no")

    worker = await start_worker({"fails": fails})
    await client.submit("A", kind="fails", id="a", labels=LABEL, max_attempts=1)
    await observer.ended("a")
    await client.pause("default")
    await client.retry("a")
    assert await observer.dead("a") is None

    assert await withdraw(client) == {"a": Step.KEEP}
    letter = await observer.dead("a")
    assert letter is not None
    assert letter.headers[subjects.REASON] == "handler_error"
    assert await observer.states("a") == ["running", "failed"]
    assert worker is not None


async def test_a_task_of_an_owner_that_is_gone_is_taken_back(
    client: Client, observer: Observer
) -> None:
    task = {"prompt": "A", "kind": "echo", "labels": LABEL}
    ack = await observer.submit(task, {subjects.ID: "a"})
    origin = await observer.origin("a", ack)
    log = observer.log_as("dead-1-x")
    await log.append(
        records.claimed(origin, await observer.last("a"), actor=log.actor, now=log.now())
    )
    assert await client.operate.withdrawing.one("a")
    last = await observer.last("a")
    assert last.record is not None
    assert (last.record.state, last.record.reason) == ("failed", "withdrawn")
    assert await observer.messages() == 0


async def test_what_was_taken_out_of_the_queue_is_proved_to_be_no_loss(
    client: Client, observer: Observer
) -> None:
    now = observer.js.now() + timedelta(seconds=5)
    job = Job(
        id="one",
        file="f",
        results="",
        queue="default",
        lines=3,
        defaults="",
        who="me",
        started=now,
        seen=now,
    )
    for at in range(3):
        await client.submit("A", kind="echo", id=f"a{at}", labels=LABEL)
    await client.operate.jobs.keep(job)
    await withdraw(client)

    known = await client.operate.jobs.get("one")
    assert known is not None
    assert known.withdrawn == [(1, 3)]
    report = await verify(observer.js, at_rest=True)
    assert (report.findings, report.figures.withdrawn) == ([], 3)
    await client.operate.jobs.keep(job)
    assert not (await verify(observer.js)).kept, "without a word of it they might be lost"
