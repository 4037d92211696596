"""What a master does for others: it provisions, answers, and notices who is lost."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentflow.bus.streams import lease
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.master import Master, serve
from agentflow.master import master as masters_module
from agentflow.protocol import api, control, limits, record, subjects
from agentflow.protocol.api import StatsView, Submitted, Workers
from agentflow.protocol.control import Drain, Heartbeat
from agentflow.protocol.record import Record, State, Usage
from agentflow.rules.records import Spent
from agentflow.version import __version__
from tests.integration.conftest import StartWorker
from tests.support import masters
from tests.support.handlers import Gate
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.until import until

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def master(nats_server: NatsServer, observer: Observer) -> AsyncIterator[Master]:
    async with masters.a_master(nats_server.url) as found:
        await masters.ready(found)
        yield found


async def run(observer: Observer, data: bytes | str, **headers: str) -> Record:
    """`nats req agentflow.api.run`."""
    payload = data.encode() if isinstance(data, str) else data
    named = {f"Agentflow-{name.capitalize()}": value for name, value in headers.items()}
    return record.decode(await masters.ask_raw(observer.connection, api.RUN, payload, named))


async def stats(observer: Observer) -> StatsView:
    return await masters.ask(observer.connection, api.STATS, StatsView)


async def known(observer: Observer, master: Master, count: int) -> None:
    async def look() -> bool:
        return len(master.index) >= count

    await observer.becomes(look)


# Provisioning.


async def test_a_master_makes_the_streams(nats_server: NatsServer) -> None:
    async with masters.a_master(nats_server.url) as found:
        info = await found.log._js.api("STREAM.NAMES")
        assert set(info["streams"]) == {
            subjects.TASKS,
            subjects.RECORDS,
            subjects.SCHEDULE,
            subjects.DEAD,
            subjects.COUNTERS,
            subjects.BATCH,
            subjects.KV_STREAM,
            subjects.OBJECTS,
        }


async def test_retention_is_that_of_the_records(nats_server: NatsServer) -> None:
    async with masters.a_master(nats_server.url, retention=10.0 * limits.DAY) as found:
        info = await found.log._js.stream_info(subjects.RECORDS)
        assert info["config"]["max_age"] == 10 * limits.DAY * 1_000_000_000


async def test_a_deleted_stream_comes_back(
    nats_server: NatsServer, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masters_module, "PROVISION_EVERY", 0.1)
    async with masters.a_master(nats_server.url) as found:
        await masters.ready(found)
        await observer.js.api(f"STREAM.DELETE.{subjects.TASKS}")
        await observer.js.api(f"STREAM.DELETE.{subjects.RECORDS}")

        async def back() -> bool:
            names = (await observer.js.api("STREAM.NAMES")).get("streams") or []
            return subjects.TASKS in names and subjects.RECORDS in names

        await observer.becomes(back)


async def test_a_difference_is_said_and_not_changed(
    nats_server: NatsServer, observer: Observer
) -> None:
    config = (await observer.js.stream_info(subjects.RECORDS))["config"]
    await observer.js.api(f"STREAM.UPDATE.{subjects.RECORDS}", config | {"max_bytes": 1_000_000})
    async with masters.a_master(nats_server.url):
        notes = (await stats(observer)).notes
        assert any(subjects.RECORDS in note and "max_bytes" in note for note in notes)
    config = (await observer.js.stream_info(subjects.RECORDS))["config"]
    assert config["max_bytes"] == 1_000_000


DENIED = """
authorization {
  users = [
    {user: admin, password: a}
    {user: plain, password: b, permissions: {publish: {deny: "$JS.API.STREAM.CREATE.>"}}}
  ]
}
"""


async def test_who_may_not_create_streams_says_what_to_do(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "denied", extra=DENIED).start()
    try:
        options = Connect(urls=(server.url,), user="plain", password="b")
        connection = await Connection.open(options, "master")
        found = Master(connection)
        await found.start()
        try:
            answer = await masters.ask(connection, api.STATS, StatsView)
            assert len([note for note in answer.notes if "agentflow streams apply" in note]) == 8
            assert not answer.ready
            with pytest.raises(masters.Refusal) as refused:
                await masters.ask_raw(connection, api.SUBMIT, b"x")
            assert refused.value.code == "500"
        finally:
            await found.close()
            await connection.close()
    finally:
        server.stop()


# Run and submit.


async def test_run_answers_with_the_final_record(
    observer: Observer, master: Master, start_worker: StartWorker
) -> None:
    await start_worker()
    answer = await run(observer, "Write a haiku", kind="echo", queue="default", priority="high")
    assert (answer.state, answer.text, answer.priority) == ("succeeded", "Write a haiku", "high")
    assert (await observer.last(answer.id)).record == answer


async def test_run_takes_json_too(
    observer: Observer, master: Master, start_worker: StartWorker
) -> None:
    await start_worker()
    body = {"id": "mine", "prompt": "ä", "kind": "echo", "labels": {"ö": "ü"}, "model": "m"}
    answer = await run(observer, msgspec.json.encode(body))
    assert (answer.id, answer.text, answer.labels) == ("mine", "ä", {"ö": "ü"})


async def test_run_answers_a_failure_with_its_record(
    observer: Observer, master: Master, start_worker: StartWorker
) -> None:
    await start_worker()
    answer = await run(observer, "x", kind="nobody-knows-it")
    assert (answer.state, answer.reason) == ("failed", "unknown_kind")


async def test_run_of_a_task_that_has_ended_answers_at_once(
    observer: Observer, master: Master
) -> None:
    of = masters.origin("mine")
    await masters.succeed(observer.js, of, await masters.start(observer.js, of), text="old")
    answer = await run(observer, b'{"id":"mine","prompt":"new"}')
    assert answer.text == "old"
    assert await observer.messages() == 0


async def test_run_of_a_task_that_runs_waits_for_it(observer: Observer, master: Master) -> None:
    of = masters.origin("mine")
    last = await masters.start(observer.js, of)
    asked = asyncio.create_task(run(observer, b'{"id":"mine","prompt":"new"}'))

    async def waits() -> bool:
        return master._submissions.waiting == 1

    await observer.becomes(waits)
    await masters.succeed(observer.js, of, last, text="the first one's")
    assert (await asked).text == "the first one's"
    assert await observer.messages() == 0


async def test_many_runs_at_once(
    observer: Observer, master: Master, start_worker: StartWorker
) -> None:
    await start_worker(slots=50)
    answers = await asyncio.gather(
        *(run(observer, f"prompt {number}", kind="echo") for number in range(200))
    )
    assert [answer.text for answer in answers] == [f"prompt {number}" for number in range(200)]
    assert master._submissions.waiting == 0


async def test_a_master_that_stops_tells_who_waits(
    nats_server: NatsServer, observer: Observer
) -> None:
    async with masters.a_master(nats_server.url) as found:
        asked = asyncio.create_task(run(observer, "nobody serves this"))

        async def waits() -> bool:
            return found._submissions.waiting == 1

        await observer.becomes(waits)
    with pytest.raises(masters.Refusal, match="the task goes on: agentflow get") as refused:
        await asked
    assert refused.value.type == "MasterAbsent"
    assert await observer.messages() == 1


BAD = [
    (b"", {}, "empty"),
    (b"   ", {}, "empty"),
    (b"\xff\xfe", {}, "UTF-8"),
    (b'{"prompt": ', {}, "JSON"),
    (b'{"prompt": "x", "promt": "y"}', {}, "promt.*allowed are prompt"),
    (b'{"prompt": 7}', {}, "prompt"),
    (b'{"prompt": "x", "id": "no good"}', {}, "id"),
    (b"x", {"Agentflow-Id": "no good"}, "id"),
    (b"x", {"Agentflow-Queue": "No Good"}, "queue"),
    (b"x", {"Agentflow-Priority": "urgent"}, "urgent.*high"),
    (b"x", {"Agentflow-Follows": "7"}, "continuation"),
    (b'{"prompt": "x", "not_before": "2099-01-01T00:00:00Z"}', {}, "6 days"),
]


@pytest.mark.parametrize(("payload", "headers", "text"), BAD)
@pytest.mark.parametrize("verb", [api.RUN, api.SUBMIT])
async def test_a_bad_task_is_refused_before_anything_is_stored(
    observer: Observer,
    master: Master,
    verb: str,
    payload: bytes,
    headers: dict[str, str],
    text: str,
) -> None:
    with pytest.raises(masters.Refusal, match=f"(?is){text}") as refused:
        await masters.ask_raw(observer.connection, verb, payload, headers)
    assert refused.value.code == "400"
    assert await observer.messages() == 0


async def test_submit_stores_and_answers_with_the_id(observer: Observer, master: Master) -> None:
    headers = {
        "Agentflow-Queue": "mail",
        "Agentflow-Priority": "low",
        "Agentflow-Labels": '{"a":"b"}',
        "Agentflow-Reply": "somebody.waits",
        "Other": "no",
    }
    data = await masters.ask_raw(observer.connection, api.SUBMIT, b"x", headers)
    answer = msgspec.json.decode(data, type=Submitted)
    assert (answer.queue, answer.priority, answer.sequence) == ("mail", "low", 1)
    stored = await observer.js.get(subjects.TASKS, 1)
    assert stored is not None
    assert (stored.subject, stored.data) == ("agentflow.tasks.mail.low", b"x")
    assert stored.headers == {
        "Agentflow-Id": answer.id,
        "Agentflow-Kind": "claude",
        "Agentflow-Labels": '{"a":"b"}',
        "Agentflow-Reply": "somebody.waits",
        "Agentflow-Title": "x",
    }


async def test_submit_says_when_nobody_serves_the_queue(
    observer: Observer, master: Master, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(master.presence), "settled", True)
    worker = await start_worker()
    worker.actor.beat()

    async def heard() -> bool:
        return any(True for _ in master.presence.living())

    await observer.becomes(heard)
    for queue, unserved in (("default", False), ("mail", True)):
        data = await masters.ask_raw(
            observer.connection, api.SUBMIT, b"x", {"Agentflow-Queue": queue}
        )
        assert msgspec.json.decode(data, type=Submitted).unserved is unserved


# Get and list.


async def test_get_takes_an_id_or_its_beginning(observer: Observer, master: Master) -> None:
    await masters.fill(observer.js, 12, "a")
    await masters.start(observer.js, masters.origin("b1"))
    await observer.submit("x", {"Agentflow-Id": "q1"})
    await known(observer, master, 14)

    async def get(text: str) -> masters.Tasks:
        return await masters.ask(observer.connection, api.GET, masters.Tasks, id=text)

    whole = await get("a00003")
    assert [(view.id, view.state) for view in whole.tasks] == [("a00003", "succeeded")]
    assert whole.tasks[0].text_head == "x" * api.TEXT_HEAD
    assert whole.tasks[0].usage == Usage(10, 20)
    assert whole.tasks[0].cost_usd == 0.000005
    assert whole.tasks[0].labels == {"line": "3"}
    assert [view.id for view in (await get("b")).tasks] == ["b1"]
    many = await get("a")
    assert (len(many.tasks), many.total) == (10, 12)
    waiting = (await get("q1")).tasks[0]
    assert (waiting.state, waiting.sequence) == ("queued", 0)
    assert waiting.message == f"1-{await observer.stored_ns(1)}"
    with pytest.raises(masters.Refusal, match="'zz'") as refused:
        await get("zz")
    assert refused.value.type == "TaskNotFound"
    bare = await masters.ask_raw(observer.connection, api.GET, b" b1\n")
    assert msgspec.json.decode(bare, type=masters.Tasks).tasks[0].id == "b1"


@pytest.mark.parametrize(
    ("verb", "data"),
    [
        (api.GET, b""),
        (api.GET, b"{}"),
        (api.GET, b'{"id": ""}'),
        (api.GET, b'{"id": 7}'),
        (api.LIST, b"[]"),
        (api.LIST, b"\xff"),
        (api.LIST, b'{"limit": 0}'),
        (api.LIST, b'{"limit": 1001}'),
        (api.LIST, b'{"limit": "x"}'),
        (api.LIST, b'{"after": "x"}'),
        (api.LIST, b"[" * 100_000),
    ],
)
async def test_a_bad_request_is_said_to_be_one(
    observer: Observer, master: Master, verb: str, data: bytes
) -> None:
    with pytest.raises(masters.Refusal) as refused:
        await masters.ask_raw(observer.connection, verb, data)
    assert refused.value.code == "400"


async def test_list_filters_and_goes_on(observer: Observer, master: Master) -> None:
    await masters.fill(observer.js, 30, "a")
    await masters.fill(observer.js, 5, "m", queue="mail")
    await masters.start(observer.js, masters.origin("r", queue="mail"))
    await known(observer, master, 36)

    async def listed(**request: Any) -> masters.Tasks:
        return await masters.ask(observer.connection, api.LIST, masters.Tasks, **request)

    assert (await listed()).total == 36
    assert len((await listed()).tasks) == 36
    assert [view.id for view in (await listed(state="running")).tasks] == ["r"]
    mail = await listed(queue="mail", state="succeeded")
    assert {view.id for view in mail.tasks} == {f"m{number:05}" for number in range(5)}
    labelled = await listed(label={"line": "17"})
    assert ([view.id for view in labelled.tasks], labelled.total) == (["a00017"], 1)
    seen: list[str] = []
    after = None
    while True:
        part = await listed(limit=7, after=after)
        seen += [view.id for view in part.tasks]
        assert part.total == 36
        after = part.next
        if after is None:
            break
    assert len(seen) == len(set(seen)) == 36
    assert (await listed(limit=1)).tasks[0].text_head in (None, "x" * api.TEXT_HEAD)


async def test_an_answer_never_exceeds_the_servers_limit(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "small").start()
    try:
        async with masters.a_master(server.url) as found:
            await masters.ready(found)
            js = found.log._js
            labels = {f"{'k' * 60}{number}": "v" * 64 for number in range(10)}
            for number in range(100):
                await masters.start(js, masters.origin(f"t{number}", labels=labels))
            await until(lambda: len(found.index) == 100)
            # What another server would say of itself.
            found.actor.connection.raw._max_payload = 64 * 1024
            answer = await masters.ask(found.actor.connection, api.LIST, masters.Tasks, limit=100)
            assert 0 < len(answer.tasks) < 50
            assert answer.next
            assert answer.total == 100
    finally:
        server.stop()


# Stats and workers.


async def test_stats_show_the_whole(
    observer: Observer, master: Master, start_worker: StartWorker
) -> None:
    gate = Gate()
    worker = await start_worker({"gate": gate}, slots=1)
    await observer.submit({"kind": "gate", "id": "t1", "prompt": "x"})
    await observer.state("t1", State.RUNNING)
    await observer.submit({"kind": "gate", "id": "t2", "prompt": "x"})
    of = masters.origin("done", queue="mail")
    spent = Spent(usage=Usage(1, 2, 3, 4), cost_micro=None, simulated=True)
    await masters.succeed(observer.js, of, await masters.start(observer.js, of), spent=spent)
    await known(observer, master, 3)
    worker.actor.beat()

    async def settled() -> bool:
        found = await stats(observer)
        return found.workers == 1 and found.counts["running"] == 1

    await observer.becomes(settled)
    found = await stats(observer)
    assert found.counts == dict.fromkeys(map(str, State), 0) | {
        "running": 1,
        "queued": 1,
        "succeeded": 1,
    }
    assert (found.usage, found.cost_unknown, found.simulated) == (Usage(1, 2, 3, 4), 1, 1)
    assert (found.tasks_known, found.ready, found.version) == (3, True, __version__)
    assert found.master == master.actor.name
    queue = next(queue for queue in found.queues if queue.queue == "default")
    assert (queue.running, queue.queued, queue.workers, queue.slots) == (1, 1, 1, 1)
    assert queue.depth == {"high": 0, "normal": 1, "low": 0}
    assert queue.oldest_s is not None
    assert not queue.unserved
    gate.opened.set()
    await observer.all_ended(["t1", "t2"])


async def test_a_queue_without_worker_is_named(
    nats_server: NatsServer, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await observer.submit("x", subject="agentflow.tasks.lonely.high")
    await observer.submit("x", subject="agentflow.tasks.lonely")
    async with masters.a_master(nats_server.url) as found:
        early = await stats(observer)
        assert not any(queue.unserved for queue in early.queues)  # nobody had the time to say hello
        monkeypatch.setattr(type(found.presence), "settled", True)
        late = await stats(observer)
        queue = next(queue for queue in late.queues if queue.queue == "lonely")
        assert queue.unserved
        assert queue.depth == {"high": 1, "normal": 1, "low": 0}
        assert queue.oldest_s is not None
        assert any("lonely" in note and "agentflow worker" in note for note in late.notes)


async def test_a_worker_is_listed_until_it_says_goodbye(
    observer: Observer, master: Master, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=7, queues=["default", "mail"], name="one")

    async def listed() -> Workers | None:
        found = await masters.ask(observer.connection, api.WORKERS, Workers)
        return found if found.workers else None

    view = (await observer.becomes(listed)).workers[0]
    assert (view.actor, view.name, view.pid) == (worker.actor.name, "one", os.getpid())
    assert (view.slots, view.queues, view.lost) == (7, ["default", "mail"], False)
    assert view.last_heartbeat is not None
    assert abs((datetime.now(UTC) - view.last_heartbeat).total_seconds()) < 20
    await worker.actor.close()

    async def gone() -> bool:
        return await listed() is None

    await observer.becomes(gone)


def beat(actor: str, interval: float = 0.05) -> bytes:
    now = datetime.now(UTC)
    return control.encode(
        Heartbeat(
            role="worker",
            actor=actor,
            name=actor,
            host="h",
            pid=1,
            version="0",
            started=now,
            time=now,
            interval_s=interval,
            queues=["default"],
        )
    )


async def test_a_silent_worker_is_lost_and_may_come_back(
    nats_server: NatsServer, observer: Observer
) -> None:
    async with masters.a_master(nats_server.url, lost_after=0.2) as found:
        subject = subjects.presence("worker", "w-1")
        observer.connection.publish(subject, beat("w-1"))
        observer.connection.publish(subject, b"not a heartbeat")
        observer.connection.publish(subjects.presence("worker", "slow"), beat("slow", 60.0))

        async def lost() -> bool:
            return (await stats(observer)).lost_workers == 1

        await observer.becomes(lost)
        views = (await masters.ask(observer.connection, api.WORKERS, Workers)).workers
        assert [(view.name, view.lost) for view in views] == [("slow", False), ("w-1", True)]
        observer.connection.publish(subject, beat("w-1", 60.0))

        async def back() -> bool:
            return (await stats(observer)).lost_workers == 0

        await observer.becomes(back)
        assert (await stats(observer)).workers == 2
        found.presence._seen["w-1"].at -= 7200
        found.presence._listening_since -= 7200
        found.presence.look()
        assert "w-1" not in found.presence._seen


async def test_nobody_is_lost_for_what_the_master_could_not_hear(
    nats_server: NatsServer, observer: Observer
) -> None:
    async with masters.a_master(nats_server.url, lost_after=20.0) as found:
        observer.connection.publish(subjects.presence("worker", "w"), beat("w"))

        async def heard() -> bool:
            return bool(found.presence._seen)

        await observer.becomes(heard)
        nats_server.kill()
        await until(lambda: not found.actor.connection.connected.is_set())
        # As after an outage of a minute: nothing was heard since, and nobody was looked for.
        found.presence._seen["w"].at -= 60
        found.presence._listening_since -= 60
        found.presence._looked -= 60
        found.presence.look()
        nats_server.start()
        await found.actor.connection.connected.wait()
        found.presence.look()
        assert set(found.presence._seen) == {"w"}
        assert found.presence.lost == 0


# Several masters, heartbeats, the services framework, stopping.


async def test_two_masters_answer_and_one_takes_over_the_lease(
    nats_server: NatsServer, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEWED", 0.1)
    async with masters.a_master(nats_server.url) as first:

        async def held(by: Master) -> bool:
            return by.lease.held

        await observer.becomes(lambda: held(first))
        async with masters.a_master(nats_server.url) as second:
            await observer.becomes(lambda: _knows(second, first.actor.name))
            assert not second.lease.held
            names = {(await stats(observer)).master for _ in range(60)}
            assert names == {first.actor.name, second.actor.name}
            began = time.monotonic()
            await first.close()
            await observer.becomes(lambda: held(second))
            assert time.monotonic() - began < lease.LASTS  # it was released, not waited for
            assert (await stats(observer)).master == second.actor.name


async def _knows(master: Master, holder: str) -> bool:
    return master.lease.holder == holder


async def test_the_lease_of_a_dead_master_expires(
    nats_server: NatsServer, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEWED", 0.1)
    monkeypatch.setattr(lease, "LASTS", 1)
    async with masters.a_master(nats_server.url) as first:

        async def held(by: Master) -> bool:
            return by.lease.held

        await observer.becomes(lambda: held(first))
        async with masters.a_master(nats_server.url) as second:
            await first.actor.connection.close()
            await observer.becomes(lambda: held(second))


async def test_a_dead_master_and_a_dead_worker_are_noticed_in_time(
    nats_server: NatsServer, observer: Observer
) -> None:
    """With the times as they are: the lease within 10 s, the worker within three heartbeats."""
    async with masters.a_master(nats_server.url) as first:
        await observer.becomes(lambda: _holds(first))
        async with masters.a_master(nats_server.url) as second:
            await observer.becomes(lambda: _knows(second, first.actor.name))
            silent = beat("silent", limits.HEARTBEAT)
            observer.connection.publish(subjects.presence("worker", "silent"), silent)
            await first.actor.connection.close()  # without a word, as when it is killed
            began = time.monotonic()

            async def lost() -> bool:
                # Not by a request: the first might take it with it.
                return second.presence.lost == 1

            await observer.becomes(lost)
            assert time.monotonic() - began <= 3 * limits.HEARTBEAT + 0.5
            await observer.becomes(lambda: _holds(second))
            assert time.monotonic() - began < 10


async def _holds(master: Master) -> bool:
    return master.lease.held


async def test_nats_micro_lists_the_service(observer: Observer, master: Master) -> None:
    answer = await observer.connection.request("$SRV.INFO.agentflow")
    info = msgspec.json.decode(answer.data)
    assert (info["name"], info["version"]) == ("agentflow", __version__)
    assert {endpoint["subject"] for endpoint in info["endpoints"]} == {
        f"agentflow.api.{verb}" for verb in ("get", "list", "stats", "workers", "submit", "run")
    }


async def test_the_service_is_back_after_the_server_was_killed(
    nats_server: NatsServer, observer: Observer, master: Master
) -> None:
    nats_server.kill()
    nats_server.start()
    await observer.connection.connected.wait()
    await master.actor.connection.connected.wait()

    async def answers() -> bool:
        try:
            return bool((await stats(observer)).master)
        except Exception:
            return False

    await observer.becomes(answers)


async def test_a_master_says_how_it_is_and_says_goodbye(
    nats_server: NatsServer, observer: Observer
) -> None:
    beats: list[Heartbeat] = []

    def heard(message: Any) -> None:
        found = control.decode_heartbeat(message.data)
        assert found is not None
        beats.append(found)

    await observer.connection.subscribe("agentflow.presence.master.*", heard)
    async with masters.a_master(nats_server.url, name="m") as found:

        async def some() -> bool:
            return bool(beats)

        await observer.becomes(some)
        assert (beats[0].role, beats[0].name, beats[0].actor) == ("master", "m", found.actor.name)
    await observer.becomes(lambda: _last_is_goodbye(beats))


async def _last_is_goodbye(beats: list[Heartbeat]) -> bool:
    return beats[-1].interval_s == 0 and beats[-1].stopping


async def test_a_master_can_be_told_to_stop(nats_server: NatsServer, observer: Observer) -> None:
    stopping = asyncio.create_task(serve(Connect(urls=(nats_server.url,)), name="told"))

    async def answers() -> bool:
        try:
            return bool((await stats(observer)).master)
        except Exception:
            return False

    await observer.becomes(answers)
    observer.connection.publish("agentflow.control.master", control.encode(Drain()))
    async with asyncio.timeout(10):
        await stopping


# The command.


def command(*arguments: str) -> list[str]:
    program = "import sys; from agentflow.cli import main; sys.exit(main())"
    return [sys.executable, "-c", program, *arguments]


async def test_the_command_serves_and_stops_on_sigterm(
    nats_server: NatsServer, observer: Observer
) -> None:
    process = await asyncio.create_subprocess_exec(
        *command("master", "--nats", nats_server.url, "--name", "cli"),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )

    async def answers() -> bool:
        try:
            return (await stats(observer)).ready
        except Exception:
            return False

    try:
        await observer.becomes(answers)
        process.send_signal(signal.SIGTERM)
        _, told = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert b"Traceback" not in told
    assert b"is ready at" in told


async def test_the_command_says_when_there_is_no_server(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *command("master", "--nats", "nats://127.0.0.1:9", "--wait", "0"),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()
    assert process.returncode == 3
    assert b"Traceback" not in told
    assert told.count(b"\n") == 1
    assert b"nats://127.0.0.1:9" in told


async def test_a_server_without_jetstream_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = "server_name: {name}\nlisten: 127.0.0.1:{port}\n"
    monkeypatch.setattr("tests.support.nats_server.CONFIG", plain)
    server = NatsServer(tmp_path / "plain").start()
    try:
        process = await asyncio.create_subprocess_exec(
            *command("master", "--nats", server.url),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        _, told = await process.communicate()
    finally:
        server.stop()
    assert process.returncode == 3
    assert b"JetStream" in told
    assert b"Traceback" not in told


async def test_a_server_less_durable_than_asked_is_said(nats_server: NatsServer) -> None:
    asks = {True: ["set jetstream.sync_interval to always"], False: []}
    for durable, expected in asks.items():
        options = {"durable": durable, "monitor": nats_server.monitoring}
        async with masters.a_master(nats_server.url, **options) as found:
            notes = found.actor.heartbeat().notes
            assert [note.partition("; ")[2] for note in notes] == expected
