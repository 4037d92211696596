"""The live feed: nothing of the streams is lost, whatever happens; and no master is needed."""

import asyncio
import json
import logging
import urllib.request
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agentflow.actor import Actor
from agentflow.bus.streams import bucket, follower, provision
from agentflow.bus.streams.bucket import Board
from agentflow.bus.streams.rows import SLICE
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.client import Client
from agentflow.client.live import following, live
from agentflow.client.live import parts as keeping
from agentflow.client.live.live import Live
from agentflow.client.live.parts import Parts
from agentflow.config import Connect
from agentflow.errors import NoAnswer
from agentflow.protocol import headers, record, subjects
from agentflow.protocol.record import EMPTY, Failure, State
from agentflow.rules import records as entries
from agentflow.rules.routes import gates
from agentflow.rules.routes.closures import Closed
from agentflow.rules.routes.route import Route
from agentflow.views import feed
from tests.support import masters
from tests.support.fold import Fold, stored_rows
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with Client(Connect(urls=(nats_server.url,))) as found:
        yield found


@pytest.fixture
def fold() -> Fold:
    return Fold()


@pytest.fixture
async def watched(client: Client, observer: Observer, fold: Fold) -> AsyncIterator[Live]:
    """A feed that knows everything there is: nothing."""
    async with client.live(fold) as found:
        await found.loaded.wait()
        yield found


async def queue(observer: Observer, count: int, prefix: str = "q") -> None:
    """Tasks that wait, with what the live copy cannot see in their payload said in a header."""
    for number in range(count):
        headers = {"Agentflow-Id": f"{prefix}{number}", "Agentflow-Title": "x"}
        await observer.submit("x", headers)


async def as_stored(fold: Fold, observer: Observer, count: int) -> None:
    """The fold becomes what the streams hold, which is so many tasks."""
    await fold.until(lambda: len(fold.rows) == count)
    stored = await stored_rows(observer.js)
    assert len(stored) == count
    await fold.until(lambda: fold.rows == stored)


# Nothing is lost.


async def test_what_was_there_and_what_comes_meanwhile_is_known(
    client: Client, observer: Observer, fold: Fold
) -> None:
    await masters.fill(observer.js, 1_500, "before")
    await queue(observer, 20)
    filling = asyncio.create_task(masters.fill(observer.js, 1_500, "meanwhile"))
    async with client.live(fold) as running:
        await filling
        await running.loaded.wait()
        await as_stored(fold, observer, 3_020)
        loading = fold.last(feed.Loading)
        assert loading is not None
        assert loading.done == loading.total >= 3_020
        assert loading.older == 0
    again = Fold(await client.snapshot())
    assert again.rows == fold.rows


async def test_a_server_that_nobody_has_used_is_empty_and_then_followed(
    nats_server: NatsServer, client: Client, fold: Fold
) -> None:
    async with client.live(fold) as running:
        await running.loaded.wait()
        await running.gates_known.wait()
        await running.depths_known.wait()
        assert not fold.all(feed.Note)
        observer = await Observer.open(nats_server.url)
        await masters.fill(observer.js, 3)
        await queue(observer, 2)
        await as_stored(fold, observer, 5)
        await client.pause("mail")
        await fold.until(lambda: (found := fold.last(feed.Gates)) and found.gates)
        await observer.close()


