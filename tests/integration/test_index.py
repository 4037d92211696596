"""The index knows what the streams hold: after a start, a gap, a purge, a stream made anew."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from agentflow.bus.streams import follower, provision
from agentflow.bus.streams.pages import page, sequence_of, stored_ns, subject_of
from agentflow.errors import NoStream
from agentflow.master import index, master, vanished
from agentflow.master.index import Cursor, Index
from agentflow.master.master import Master
from agentflow.protocol import api, subjects
from agentflow.protocol.record import State, Usage
from agentflow.views.query import parse
from agentflow.views.row import Row, encode_labels
from tests.support import masters
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def running(nats_server: NatsServer, observer: Observer) -> AsyncIterator[Master]:
    """A master that knows everything there is: nothing."""
    async with masters.a_master(nats_server.url) as found:
        await masters.ready(found)
        yield found


async def has(observer: Observer, found: Master, task_id: str, state: str) -> Row:
    """Wait until the index has a task in a state."""

    async def look() -> Row | None:
        row = found.index.get(task_id)
        return row if row is not None and row.state == state else None

    return await observer.becomes(look)


# Rebuilding.


async def test_three_thousand_tasks_are_known_after_a_start(
    nats_server: NatsServer, observer: Observer
) -> None:
    await masters.fill(observer.js, 3_000)
    for number in range(50):
        await masters.start(observer.js, masters.origin(f"r{number}", queue="mail"))
    await observer.submit("waits", {"Agentflow-Id": "q1"}, subject="agentflow.tasks.mail.low")
    await observer.submit({"prompt": "waits", "id": "q2"})
    derived = await observer.derived_id(await observer.submit("waits"))

    async with masters.a_master(nats_server.url) as found:
        await masters.ready(found)
        counts = {state: count for state, count in found.index.counts().items() if count}
        assert counts == {"succeeded": 3_000, "running": 50, "queued": 3}
        assert found.index.by_queue()["mail"] == {"running": 50, "queued": 1}
        assert found.index.totals.usage == Usage(30_000, 60_000)
        assert found.index.totals.cost == 15_000
        for task_id in ("q1", "q2", derived):
            row = found.index.get(task_id)
            assert row is not None
            assert (row.state, row.sequence) == (State.QUEUED, 0)


async def test_get_answers_while_the_index_is_rebuilt(
    nats_server: NatsServer, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = masters.origin("abcdef")
    await masters.succeed(observer.js, of, await masters.start(observer.js, of))
    go_on = asyncio.Event()
    compare = follower.Follower._compare

    async def later(self: follower.Follower) -> None:
        await go_on.wait()
        await compare(self)

    monkeypatch.setattr(follower.Follower, "_compare", later)
    async with masters.a_master(nats_server.url) as found:
        whole = await masters.ask(observer.connection, api.GET, masters.Tasks, id="abcdef")
        assert [(view.id, view.state) for view in whole.tasks] == [("abcdef", "succeeded")]
        stats = await masters.ask(observer.connection, api.STATS, api.StatsView)
        assert (stats.ready, stats.tasks_known) == (False, 0)
        with pytest.raises(masters.Refusal, match="still reading"):
            await masters.ask(observer.connection, api.GET, masters.Tasks, id="abc")
        go_on.set()
        await masters.ready(found)
        begins = await masters.ask(observer.connection, api.GET, masters.Tasks, id="abc")
        assert [view.id for view in begins.tasks] == ["abcdef"]


async def test_records_that_come_during_the_rebuilding_are_not_missed(
    nats_server: NatsServer, observer: Observer
) -> None:
    await masters.fill(observer.js, 1_500, "a")
    async with masters.a_master(nats_server.url) as found:
        await masters.fill(observer.js, 1_500, "b")

        async def complete() -> bool:
            return found.index.counts()["succeeded"] == 3_000

        await observer.becomes(complete)
        assert len(found.index) == 3_000


# Following.


async def test_every_step_of_a_task_is_followed(running: Master, observer: Observer) -> None:
    await observer.submit("x", {"Agentflow-Id": "t1", "Agentflow-Labels": '{"a":"b"}'})
    queued = await has(observer, running, "t1", "queued")
    assert (queued.sequence, queued.labels) == (0, encode_labels({"a": "b"}))
    of = masters.origin("t1")
    last = await masters.start(observer.js, of)
    assert (await has(observer, running, "t1", "running")).sequence == last.sequence
    ended = await masters.succeed(observer.js, of, last)
    assert (await has(observer, running, "t1", "succeeded")).sequence == ended.sequence
    assert len(running.index) == 1


async def test_a_task_published_without_an_id_gets_the_id_of_its_payload(
    running: Master, observer: Observer
) -> None:
    await observer.submit({"prompt": "x", "id": "named"})
    plain = await observer.derived_id(await observer.submit("just text"))
    broken = await observer.derived_id(await observer.submit(b'{"prompt": '))
    typed = await observer.derived_id(
        await observer.submit('{"id": "not json"}', {"Content-Type": "text/plain"})
    )
    for task_id in ("named", plain, broken, typed):
        await has(observer, running, task_id, "queued")
    assert len(running.index) == 4


async def test_headers_that_look_like_the_servers_own_change_nothing(
    running: Master, observer: Observer
) -> None:
    forged = {
        "Nats-Sequence": "999999",
        "Nats-Subject": "agentflow.tasks.other",
        "Nats-Time-Stamp": "2001-01-01T00:00:00Z",
    }
    await observer.submit("x", {"Agentflow-Id": "f1", **forged})
    await observer.submit("x", forged)
    await observer.submit("x", {"Agentflow-Id": "f2"})
    await has(observer, running, "f2", "queued")
    row = await has(observer, running, "f1", "queued")
    assert row.queue == "default"
    assert row.message.startswith("1-")
    assert running.tasks.cursor == 3


def in_bursts_of(found: Master, most: int) -> None:
    """More live copies than this at once are a burst."""
    for each in (found.records, found.tasks):
        each._source = msgspec.structs.replace(each._source, most=most)


async def test_a_burst_is_read_from_the_stream(running: Master, observer: Observer) -> None:
    in_bursts_of(running, 3)
    await masters.fill(observer.js, 1_000)
    for number in range(40):
        await observer.submit("x", {"Agentflow-Id": f"q{number}"})

    async def complete() -> bool:
        counts = running.index.counts()
        return counts["succeeded"] == 1_000 and counts["queued"] == 40

    await observer.becomes(complete)
    assert running.records.bursts
    assert running.tasks.bursts
    # It listens again: what comes singly is heard at once.
    in_bursts_of(running, 1_000)
    before = running.records.bursts
    last = await masters.start(observer.js, masters.origin("after"))
    assert (await has(observer, running, "after", "running")).sequence == last.sequence
    assert running.records.bursts == before


async def test_large_records_are_a_burst_too(
    running: Master, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "BUFFER_BYTES", 100_000)
    for number in range(10):
        of = masters.origin(f"big{number}")
        last = await masters.start(observer.js, of)
        await masters.succeed(observer.js, of, last, text="x" * 400_000)

    async def complete() -> bool:
        return running.index.counts()["succeeded"] == 10

    await observer.becomes(complete)
    assert running.records.bursts


def test_a_burst_leaves_the_processor_to_others_unless_it_lasts() -> None:
    assert follower.pause(0.02, 0) == follower.PAUSE
    assert follower.pause(0.02, 5_000) == pytest.approx(0.08)
    assert follower.pause(0.02, 100_000) == pytest.approx(0.02)
    assert follower.pause(0.02, 1_000_000) == 0


async def test_what_no_live_copy_said_is_found_by_looking(
    running: Master, observer: Observer
) -> None:
    await running.records.deafen()
    of = masters.origin("unheard")
    await masters.succeed(observer.js, of, await masters.start(observer.js, of))
    running.records.check()
    await has(observer, running, "unheard", "succeeded")


async def test_a_task_is_found_as_soon_as_it_is_submitted(
    running: Master, observer: Observer
) -> None:
    for number in range(20):
        await observer.submit("x", {"Agentflow-Id": f"new{number}"})
        found = await masters.ask(observer.connection, api.GET, masters.Tasks, id=f"new{number}")
        assert [view.state for view in found.tasks] == ["queued"]


async def test_a_killed_server_is_followed_again(
    nats_server: NatsServer, running: Master, observer: Observer
) -> None:
    await masters.fill(observer.js, 20, "before")
    nats_server.kill()
    nats_server.start()
    await observer.connection.connected.wait()
    await provision.wait_ready(observer.js)
    await masters.fill(observer.js, 20, "after")

    async def complete() -> bool:
        return running.index.counts()["succeeded"] == 40

    await observer.becomes(complete)


async def test_a_stream_made_anew_is_read_from_its_start(
    running: Master, observer: Observer
) -> None:
    await masters.fill(observer.js, 30, "old")
    await has(observer, running, "old00029", "succeeded")
    await observer.submit("x", {"Agentflow-Id": "waiting"})
    await has(observer, running, "waiting", "queued")
    await observer.js.api(f"STREAM.DELETE.{subjects.RECORDS}")
    await provision.ensure_streams(observer.js)
    await masters.fill(observer.js, 2, "new")

    async def anew() -> bool:
        counts = {state: count for state, count in running.index.counts().items() if count}
        return counts == {"succeeded": 2, "queued": 1}

    await observer.becomes(anew)
    assert running.index.get("old00001") is None


async def test_a_queue_made_anew_forgets_what_waited_in_the_old_one(
    running: Master, observer: Observer
) -> None:
    for number in range(5):
        await observer.submit("x", {"Agentflow-Id": f"old{number}"})
    await has(observer, running, "old4", "queued")
    await observer.js.api(f"STREAM.DELETE.{subjects.TASKS}")
    await provision.ensure_streams(observer.js)
    await observer.submit("x", {"Agentflow-Id": "new"})

    async def anew() -> bool:
        running.tasks.check()
        return running.index.get("old1") is None and running.index.get("new") is not None

    await observer.becomes(anew)
    assert len(running.index) == 1


async def test_tasks_that_were_purged_leave_the_index(
    nats_server: NatsServer, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master, "TIDY_EVERY", 0.05)
    monkeypatch.setattr(vanished, "QUIET_MS", 0)
    async with masters.a_master(nats_server.url) as found:
        await masters.ready(found)
        for number in range(20):
            await observer.submit("x", {"Agentflow-Id": f"q{number}"})
        await masters.start(observer.js, masters.origin("q7"))
        await has(observer, found, "q19", "queued")
        await has(observer, found, "q7", "running")
        await observer.js.delete(subjects.TASKS, 5)
        await observer.js.delete(subjects.TASKS, 8)

        async def gone() -> bool:
            return found.index.get("q4") is None

        await observer.becomes(gone)
        assert {row.id for row in found.index.oldest("queued", limit=99)} == {
            f"q{number}" for number in range(20) if number not in (4, 7)
        }
        assert found.index.counts()["running"] == 1


# Pages.


async def test_pages_hold_everything_once_and_in_order(observer: Observer) -> None:
    for number in range(30):
        await observer.submit(b"x" * (50_000 if number % 10 == 0 else 10))
    seen, first = [], 1
    while True:
        found = await page(observer.connection, subjects.TASKS, first, batch=7, max_bytes=60_000)
        seen += [sequence_of(message) for message in found.messages]
        assert all(subject_of(message) == "agentflow.tasks.default" for message in found.messages)
        first = seen[-1] + 1
        if not found.more:
            break
    assert seen == list(range(1, 31))
    last = found.messages[-1]
    assert stored_ns(last) == await observer.stored_ns(30)
    assert await page(observer.connection, subjects.TASKS, 31) == ([], False)
    with pytest.raises(NoStream):
        await page(observer.connection, "NOWHERE", 1)


# The index by itself.


def row(number: int, state: str = State.SUCCEEDED, **fields: Any) -> Row:
    values = {"queue": "default", "updated": 1_000 + number, "sequence": number + 1, "cost": 1}
    return Row(id=f"t{number:05}", state=state, **(values | fields))


async def everything(found: Index, **conditions: Any) -> list[str]:
    """All ids of a list, page by page."""
    ids: list[str] = []
    after: Cursor | None = None
    while True:
        part = await found.select(limit=7, after=after, **conditions)
        ids += [item.id for item in part.rows]
        after = part.next
        if after is None:
            return ids


async def test_a_list_is_in_order_of_change_and_pages_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SCANNED", 10)
    found = Index()
    states = (State.SUCCEEDED, State.FAILED, State.RUNNING)
    # Many changes in one millisecond: a page may end among them.
    found.put(
        row(
            number,
            states[number % 3],
            updated=1_000 + number // 9,
            queue="mail" if number % 5 == 0 else "default",
            labels=encode_labels({"parity": str(number % 2), "n": str(number)}),
        )
        for number in range(100)
    )
    newest = [f"t{number:05}" for number in reversed(range(100))]

    def chosen(condition: Any) -> list[str]:
        return [name for name in newest if condition(int(name[1:]))]

    assert await everything(found) == newest
    assert await everything(found, states=["failed"]) == chosen(lambda n: n % 3 == 1)
    assert await everything(found, queue="mail") == chosen(lambda n: n % 5 == 0)
    odd = await everything(found, states=["running"], queue="mail", labels=[("parity", "1")])
    assert odd == chosen(lambda n: n % 3 == 2 and n % 5 == 0 and n % 2 == 1)
    assert await everything(found, labels=[("n", "42"), ("parity", "0")]) == ["t00042"]
    assert await everything(found, labels=[("n", "42"), ("parity", "1")]) == []
    both = await everything(found, states=["failed", "running"])
    assert both == chosen(lambda n: n % 3 in (1, 2))
    since = datetime.fromtimestamp(1.009, UTC)
    assert await everything(found, since=since) == chosen(lambda n: n >= 81)
    wants = parse("state:failed id:*3 or id:t00042").wants
    picked = await found.select(limit=4, wants=lambda row: wants(row, 2.0))
    assert [row.id for row in picked.rows] == chosen(
        lambda n: (n % 3 == 1 and n % 10 == 3) or n == 42
    )[:4]
    assert picked.total == len(chosen(lambda n: (n % 3 == 1 and n % 10 == 3) or n == 42))
    assert await everything(found, states=["no such"]) == []
    assert await everything(found, queue="no such") == []

    assert (await found.select(limit=3)).total == 100
    assert (await found.select(limit=3, states=["failed"])).total == 33
    assert (await found.select(limit=3, queue="mail")).total == 20
    assert (await found.select(limit=3, labels=[("parity", "1")])).total == 50


def test_ids_are_found_by_how_they_begin() -> None:
    found = Index()
    found.put(row(number) for number in range(30))
    rows, total = found.starting("t0001", 3)
    assert ([item.id for item in rows], total) == (["t00010", "t00011", "t00012"], 10)
    assert found.starting("t00029", 3)[1] == 1
    assert found.starting("x", 3) == ([], False)
    assert found.starting("", 3) == ([], False)
    assert found.starting("t0001%", 3) == ([], False)


def test_what_goes_in_comes_out() -> None:
    found = Index()
    given = Row(
        id="a",
        sequence=7,
        state="retrying",
        queue="q",
        updated=5_000,
        priority="low",
        kind="k",
        model="m",
        labels=encode_labels({"a": "ü"}),
        attempt=3,
        failures=2,
        actor="w",
        submitted=1_000,
        started=4_000,
        resume_at=9_000,
        reason="overloaded",
        usage=Usage(1, 2, 3, 4),
        cost=None,
        simulated=True,
    )
    found.put([given])
    assert found.get("a") == given
    queued = Row(id="b", sequence=0, state="queued", queue="q", updated=1, message="7-8")
    found.put([queued])
    assert found.get("b") == queued


def test_the_oldest_finished_tasks_leave_and_stay_counted() -> None:
    found = Index(limit=100)
    found.put(row(number) for number in range(120))
    found.put(row(number, State.RUNNING, updated=1) for number in range(200, 210))
    assert found.evict() == 20
    assert found.evict() == 0
    assert len(found) == 110
    assert found.get("t00019") is None
    assert found.get("t00020") is not None
    assert found.get("t00200") is not None
    assert found.counts()["succeeded"] == 120
    assert found.totals.cost == 130


def test_what_the_streams_no_longer_have_is_not_counted() -> None:
    day = index.DAY_MS
    found = Index(limit=10)
    found.put(row(number, updated=number * day) for number in range(20))
    found.put([row(50, State.RUNNING, updated=3 * day)])
    found.put([row(51, State.QUEUED, updated=0, sequence=0)])
    assert found.evict() == 10
    assert found.expire(5 * day) == 1  # the one that runs no more; five were evicted before
    assert found.counts()["succeeded"] == 15
    assert found.counts()["running"] == 0
    assert found.counts()["queued"] == 1
    assert found.expire(15 * day) == 5
    assert found.counts()["succeeded"] == 5
    assert found.totals.cost == 6


def test_a_row_is_forgotten_only_as_it_was() -> None:
    found = Index()
    found.put([row(1, State.QUEUED, sequence=0), row(2)])
    assert not found.forget("t00002", sequence=0)
    assert found.forget("t00001", sequence=0)
    assert not found.forget("t00001", sequence=0)
    assert found.counts()["queued"] == 0
    found.put([row(3, State.QUEUED, sequence=0)])
    found.forget_unseen()
    assert len(found) == 1
    found.clear()
    assert (len(found), sum(found.counts().values()), found.totals.cost) == (0, 0, 0)
