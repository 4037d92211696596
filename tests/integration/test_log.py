"""The task log against a real server: fences, lost answers, parking, failing, cancelling."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.bus.streams.jetstream import JetStream, PubAck
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Delivered, Message
from agentflow.errors import NoAnswer, PayloadTooLarge, Superseded, WrongSequence
from agentflow.log.task import Overtaken, TaskLog, is_own
from agentflow.protocol import headers as blocks
from agentflow.protocol import record as records
from agentflow.protocol import subjects
from agentflow.protocol.record import EMPTY, Failure, Last, Record, State, Usage
from agentflow.rules import records as entries
from agentflow.rules.records import Spent
from tests.support.bus import (
    WITHIN,
    Station,
    claim,
    connected,
    freeze,
    happens,
    origin,
    provisioned,
    restarted,
    submit,
)
from tests.support.nats_server import NatsServer

CARRY = b'{"z": 1,  "a":[1.50, 2e3],"\\u00e4":null}'


def now() -> datetime:
    return datetime.now(UTC)


class Forgetful(JetStream):
    """Stores, and loses the answer of the first so many."""

    def __init__(self, connection: Connection, losses: int = 1) -> None:
        super().__init__(connection)
        self.losses = losses
        self.asked = 0

    async def store(
        self, subject: str, payload: bytes, block: bytes = b"", timeout: float = 5.0
    ) -> PubAck:
        self.asked += 1
        ack = await super().store(subject, payload, block, timeout)
        if self.losses:
            self.losses -= 1
            raise NoAnswer("lost on the way")
        return ack


@pytest.fixture
async def js(nats_server: NatsServer) -> AsyncIterator[JetStream]:
    async with connected(nats_server.url) as connection:
        yield await provisioned(connection)


async def history(js: JetStream, task_id: str = "t1") -> list[Record]:
    found, after = [], 0
    while stored := await js.next_after(subjects.RECORDS, after + 1, subjects.log(task_id)):
        found.append(records.decode(stored.data, stored.subject))
        after = stored.sequence
    return found


async def running(log: TaskLog, task_id: str = "t1", **changes: Any) -> Last:
    return await log.append(claim(task_id, actor=log.actor, **changes))


# One winner.


async def test_of_fifty_claims_one_is_stored(js: JetStream) -> None:
    logs = [TaskLog(js, f"w{number}") for number in range(50)]
    outcomes = await asyncio.gather(*(running(log) for log in logs), return_exceptions=True)
    winners = [outcome for outcome in outcomes if isinstance(outcome, Last)]
    assert len(winners) == 1
    winner = winners[0]
    assert winner.record is not None
    for outcome in outcomes:
        if isinstance(outcome, Overtaken):
            assert outcome.last.sequence == winner.sequence
            assert winner.record.actor in str(outcome)
    assert sum(isinstance(outcome, Overtaken) for outcome in outcomes) == 49
    assert await logs[0].read("t1") == winner
    assert len(await history(js)) == 1


async def test_who_comes_later_is_told_what_the_log_ends_with(js: JetStream) -> None:
    ours, theirs = TaskLog(js, "ours"), TaskLog(js, "theirs")
    first = await running(ours)
    taken = await theirs.append(claim(last=first, actor="theirs"))
    with pytest.raises(Overtaken, match="by theirs") as caught:
        await ours.append(claim(last=first, actor="ours"))
    assert caught.value.last == taken
    assert isinstance(caught.value, Superseded)


async def test_two_messages_with_one_id_in_one_actor_are_two_writers(js: JetStream) -> None:
    log = TaskLog(js, "w")
    await running(log, message="1-1")
    with pytest.raises(Overtaken):
        await running(log, message="2-2")
    outcomes = await asyncio.gather(
        *(running(log, "t2", message=f"{number}-1") for number in range(2)),
        return_exceptions=True,
    )
    assert {type(outcome) for outcome in outcomes} == {Last, Overtaken}


# Unknown outcomes.


async def test_a_write_whose_answer_is_lost_is_recognised(js: JetStream) -> None:
    forgetful = Forgetful(js.connection)
    log = TaskLog(forgetful, "w")
    last = await running(log)
    assert forgetful.asked == 1  # it was read, not sent again
    assert await log.read("t1") == last
    assert len(await history(js)) == 1


async def test_a_write_that_was_refused_as_a_repeat_is_recognised(js: JetStream) -> None:
    """What waits in the server is stored late: after it the repeat is refused."""

    class Late(Forgetful):
        async def last(self, stream: str, filter: str, timeout: float = 5.0) -> Any:
            if self.asked == 1:
                return None  # as if it were not there yet
            return await super().last(stream, filter, timeout)

    late = Late(js.connection)
    last = await running(TaskLog(late, "w"))
    assert late.asked == 2
    assert len(await history(js)) == 1
    assert (await TaskLog(js, "w").read("t1")) == last


async def test_a_refusal_without_a_reason_is_tried_again(js: JetStream) -> None:
    class Refusing(Forgetful):
        async def store(
            self, subject: str, payload: bytes, block: bytes = b"", timeout: float = 5.0
        ) -> PubAck:
            self.asked += 1
            if self.asked < 4:
                raise WrongSequence("a replica that lags", code=10164)
            return await JetStream.store(self, subject, payload, block, timeout)

    refusing = Refusing(js.connection)
    await running(TaskLog(refusing, "w"))
    assert refusing.asked == 4


async def test_a_write_ends_only_when_its_outcome_is_known(
    js: JetStream, nats_server: NatsServer
) -> None:
    log = TaskLog(js, "w")
    freeze(nats_server)
    writing = [asyncio.create_task(running(log, f"t{number}")) for number in range(20)]
    await happens(lambda: len(js.connection._answers) >= 20)
    nats_server.kill()
    await restarted(js.connection, nats_server.start)
    async with asyncio.timeout(WITHIN):
        written = await asyncio.gather(*writing)
    for number, last in enumerate(written):
        assert await log.read(f"t{number}") == last
        assert len(await history(js, f"t{number}")) == 1


async def test_kill_9_right_after_sending_leaves_one_record(
    js: JetStream, nats_server: NatsServer
) -> None:
    log = TaskLog(js, "w")
    last = EMPTY
    for turns in (1, 5, 20):
        writing = asyncio.create_task(log.append(claim(last=last)))
        for _ in range(turns):
            await asyncio.sleep(0)
        nats_server.kill()  # before or after it was stored: nobody knows
        await restarted(js.connection, nats_server.start)
        async with asyncio.timeout(WITHIN):
            last = await writing
    assert [record.attempt for record in await history(js)] == [1, 2, 3]


def test_own_is_told_by_more_than_the_actor() -> None:
    record = claim(message="1-1")
    assert is_own(Last(7, record), record)
    for change in (
        {"actor": "x"},
        {"follows": 3},
        {"message": "2-2"},
        {"state": State.QUEUED},
        {"attempt": 2},
    ):
        assert not is_own(Last(7, msgspec.structs.replace(record, **change)), record)
    assert not is_own(EMPTY, record)


# Parking.


def parked(last: Last, resume_in: float, **changes: Any) -> Record:
    return entries.parked(
        origin(**changes),
        last,
        State.RETRYING,
        actor="w",
        now=now(),
        resume_at=now() + timedelta(seconds=resume_in),
        reason="overloaded",
        failures=1,
    )


MESSAGE = Message(
    "agentflow.tasks.default",
    "",
    b'{"prompt": "\xc3\xa4"}',
    blocks.encode({"Agentflow-Id": "t1", "Nats-Msg-Id": "x", "Agentflow-New": "kept"}),
)


async def test_a_parked_task_comes_back_as_it_was_with_what_it_follows(js: JetStream) -> None:
    log = TaskLog(js, "w")
    async with Station(js.connection, slots=5) as station:
        last = await log.park(parked(await running(log), 1.0), MESSAGE)
        stored = await js.last(subjects.SCHEDULE, f"agentflow.schedule.t1.{last.sequence}")
        assert stored is not None
        assert (await log.read("t1")).state == State.RETRYING
        # Once more, as after a crash between schedule and ack; and by another worker.
        await TaskLog(js, "other").publish_schedule(last, MESSAGE.data, MESSAGE.block)
        await station.got(1)
        back = station.held[0].message
        assert last.record is not None
        assert last.record.resume_at is not None
        fired = station.held[0].stored_ns / 1e9 - last.record.resume_at.timestamp()
        assert fired > -0.05
        assert back.data == MESSAGE.data
        assert back.subject == "agentflow.tasks.default.normal"
        own = {name: value for name, value in back.headers.items() if name.startswith("Agentflow")}
        assert own == {
            "Agentflow-Id": "t1",
            "Agentflow-Follows": str(last.sequence),
            "Agentflow-New": "kept",
        }
        assert "Nats-Msg-Id" not in back.headers
        station.finish()
        await submit(js, "after")
        await station.got(2)
        assert station.seen[1] == "after"  # it fired once
        info = await js.stream_info(subjects.SCHEDULE, subjects_filter="agentflow.schedule.>")
        assert not info["state"].get("subjects")


async def test_what_is_due_already_comes_at_once(js: JetStream) -> None:
    log = TaskLog(js, "w")
    async with Station(js.connection, slots=5) as station:
        await log.park(parked(await running(log), -3600), MESSAGE)
        await station.got(1)
        assert station.held[0].message.headers["Agentflow-Id"] == "t1"


async def test_record_and_schedule_are_both_stored_through_lost_answers(js: JetStream) -> None:
    forgetful = Forgetful(js.connection, losses=3)
    log = TaskLog(forgetful, "w")
    last = await log.park(parked(EMPTY, 3600), MESSAGE)
    assert [record.state for record in await history(js)] == [State.RETRYING]
    stored = await js.last(subjects.SCHEDULE, f"agentflow.schedule.t1.{last.sequence}")
    assert stored is not None
    info = await js.stream_info(subjects.SCHEDULE)
    assert info["state"]["messages"] == 1


# Failing.


def failed(last: Last, **changes: Any) -> Record:
    return entries.failed(
        origin(**changes),
        last,
        actor="w",
        now=now(),
        reason="invalid_request",
        error=Failure(type="invalid_request_error", message="line one\nline two " + "x" * 500),
    )


async def test_a_failed_task_leaves_a_record_and_a_dead_letter(js: JetStream) -> None:
    log = TaskLog(js, "w")
    last = await log.fail(failed(await running(log)), MESSAGE)
    await log.publish_dead(last, MESSAGE.data, MESSAGE.block)  # as after a crash
    assert [record.state for record in await history(js)] == [State.RUNNING, State.FAILED]
    dead = await js.last(subjects.DEAD, "agentflow.dead.default.t1")
    assert dead is not None
    assert dead.data == MESSAGE.data
    headers = dead.headers
    assert headers["Agentflow-Reason"] == "invalid_request"
    assert headers["Agentflow-Error"].startswith("line one line two")
    assert headers["Agentflow-Sequence"] == str(last.sequence)
    assert headers["Agentflow-New"] == "kept"
    assert "Nats-Msg-Id" not in headers
    assert (await js.stream_info(subjects.DEAD))["state"]["messages"] == 1


async def test_a_dead_letter_without_room_for_headers_keeps_the_payload(js: JetStream) -> None:
    log = TaskLog(js, "w")
    most = js.connection.max_payload
    many = blocks.encode({"Agentflow-Id": "t1", "X": "y" * 1000})
    large = Message("agentflow.tasks.default", "", bytes(most - 1100), many)
    await log.fail(failed(EMPTY), large)
    dead = await js.last(subjects.DEAD, "agentflow.dead.default.t1")
    assert dead is not None
    assert dead.data == large.data
    assert "X" not in dead.headers
    assert dead.headers["Agentflow-Id"] == "t1"
    full = Message("agentflow.tasks.default", "", b"a" * most, b"")
    await log.fail(failed(EMPTY, task_id="t2"), full)
    dead = await js.last(subjects.DEAD, "agentflow.dead.default.t2")
    assert dead is not None
    assert set(dead.data) == set(b"a")
    assert len(dead.data) + len(dead.block) == most


async def test_a_lost_message_ends_its_task_unless_it_moved_on(js: JetStream) -> None:
    log = TaskLog(js, "sweep")
    last = await running(log)
    lost = await log.lose(last, "message_lost", "its message is gone")
    assert lost.state == State.FAILED
    assert await log.lose(last, "message_lost", "its message is gone") == lost  # its own write
    with pytest.raises(Overtaken):
        await TaskLog(js, "other").lose(last, "message_lost", "its message is gone")


# Sizes.


@pytest.mark.parametrize("nats_server", ["max_payload: 16384"], indirect=True)
@pytest.mark.parametrize(
    "text", ["x" * 40_000, "ä€😀" * 9_000, '"\\\n\x01' * 9_000, "\x00" * 5_000, "\\" * 20_001]
)
async def test_a_text_too_long_is_stored_cut_and_marked(js: JetStream, text: str) -> None:
    assert js.connection.max_payload == 16384
    log = TaskLog(js, "w")
    claimed = await running(log)
    record = entries.follow(
        origin(), claimed, State.SUCCEEDED, actor="w", now=now(), ended=now(), text=text
    )
    await log.append_fitting(record)
    stored = (await log.read("t1")).record
    assert stored is not None
    assert stored.truncated
    assert stored.text
    assert text.startswith(stored.text)
    assert len(records.encode(stored)) > 14_000  # not much more was cut than had to be


@pytest.mark.parametrize("nats_server", ["max_payload: 16384"], indirect=True)
async def test_a_value_too_large_is_refused(js: JetStream) -> None:
    log = TaskLog(js, "w")
    claimed = await running(log)
    record = entries.follow(
        origin(), claimed, State.SUCCEEDED, actor="w", now=now(), value=["x" * 40_000], text="short"
    )
    with pytest.raises(PayloadTooLarge, match="task t1: the result has"):
        await log.append_fitting(record)
    assert js.connection.reconnects == 0
    short = msgspec.structs.replace(record, value=1)
    stored = (await log.append_fitting(short)).record
    assert stored == short


@pytest.mark.parametrize("nats_server", ["max_payload: 16384"], indirect=True)
@pytest.mark.parametrize("text", ["the answer", "a long answer " * 2_000])
async def test_blocks_too_long_do_not_cost_the_text_of_an_answer(js: JetStream, text: str) -> None:
    log = TaskLog(js, "w")
    claimed = await running(log)
    record = entries.follow(
        origin(),
        claimed,
        State.SUCCEEDED,
        actor="w",
        now=now(),
        text=text,
        content=[{"type": "web_search_tool_result", "content": "x" * 40_000}],
    )
    stored = (await log.append_fitting(record)).record
    assert stored is not None
    assert (stored.content, stored.truncated) == (None, True)
    assert stored.text
    assert text.startswith(stored.text)
    assert len(stored.text) > min(len(text) - 1, 10_000)
    with pytest.raises(PayloadTooLarge):
        await log.append_fitting(msgspec.structs.replace(record, text=None))


@given(
    text=st.text(
        st.one_of(
            st.characters(exclude_categories=["Cs"]), st.sampled_from('\\"\n\x00\x1f\x7fä€😀\u2028')
        ),
        max_size=400,
    ),
    cut=st.integers(0, 700),
)
def test_what_fit_leaves_fits_decodes_and_is_a_prefix(text: str, cut: int) -> None:
    record = msgspec.structs.replace(claim(), text=text)
    size = len(records.encode(record))
    room = size - cut
    shorter = entries.fit(record, room, size)
    if cut == 0:
        assert shorter is record
    elif shorter is not None:
        data = records.encode(shorter)
        assert len(data) <= room
        again = records.decode(data)
        assert again.text is not None
        assert text.startswith(again.text)
        assert again.truncated
        assert msgspec.structs.replace(again, text=text, truncated=False) == record
    else:
        # Only where nearly all of the text would have to go.
        assert len(json.dumps(text, ensure_ascii=False).encode()) <= cut + 80


# What every writer copies, and what it adds.


def with_carry(record: Record) -> Record:
    return msgspec.structs.replace(record, carry=msgspec.Raw(CARRY))


async def test_carry_is_copied_byte_for_byte_by_every_writer(js: JetStream) -> None:
    log = TaskLog(js, "w")

    async def stored_carry() -> bytes:
        found = await js.last(subjects.RECORDS, subjects.log("t1"))
        assert found is not None
        assert CARRY in found.data
        carry = records.decode(found.data).carry
        assert isinstance(carry, msgspec.Raw)
        return bytes(carry)

    last = await log.append(with_carry(claim()))
    at = now()
    steps: list[Callable[[Last], Record]] = [
        lambda last: claim(last=last, actor="taker"),
        lambda last: entries.follow(origin(), last, State.RUNNING, actor="w", now=at, progress=0.5),
        lambda last: entries.handed_back(origin(), last, actor="w", now=at, spent=Spent()),
        lambda last: claim(last=last),
        lambda last: parked(last, 3600),
        lambda last: claim(last=last),
        failed,
        lambda last: claim(last=last),  # a manual retry
    ]
    for step in steps:
        last = await TaskLog(js, "w").append(step(await log.read("t1")))
        assert await stored_carry() == CARRY
    await log.cancel("t1")
    assert await stored_carry() == CARRY
    assert last.record is not None


async def test_usage_and_money_are_sums_without_rounding(js: JetStream) -> None:
    log = TaskLog(js, "w")
    last = await running(log)
    for _ in range(30):
        spent = Spent(usage=Usage(10, 5, 2, 1), cost_micro=100_001, run_s=0.1)
        back = entries.handed_back(origin(), last, actor="w", now=now(), spent=spent)
        last = await log.append(claim(last=await log.append(back)))
    record = (await log.read("t1")).record
    assert record is not None
    assert record.cost_usd == 3.00003
    assert record.usage == Usage(300, 150, 60, 30)
    assert record.timings.run_s == 3.0
    unknown = Spent(cost_micro=None)
    last = await log.append(
        entries.handed_back(origin(), last, actor="w", now=now(), spent=unknown)
    )
    assert last.record is not None
    assert last.record.cost_usd is None


# Cancelling.


async def test_cancel_of_a_task_without_a_record(js: JetStream) -> None:
    log = TaskLog(js, "master")
    last = await log.cancel("t1", reason="asked")
    assert last.record is not None
    assert (last.record.state, last.record.reason, last.record.follows) == ("cancelled", "asked", 0)
    with pytest.raises(Overtaken):
        await running(TaskLog(js, "w"))


async def test_cancel_goes_on_while_others_write(js: JetStream) -> None:
    """Every read is overtaken a few times, as by a worker that reports progress."""
    worker = TaskLog(js, "w")
    await running(worker)

    class Raced(JetStream):
        races = 3

        async def last(self, stream: str, filter: str, timeout: float = 5.0) -> Any:
            found = await super().last(stream, filter, timeout)
            if self.races:
                self.races -= 1
                before = await worker.read("t1")
                await worker.append(
                    entries.follow(
                        origin(), before, State.RUNNING, actor="w", now=now(), progress=0.5
                    )
                )
            return found

    last = await TaskLog(Raced(js.connection), "master").cancel("t1")
    assert last.state == State.CANCELLED
    assert [record.state for record in await history(js)] == ["running"] * 4 + ["cancelled"]


async def test_cancel_of_an_ended_task_returns_its_end(js: JetStream) -> None:
    log = TaskLog(js, "w")
    ended = await log.append(
        entries.follow(origin(), await running(log), State.SUCCEEDED, actor="w", now=now())
    )
    assert await log.cancel("t1") == ended
    outcomes = await asyncio.gather(*(TaskLog(js, f"m{n}").cancel("t2") for n in range(10)))
    assert len({last.sequence for last in outcomes}) == 1


async def test_a_record_of_a_later_version_may_be_cancelled_only(js: JetStream) -> None:
    log = TaskLog(js, "w")
    data = json.loads(records.encode(claim())) | {"v": 2, "state": "dreaming", "new": 1}
    await js.store(subjects.progress("t1"), json.dumps(data).encode())
    last = await log.read("t1")
    assert last.record is not None
    assert not last.record.readable
    assert (await log.cancel("t1")).state == State.CANCELLED


def test_a_delivery_is_read_from_its_ack_subject() -> None:
    for prefix in ("$JS.ACK", "$JS.ACK._.ACCHASH"):
        tail = ".rand" if "HASH" in prefix else ""
        reply = f"{prefix}.AGENTFLOW_TASKS.default-high.3.17.5.1700000000123456789.42{tail}"
        delivered = Delivered(Message("agentflow.tasks.default", reply, b"", b""))
        assert (delivered.consumer, delivered.delivered, delivered.sequence) == (
            "default-high",
            3,
            17,
        )
        assert delivered.identity == "17-1700000000123456789"