async def test_a_gap_is_read_from_the_stream(
    watched: Live, observer: Observer, fold: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = follower.Follower._arrived
    lost = 0

    def unreliable(self: follower.Follower, message: Message) -> None:
        nonlocal lost
        if b"lost" in message.data or "lost" in message.headers.get("Agentflow-Id", ""):
            lost += 1
        else:
            arrived(self, message)

    monkeypatch.setattr(follower.Follower, "_arrived", unreliable)
    for each in (watched._records, watched._tasks):
        await each.close()
        await each.start()
    await masters.fill(observer.js, 200, "lost")
    await queue(observer, 20, "lost-q")
    await masters.fill(observer.js, 1, "seen")
    await queue(observer, 1, "seen-q")
    await as_stored(fold, observer, 222)
    assert lost >= 420


async def test_a_burst_of_hundreds_is_read_from_the_stream(
    watched: Live, observer: Observer, fold: Fold
) -> None:
    for each in (watched._records, watched._tasks):
        source = each._follower._source
        each._follower._source = msgspec.structs.replace(source, most=5)
    await asyncio.gather(masters.fill(observer.js, 600), queue(observer, 100))
    await as_stored(fold, observer, 700)
    assert watched._records._follower.bursts
    assert watched._tasks._follower.bursts


async def test_a_killed_server_is_followed_again(
    nats_server: NatsServer, watched: Live, observer: Observer, fold: Fold
) -> None:
    await masters.fill(observer.js, 50, "before")
    await fold.states(succeeded=50)
    nats_server.kill()
    await fold.until(lambda: not up(fold))
    nats_server.start()
    await observer.connection.connected.wait()
    await provision.wait_ready(observer.js)
    await masters.fill(observer.js, 50, "after")
    await queue(observer, 5)
    await as_stored(fold, observer, 105)
    assert up(fold)
    assert [link.up for link in dict.fromkeys(fold.all(feed.Link)) if link.up] == [True, True]


def up(fold: Fold) -> bool:
    link = fold.last(feed.Link)
    assert link is not None
    assert link.up or link.detail
    return link.up


async def test_what_is_stored_while_nobody_can_hear_is_read_after_the_reconnection(
    nats_server: NatsServer, watched: Live, client: Client, observer: Observer, fold: Fold
) -> None:
    nats_server.pause()
    # The feed's connection breaks; the observer's writes are stored as soon as the server goes on.
    raw = client.connection.raw
    await raw._process_op_err(ConnectionError("cut off"))
    assert not up(fold)
    writing = asyncio.create_task(masters.fill(observer.js, 300))
    nats_server.resume()
    await writing
    await as_stored(fold, observer, 300)


async def test_a_stream_made_anew_is_told_and_read_from_its_start(
    watched: Live, observer: Observer, fold: Fold
) -> None:
    await masters.fill(observer.js, 30, "old")
    await queue(observer, 3)
    await fold.states(succeeded=30, queued=3)
    await observer.js.api(f"STREAM.DELETE.{subjects.RECORDS}")
    await provision.ensure_streams(observer.js)
    await masters.fill(observer.js, 2, "new")
    await fold.until(lambda: fold.all(feed.Anew))
    await fold.states(succeeded=2, queued=3)
    await as_stored(fold, observer, 5)
    await observer.js.api(f"STREAM.DELETE.{subjects.TASKS}")
    await provision.ensure_streams(observer.js)
    await queue(observer, 1, "after")
    watched._tasks._follower.check()
    await fold.states(succeeded=2, queued=1)
    assert [item.stream for item in fold.all(feed.Anew)] == [subjects.RECORDS, subjects.TASKS]


async def test_an_attempt_that_failed_is_not_hidden_by_the_next_one(
    watched: Live, observer: Observer, fold: Fold
) -> None:
    now = datetime.now(UTC)
    of = masters.origin("t1", kind="claude")
    last = await masters.start(observer.js, of)
    failure = Failure(type="overloaded_error", message="Overloaded", status=529)
    for state in (State.RETRYING, State.RUNNING, State.FAILED):
        fields: dict[str, Any] = {"resume_at": now} if state == State.RETRYING else {}
        if state != State.RUNNING:
            fields |= {"reason": "overloaded", "error": failure}
        entry = entries.follow(of, last, state, actor="w-1", now=now, **fields)
        last = await masters.append(observer.js, entry)
    await fold.states(failed=1)
    told = {row.state for item in fold.all(feed.Rows) for row in item.rows}
    assert told >= {"retrying", "failed"}
    row = fold.rows["t1"]
    assert row.error == "overloaded_error: Overloaded"
    assert row.fingerprint


def test_of_several_records_only_what_says_more_is_kept() -> None:
    def entry(sequence: int, task_id: str, state: str, word: str = "progress") -> Any:
        data = json.dumps({"v": 1, "id": task_id, "state": state}, separators=(",", ":"))
        return sequence, Message(f"agentflow.live.{word}.{task_id}", "", data.encode(), b"")

    told = [
        entry(1, "a", "running"),
        entry(2, "b", "running"),
        entry(3, "a", "retrying"),
        entry(4, "a", "running"),
        entry(5, "b", "running"),
        entry(6, "a", "failed", "results"),
        entry(7, "a", "running"),
    ]
    kept = sorted(sequence for sequence, _ in following.telling(told))
    assert kept == [3, 5, 6, 7]


async def test_a_task_without_an_id_has_the_one_in_its_payload(
    watched: Live, observer: Observer, fold: Fold
) -> None:
    await observer.submit({"prompt": "x", "id": "named", "labels": {"a": "b"}})
    plain = await observer.derived_id(await observer.submit("just text"))
    await fold.states(queued=2)
    assert fold.rows.keys() == {"named", plain}
    await as_stored(fold, observer, 2)


async def test_the_newest_are_told_first_and_what_is_older_is_counted(
    nats_server: NatsServer, client: Client, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "WINDOW", 100)
    monkeypatch.setattr(following, "BLOCK", 200)
    await masters.start(observer.js, masters.origin("old-and-running"))
    await masters.fill(observer.js, 500)
    fold = Fold()
    async with client.live(fold, newest=600) as running:
        await running.loaded.wait()
        loading = fold.last(feed.Loading)
        assert loading is not None
        assert (loading.done, loading.total, loading.older) == (600, 600, 401)
        sequences = [row.sequence for item in fold.all(feed.Rows) for row in item.rows]
        assert min(sequences) == 402 or min(sequences) == 403  # one of a task's two is enough
        places = [(1_001 - sequence) // 100 for sequence in sequences]
        # The window, then the blocks before it, each in its own order.
        assert places[0] == 0
        assert [place for place in places if place == 0] == places[: places.count(0)]
        assert "old-and-running" not in fold.rows
        async with masters.a_master(nats_server.url) as found:
            await masters.ready(found)
            await fold.until(lambda: "old-and-running" in fold.rows)
    stored = await stored_rows(observer.js)
    assert fold.rows["old-and-running"].sequence == stored["old-and-running"].sequence


async def test_others_have_their_turn_while_much_is_read(
    client: Client, observer: Observer, fold: Fold
) -> None:
    await masters.fill(observer.js, 2_000)
    turns = 0
    told_at: list[int] = []

    def sink(item: feed.Item) -> None:
        fold(item)
        if isinstance(item, feed.Rows):
            assert len(item.rows) <= SLICE
            told_at.append(turns)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    async with client.live(sink) as running:
        await running.loaded.wait()
    other.cancel()
    assert len(fold.rows) == 2_000
    assert len(set(told_at)) == len(told_at)


# What else is told.


async def test_heartbeats_of_workers_and_masters_are_told(
    nats_server: NatsServer, watched: Live, fold: Fold
) -> None:
    async with masters.a_master(nats_server.url) as found:
        await fold.until(lambda: fold.all(feed.Beat))
        beat = fold.all(feed.Beat)[0].beat
        assert (beat.role, beat.actor) == ("master", found.actor.name)
    await fold.until(lambda: fold.all(feed.Beat)[-1].beat.interval_s == 0)


async def test_a_gate_is_told_when_it_closes_and_when_its_time_is_over(
    watched: Live, client: Client, observer: Observer, fold: Fold
) -> None:
    await watched.gates_known.wait()
    assert [item.gates for item in fold.all(feed.Gates)] == [[]]
    now = datetime.now(UTC)
    closed = Closed(since=now, until=now + timedelta(seconds=0.4), reason="rate")
    key = gates.closed_key(Route("main", "sonnet"))
    await Board(observer.js).change(key, lambda _: msgspec.json.encode(closed))
    await fold.until(lambda: len(fold.all(feed.Gates)) == 3)
    names = [[gate.name for gate in item.gates] for item in fold.all(feed.Gates)]
    assert names == [[], ["main.sonnet"], []]
    await client.pause("mail")
    await fold.until(lambda: len(fold.all(feed.Gates)) == 4)
    await client.resume("mail")
    await fold.until(lambda: len(fold.all(feed.Gates)) == 5)


async def test_gates_go_with_a_bucket_that_is_deleted(
    client: Client, observer: Observer, fold: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "WATCH_EVERY", 0.05)
    await client.pause("mail")
    async with client.live(fold):
        await fold.until(lambda: fold.all(feed.Gates))
        await observer.js.api(f"STREAM.DELETE.{subjects.KV_STREAM}")
        await fold.until(lambda: len(fold.all(feed.Gates)) == 2)
        await provision.ensure_streams(observer.js)
        await client.pause("mail")
        await fold.until(lambda: len(fold.all(feed.Gates)) == 3)
    names = [[gate.name for gate in item.gates] for item in fold.all(feed.Gates)]
    assert names == [["mail"], [], ["mail"]]


async def test_depths_count_what_waits_and_what_is_dead(
    watched: Live, observer: Observer, fold: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "DEPTHS_EVERY", 0.05)
    await queue(observer, 3)
    await observer.submit("x", subject="agentflow.tasks.mail.low")
    await observer.js.delete(subjects.TASKS, 1)
    await observer.js.store(subjects.dead("mail", "d1"), b"x")

    def known() -> bool:
        item = fold.last(feed.Depths)
        return item is not None and (item.dead, item.first, len(item.queues)) == (1, 2, 2)

    await fold.until(known)
    item = fold.last(feed.Depths)
    assert item is not None
    default, mail = item.queues
    assert (default.queue, default.messages, default.waiting) == ("default", 2, {"normal": 2})
    assert (mail.queue, mail.messages, mail.waiting) == ("mail", 1, {"low": 1})
    assert mail.oldest is not None
    assert abs(mail.oldest - item.at) < 60


async def subscriptions(server: NatsServer, prefix: str) -> list[str]:
    def read() -> list[str]:
        with urllib.request.urlopen(f"{server.monitoring}/connz?subs=1") as answer:
            connections = json.load(answer)["connections"]
        return sorted(
            subject
            for each in connections
            if each["name"].startswith("client") or "-" in each["name"]
            for subject in each.get("subscriptions_list", [])
            if subject.startswith(prefix)
        )

    return await asyncio.to_thread(read)


async def test_only_the_tokens_of_the_tasks_asked_for_are_subscribed(
    nats_server: NatsServer, watched: Live, client: Client, observer: Observer, fold: Fold
) -> None:
    async def heard(*ids: str) -> None:
        watched.follow_tokens(ids)
        await client.connection.flush()
        found = await subscriptions(nats_server, "agentflow.tokens.")
        wanted = [subjects.tokens(name) for name in ids if name not in ("*", ">", "a b")]
        # One connection is the observer's, which hears all.
        assert [name for name in found if name != subjects.TOKENS] == sorted(wanted)

    await heard("t1", "t2")
    await heard("t2", "t3", "*", ">", "a b")
    block = headers.encode({subjects.ATTEMPT: "2", subjects.OFFSET: "7"})
    for name in ("t1", "t2"):
        observer.connection.publish(subjects.tokens(name), "grün".encode(), block=block)
    await fold.until(lambda: fold.all(feed.Tokens))
    told = fold.all(feed.Tokens)
    assert [(item.id, item.text, item.attempt, item.offset) for item in told] == [
        ("t2", "grün", 2, 7)
    ]
    await heard()


async def test_items_are_dated_by_the_servers_clock(
    watched: Live, client: Client, fold: Fold
) -> None:
    await watched.depths_known.wait()
    server = client.js.now
    client.js.now = lambda: server() + timedelta(seconds=1_000)
    watched.follow_tokens(["t1"])
    await client.connection.flush()
    client.connection.publish(subjects.tokens("t1"), b"x")
    await fold.until(lambda: fold.all(feed.Tokens))
    depths = fold.last(feed.Depths)
    assert depths is not None
    assert fold.all(feed.Tokens)[0].at - depths.at > 900


# Who is not needed, and who may do little.


async def test_no_feed_asks_a_master_anything(
    nats_server: NatsServer, client: Client, observer: Observer
) -> None:
    asked: list[Message] = []
    await observer.connection.subscribe("agentflow.api.>", asked.append)
    async with masters.a_master(nats_server.url) as found:
        await masters.ready(found)
        await masters.fill(observer.js, 100)
        one, two = Fold(), Fold()
        async with client.live(one) as first, client.live(two) as second:
            for running in (first, second):
                await running.loaded.wait()
                await running.depths_known.wait()
            await masters.fill(observer.js, 100, "more")
            await one.states(succeeded=200)
            await two.states(succeeded=200)
        await observer.connection.flush()
        assert asked == []


LIMITED = """
authorization { users: [
  { user: "admin", password: "x" }
  { user: "poor", password: "x", permissions: {
    publish: { allow: ["$JS.API.STREAM.INFO.AGENTFLOW_RECORDS",
                       "$JS.API.DIRECT.GET.AGENTFLOW_RECORDS"] }
    subscribe: { allow: ["_INBOX.>", "agentflow.live.progress.>", "agentflow.live.results.>"] }
  } }
] }
"""


@pytest.mark.parametrize("nats_server", [LIMITED], indirect=True)
async def test_what_is_not_permitted_is_said_once_and_left_out(
    nats_server: NatsServer, fold: Fold, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await Connection.open(
        Connect(urls=(nats_server.url,), user="admin", password="x"), "observer"
    )
    observer = Observer(connection)
    await provision.ensure_streams(observer.js)
    await masters.fill(observer.js, 10)
    poor = Connect(urls=(nats_server.url,), user="poor", password="x")
    async with Client(poor) as client, client.live(fold) as running:
        await running.loaded.wait()
        await running.gates_known.wait()
        await running.depths_known.wait()
        await fold.states(succeeded=10)
        await fold.until(lambda: {"tasks", "gates", "depths", "permissions"} <= parts(fold))
        texts = [(note.part, note.text) for note in fold.all(feed.Note)]
        assert len(set(texts)) == len(texts)
    await connection.close()


def parts(fold: Fold) -> set[str]:
    return {note.part for note in fold.all(feed.Note)}


async def test_a_sink_that_fails_ends_nothing(
    client: Client, observer: Observer, fold: Fold, caplog: pytest.LogCaptureFixture
) -> None:
    def sink(item: feed.Item) -> None:
        fold(item)
        raise RuntimeError("a mistake")

    with caplog.at_level(logging.ERROR):
        async with client.live(sink) as running:
            await running.loaded.wait()
            await masters.fill(observer.js, 10)
            await fold.states(succeeded=10)
    assert "who takes the feed failed on Rows" in caplog.text


async def test_a_part_that_fails_is_said_and_starts_again(
    client: Client,
    observer: Observer,
    fold: Fold,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    read = live.depths.read
    mistakes = [ValueError("a mistake")]

    async def broken(js: Any) -> Any:
        if mistakes:
            raise mistakes.pop()
        return await read(js)

    monkeypatch.setattr(live.depths, "read", broken)
    async with client.live(fold) as running:
        await running.depths_known.wait()
        await fold.until(lambda: len(fold.all(feed.Note)) == 2)
    said = [(note.part, note.text) for note in fold.all(feed.Note)]
    assert said == [("depths", "ValueError: a mistake"), ("depths", "")]
    assert "depths failed" in caplog.text


async def test_nothing_stays_of_a_feed_that_ended(
    nats_server: NatsServer, client: Client, observer: Observer, fold: Fold
) -> None:
    await client.connection.flush()
    tasks = asyncio.all_tasks()
    heard = len(client.connection._subscriptions)
    hooks = (len(client.connection._on_connect), len(client.connection._on_disconnect))
    async with client.live(fold) as running:
        running.follow_tokens(["t1"])
        await running.loaded.wait()
        await running.gates_known.wait()
        await running.depths_known.wait()
    assert asyncio.all_tasks() <= tasks
    assert len(client.connection._subscriptions) == heard
    assert (len(client.connection._on_connect), len(client.connection._on_disconnect)) == hooks
    told = len(fold.items)
    await masters.fill(observer.js, 5)
    await client.connection.flush()
    assert len(fold.items) == told


async def test_a_snapshot_is_a_whole_picture(
    nats_server: NatsServer, client: Client, observer: Observer
) -> None:
    await masters.fill(observer.js, 30)
    await queue(observer, 2)
    await client.pause("mail")
    actor = Actor(observer.connection, role="worker", name="w")
    await actor.start()
    found = Fold(await client.snapshot())
    await actor.close()
    assert found.rows == await stored_rows(observer.js)
    kinds = {type(item) for item in found.items}
    assert kinds == {feed.Link, feed.Rows, feed.Loading, feed.Gates, feed.Depths, feed.Beat}
    again = [feed.decode(feed.encode(item)) for item in found.items]
    assert again == found.items


def test_the_last_of_an_entry_is_read_from_its_head() -> None:
    entry = entries.claimed(masters.origin("t" * 64), EMPTY, actor="w", now=datetime.now(UTC))
    data = record.encode(msgspec.structs.replace(entry, state=State.RETRYING))
    message = Message(f"agentflow.live.progress.{'t' * 64}", "", data, b"")
    assert following.ends_attempt(message)


async def test_a_part_that_works_again_says_so_by_itself(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was stopped leaves no word that stands for ever, though nothing comes."""
    monkeypatch.setattr(keeping, "WELL_AFTER", 0.05)
    monkeypatch.setattr(keeping, "RETRY_MIN", 0.01)
    told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise NoAnswer("no answer within 5 s")
        await asyncio.Event().wait()

    kept = Parts(client.connection, lambda name, text: told.put_nowait((name, text)))
    kept.start("tasks", work)
    assert await told.get() == ("tasks", "no answer within 5 s")
    assert await told.get() == ("tasks", "")
    await kept.close()
