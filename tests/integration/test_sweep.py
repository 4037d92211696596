"""The sweep ends what nothing can bring on any more, and touches nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import PubAck
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.master import Master
from agentflow.master import sweep as sweeps
from agentflow.master.sweep import REASON, SweepRate
from agentflow.protocol import control, headers, subjects
from agentflow.protocol.control import Held, Holds
from agentflow.protocol.record import Last, State
from agentflow.rules import records as entries
from agentflow.rules.records import Origin
from tests.integration.conftest import StartWorker
from tests.support import masters
from tests.support.handlers import Gate
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("short_ask")]

NEVER = 3600.0
AT_ONCE = SweepRate(every=NEVER, quiet=0.0, overdue=0.0)
"""Every task is looked at, in the rounds that a test asks for."""


@pytest.fixture
async def master(nats_server: NatsServer, observer: Observer) -> AsyncIterator[Master]:
    async with masters.a_master(nats_server.url, rate=AT_ONCE) as found:
        await masters.ready(found)
        yield found


async def seen(observer: Observer, master: Master, last: Last) -> Last:
    """Wait until the master knows this record."""
    assert last.record is not None
    task_id = last.record.id

    async def look() -> bool:
        row = master.index.get(task_id)
        return row is not None and row.sequence == last.sequence

    await observer.becomes(look)
    return last


async def submitted(observer: Observer, task_id: str) -> tuple[PubAck, Origin]:
    ack = await observer.submit("x", {"Agentflow-Id": task_id})
    return ack, await observer.origin(task_id, ack)


async def parked(
    observer: Observer, of: Origin, state: State = State.RETRYING, *, due_in: float = -60.0
) -> Last:
    """A task that waits, without its schedule."""
    now = datetime.now(UTC)
    last = await masters.start(observer.js, of)
    entry = entries.parked(
        of,
        last,
        state,
        actor="w-1",
        now=now,
        resume_at=now + timedelta(seconds=due_in),
        reason="overloaded",
    )
    return await masters.append(observer.js, entry)


async def scheduled(observer: Observer, last: Last, at: datetime) -> None:
    assert last.record is not None
    block = headers.encode(
        {
            "Nats-Schedule": f"@at {at.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}",
            "Nats-Schedule-Target": subjects.due("default", "normal"),
            subjects.ID: last.record.id,
            subjects.FOLLOWS: str(last.sequence),
        }
    )
    await observer.js.store(subjects.schedule(last.record.id, last.sequence), b"x", block)


def owner(observer: Observer, actor: str, holds: bool) -> Awaitable[Any]:
    """Somebody who answers for a worker."""

    def answer(message: Any) -> None:
        assert isinstance(control.decode(message.data), Holds)
        observer.connection.publish(message.reply, control.encode(Held(holds=holds)))

    return observer.connection.subscribe(subjects.control("worker", actor), answer)


async def lost(observer: Observer, task_id: str) -> None:
    """The task has failed for the reason that its message is gone."""
    record = (await observer.last(task_id)).record
    assert record is not None
    assert (record.state, record.reason) == (State.FAILED, REASON)
    assert record.error is not None
    assert subjects.TASKS in record.error.message


# Running and handed back tasks.


async def test_a_task_without_message_and_owner_fails(observer: Observer, master: Master) -> None:
    ack, of = await submitted(observer, "t")
    last = await seen(observer, master, await masters.start(observer.js, of))
    assert await master.sweep.round() == 0
    await observer.js.delete(subjects.TASKS, ack.seq)

    assert await master.sweep.round() == 1
    await lost(observer, "t")
    ended = await observer.last("t")
    assert ended.record is not None
    assert ended.record.follows == last.sequence
    assert ended.record.actor == master.actor.name
    assert ended.record.attempt == 1
    # Nothing to keep: the payload was in the message.
    assert await observer.dead("t") is None
    assert await observer.messages() == 0
    assert await master.sweep.round() == 0
    row = master.index.get("t")
    assert row is not None
    assert row.state == "failed"


async def test_a_task_that_was_handed_back_and_purged_fails(
    observer: Observer, master: Master
) -> None:
    ack, of = await submitted(observer, "t")
    last = await masters.start(observer.js, of)
    entry = entries.handed_back(
        of, last, actor="w-1", now=datetime.now(UTC), spent=entries.NOTHING_SPENT
    )
    await seen(observer, master, await masters.append(observer.js, entry))
    assert await master.sweep.round() == 0
    await observer.js.delete(subjects.TASKS, ack.seq)
    assert await master.sweep.round() == 1
    await lost(observer, "t")


async def test_an_owner_that_holds_the_message_keeps_its_task(
    observer: Observer, master: Master
) -> None:
    await owner(observer, "w-1", True)
    ack, of = await submitted(observer, "t")
    await seen(observer, master, await masters.start(observer.js, of))
    await observer.js.delete(subjects.TASKS, ack.seq)
    assert await master.sweep.round() == 0
    assert await observer.states("t") == [State.RUNNING]


async def test_an_owner_that_does_not_hold_it_is_believed(
    observer: Observer, master: Master
) -> None:
    await owner(observer, "w-1", False)
    ack, of = await submitted(observer, "t")
    await seen(observer, master, await masters.start(observer.js, of))
    await observer.js.delete(subjects.TASKS, ack.seq)
    assert await master.sweep.round() == 1


async def test_a_task_with_its_message_is_left_to_the_workers(
    observer: Observer, master: Master
) -> None:
    _, of = await submitted(observer, "t")
    await seen(observer, master, await masters.start(observer.js, of))
    assert await master.sweep.round() == 0
    assert await observer.states("t") == [State.RUNNING]
    assert await observer.messages() == 1


async def test_a_purge_under_a_real_worker_changes_nothing(
    observer: Observer, master: Master, start_worker: StartWorker
) -> None:
    gate = Gate()
    await start_worker({"gate": gate})
    await observer.submit({"kind": "gate", "id": "t", "prompt": "x"})
    await seen(observer, master, await observer.state("t", State.RUNNING))
    await observer.js.purge(subjects.TASKS, "agentflow.tasks.>")
    assert await master.sweep.round() == 0
    gate.opened.set()
    assert (await observer.ended("t")).state == State.SUCCEEDED


async def test_another_message_at_the_same_sequence_is_not_its_own(
    observer: Observer, master: Master
) -> None:
    ack, of = await submitted(observer, "t")
    await seen(observer, master, await masters.start(observer.js, of))
    await observer.js.api(f"STREAM.DELETE.{subjects.TASKS}")
    await provision.ensure_streams(observer.js)
    again = await observer.submit("another", {"Agentflow-Id": "u"})
    assert again.seq == ack.seq
    assert await master.sweep.round() == 1
    await lost(observer, "t")
    assert await observer.messages() == 1


async def test_whoever_is_quicker_than_the_sweep_wins(
    observer: Observer, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    ack, of = await submitted(observer, "t")
    last = await seen(observer, master, await masters.start(observer.js, of))
    await observer.js.delete(subjects.TASKS, ack.seq)
    lose = master.log.lose

    async def too_late(at: Last, reason: str, text: str) -> Last:
        await masters.succeed(observer.js, of, last)
        return await lose(at, reason, text)

    monkeypatch.setattr(master.log, "lose", too_late)
    assert await master.sweep.round() == 0
    assert await observer.states("t") == [State.RUNNING, State.SUCCEEDED]
    row = master.index.get("t")
    assert row is not None
    assert row.state == "succeeded"


async def test_a_row_that_is_behind_is_corrected(observer: Observer, master: Master) -> None:
    ack, of = await submitted(observer, "t")
    last = await seen(observer, master, await masters.start(observer.js, of))
    await observer.js.delete(subjects.TASKS, ack.seq)
    await master.records.deafen()
    ended = await masters.succeed(observer.js, of, last)
    assert await master.sweep.round() == 0
    row = master.index.get("t")
    assert row is not None
    assert row.sequence == ended.sequence


@pytest.mark.parametrize("record", [b'{"v":2,"state":"running"}', b'{"v":1,"state":"waiting"}'])
async def test_a_record_of_another_version_is_left_alone(
    observer: Observer, master: Master, record: bytes
) -> None:
    ack = await observer.js.store(subjects.progress("t"), record)

    async def look() -> bool:
        return master.index.get("t") is not None

    await observer.becomes(look)
    assert await master.sweep.round() == 0
    assert (await observer.last("t")).sequence == ack.seq


async def test_an_identity_of_another_kind_is_left_alone(
    observer: Observer, master: Master
) -> None:
    of = masters.origin("t", message="some other client's")
    await seen(observer, master, await masters.start(observer.js, of))
    assert await master.sweep.round() == 0


# Parked tasks.


@pytest.mark.parametrize("state", [State.RETRYING, State.SCHEDULED])
async def test_a_parked_task_without_schedule_fails_at_the_second_look(
    observer: Observer, master: Master, state: State
) -> None:
    last = await seen(observer, master, await parked(observer, masters.origin("t"), state))
    assert await master.sweep.round() == 0  # notes where the queue ends
    assert (await observer.last("t")).sequence == last.sequence
    assert await master.sweep.round() == 1
    await lost(observer, "t")


async def test_a_parked_task_with_its_schedule_is_well(observer: Observer, master: Master) -> None:
    last = await parked(observer, masters.origin("t"))
    await scheduled(observer, last, datetime.now(UTC) + timedelta(hours=1))
    await seen(observer, master, last)
    for _ in range(3):
        assert await master.sweep.round() == 0
    assert (await observer.last("t")).sequence == last.sequence


async def test_a_parked_task_whose_schedule_was_purged_fails(
    observer: Observer, master: Master
) -> None:
    last = await parked(observer, masters.origin("t"))
    await scheduled(observer, last, datetime.now(UTC) + timedelta(hours=1))
    await seen(observer, master, last)
    await master.sweep.round()
    await observer.js.purge(subjects.SCHEDULE, "agentflow.schedule.>")
    await master.sweep.round()
    assert await master.sweep.round() == 1
    await lost(observer, "t")


async def test_the_queue_is_waited_for_because_the_task_may_be_in_it(
    observer: Observer, master: Master
) -> None:
    last = await parked(observer, masters.origin("t"))
    await seen(observer, master, last)
    # The schedule has fired: its message is in the queue, under no subject that names the task.
    fired = await observer.submit("x", {subjects.ID: "t", subjects.FOLLOWS: str(last.sequence)})
    for _ in range(3):
        assert await master.sweep.round() == 0
    await observer.js.delete(subjects.TASKS, fired.seq)
    assert await master.sweep.round() == 1
    await lost(observer, "t")


async def test_a_parker_that_has_not_acked_yet_is_waited_for(
    observer: Observer, master: Master
) -> None:
    ack, of = await submitted(observer, "t")
    last = await seen(observer, master, await parked(observer, of))
    for _ in range(3):
        assert await master.sweep.round() == 0
    # It publishes the schedule late, and acks then.
    await scheduled(observer, last, datetime.now(UTC) + timedelta(hours=1))
    await observer.js.delete(subjects.TASKS, ack.seq)
    for _ in range(3):
        assert await master.sweep.round() == 0
    assert (await observer.last("t")).sequence == last.sequence


async def test_what_was_noted_is_void_when_the_log_goes_on(
    observer: Observer, master: Master
) -> None:
    of = masters.origin("t")
    last = await seen(observer, master, await parked(observer, of))
    await master.sweep.round()
    now = datetime.now(UTC)
    running = await masters.start(observer.js, of, last=last)
    entry = entries.parked(
        of, running, State.RETRYING, actor="w-2", now=now, resume_at=now, reason="again"
    )
    again = await seen(observer, master, await masters.append(observer.js, entry))
    await master.sweep.round()
    assert (await observer.last("t")).sequence == again.sequence
    assert await master.sweep.round() == 1


async def test_a_queue_made_anew_is_noted_again(observer: Observer, master: Master) -> None:
    for number in range(3):
        await submitted(observer, f"u{number}")
    await seen(observer, master, await parked(observer, masters.origin("t")))
    await master.sweep.round()
    await observer.js.api(f"STREAM.DELETE.{subjects.TASKS}")
    await provision.ensure_streams(observer.js)
    # Counting from 1 again, it would not be past what was noted for a long time.
    await master.sweep.round()
    assert await master.sweep.round() == 1


async def test_a_task_that_is_not_due_is_not_looked_at(
    nats_server: NatsServer, observer: Observer
) -> None:
    rate = SweepRate(every=NEVER, quiet=0.0, overdue=60.0)
    async with masters.a_master(nats_server.url, rate=rate) as master:
        last = await parked(observer, masters.origin("t"), due_in=-30.0)
        await seen(observer, master, last)
        for _ in range(3):
            assert await master.sweep.round() == 0


# Rounds.


async def test_rounds_go_on_behind_what_was_looked_at(
    observer: Observer, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "PAGE", 5)
    monkeypatch.setattr(sweeps, "SCANNED", 5)
    await owner(observer, "healthy", True)
    last = Last()
    for number in range(23):
        actor = "dead" if number in (3, 11, 22) else "healthy"
        last = await masters.start(observer.js, masters.origin(f"t{number}"), actor=actor)
    await seen(observer, master, last)
    ended = [await master.sweep.round() for _ in range(5)]
    assert sum(ended) == 3
    assert max(ended) == 1
    for number in (3, 11, 22):
        await lost(observer, f"t{number}")


async def test_only_the_master_with_the_lease_sweeps(
    nats_server: NatsServer, observer: Observer
) -> None:
    rate = SweepRate(every=0.02, quiet=0.0, overdue=0.0)
    async with (
        masters.a_master(nats_server.url, rate=rate) as first,
        masters.a_master(nats_server.url, rate=rate) as second,
    ):

        async def decided() -> bool:
            return bool(first.lease.holder) and first.lease.holder == second.lease.holder

        await observer.becomes(decided)
        holder, other = (first, second) if first.lease.held else (second, first)
        before = other.sweep.rounds
        await masters.start(observer.js, masters.origin("t"))
        await observer.state("t", State.FAILED)
        await lost(observer, "t")
        assert (holder.sweep.lost, other.sweep.lost) == (1, 0)
        assert other.sweep.rounds == before
        assert not other.lease.held


async def test_a_sweep_without_a_server_goes_on_later(
    nats_server: NatsServer, observer: Observer
) -> None:
    rate = SweepRate(every=0.05, quiet=0.0, overdue=0.0)
    async with masters.a_master(nats_server.url, rate=rate) as master:
        await observer.becomes(_holds(master))
        nats_server.kill()
        await asyncio.sleep(0.2)
        nats_server.start()
        await observer.connection.connected.wait()
        await provision.wait_ready(observer.js)
        await masters.start(observer.js, masters.origin("t"))
        await observer.state("t", State.FAILED)


def _holds(master: Master) -> Callable[[], Awaitable[bool]]:
    async def held() -> bool:
        return master.lease.held

    return held


async def test_a_worker_that_names_the_task_is_not_asked(
    nats_server: NatsServer, observer: Observer, master: Master, start_worker: StartWorker
) -> None:
    gate = Gate()
    worker = await start_worker({"gate": gate})
    await observer.submit({"kind": "gate", "id": "t", "prompt": "x"})
    await seen(observer, master, await observer.state("t", State.RUNNING))
    worker.actor.beat()

    async def named() -> bool:
        return master.presence.runs(worker.actor.name, "t")

    await observer.becomes(named)
    reads = await Connection.open(Connect(urls=(nats_server.url,)))
    try:
        asked: list[str] = []
        await reads.subscribe(
            "agentflow.control.worker.>", lambda message: asked.append(message.subject)
        )
        await reads.flush()
        assert await master.sweep.round() == 0
        await reads.flush()
        assert asked == []
    finally:
        await reads.close()
    gate.opened.set()
    await observer.ended("t")
