"""What the client does while the server is away, and with what it missed meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

import agentflow
from agentflow.client import Client
from agentflow.client.tasks import submission, waiting
from agentflow.errors import NotConnected, PermissionDenied, StackError, StreamFull
from agentflow.protocol import subjects
from agentflow.protocol.task import TaskBody
from tests.support.handlers import Gate
from tests.support.nats_server import NatsServer, binary
from tests.support.until import until


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with agentflow.connect(nats_server.url) as opened:
        yield opened


def cut(client: Client) -> None:
    """Lose this connection, and only this one."""
    client.connection.raw._transport.close()


async def test_a_result_survives_a_restart_of_the_server(
    client: Client, nats_server: NatsServer, start_worker: Any
) -> None:
    gate = Gate()
    await start_worker({"gate": gate}, lease=2)
    tasks = [await client.submit("x", kind="gate") for _ in range(10)]
    waits = [asyncio.ensure_future(task.result(60)) for task in tasks]
    await gate.started.wait()
    nats_server.kill()
    await asyncio.to_thread(nats_server.start)
    gate.opened.set()
    results = await asyncio.gather(*waits)
    assert all(result.text == "released" for result in results)


async def test_what_ended_while_the_client_was_away_is_found(
    client: Client, start_worker: Any
) -> None:
    gate = Gate()
    await start_worker({"gate": gate}, slots=300)
    tasks = [await client.submit("x", kind="gate") for _ in range(200)]
    waits = [asyncio.ensure_future(task.result(60)) for task in tasks]
    await until(lambda: len(gate.runs) == 200)
    client.connection.on_disconnect(gate.opened.set)
    cut(client)
    assert all(result.ok for result in await asyncio.gather(*waits))


async def test_what_nobody_awaited_yet_is_found_too(client: Client, start_worker: Any) -> None:
    gate = Gate()
    await start_worker({"gate": gate})
    assert (await (await client.submit("opens the subscription")).result(20)).ok
    task = await client.submit("x", kind="gate")
    await gate.started.wait()
    client.connection.on_disconnect(gate.opened.set)
    again = client.connection.reconnects
    cut(client)
    await until(lambda: client.connection.reconnects > again and gate.ended)
    assert (await task.result(20)).ok


async def test_a_live_copy_that_is_lost_is_found_by_looking(
    client: Client, start_worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "CHECK_EVERY", 0.3)
    lost = []
    monkeypatch.setattr(waiting.Waiting, "_arrived", lambda _, message: lost.append(message))
    await start_worker()
    await client.tasks.waiting.ready()
    task = await client.submit("x")
    assert (await task.result(20)).ok
    assert lost


async def test_a_map_goes_on_through_restarts(
    client: Client, nats_server: NatsServer, start_worker: Any
) -> None:
    await start_worker(slots=50, lease=2)
    seen: list[int | None] = []
    async with aclosing(
        client.map((f"{n}" for n in range(3000)), concurrency=100, ordered=True)
    ) as results:
        async for result in results:
            assert result.text == f"{result.index}"
            seen.append(result.index)
            if len(seen) in (500, 1500):
                nats_server.kill()
                await asyncio.to_thread(nats_server.start)
    assert seen == list(range(3000))


async def test_watching_all_misses_no_record_over_a_reconnection(
    client: Client, nats_server: NatsServer, start_worker: Any
) -> None:
    await start_worker()
    states: dict[str, list[str]] = {}
    async with agentflow.connect(nats_server.url) as other, aclosing(client.watch()) as events:
        first = asyncio.ensure_future(anext(events))
        while not first.done():
            await (await other.submit("until it is heard")).result(20)
            await asyncio.wait([first], timeout=0.05)
        lost = asyncio.Event()
        client.connection.on_disconnect(lost.set)
        cut(client)
        await lost.wait()
        tasks = [await other.submit("meanwhile") for _ in range(20)]
        for task in tasks:
            await task.result(20)
        wanted = {task.id for task in tasks}
        async for event in events:
            if event.record and event.id in wanted:
                states.setdefault(event.id, []).append(event.record.state)
                if sum(map(len, states.values())) == 40:
                    break
    assert all(found == ["running", "succeeded"] for found in states.values())


async def test_a_submission_waits_for_the_server(
    client: Client, nats_server: NatsServer, start_worker: Any
) -> None:
    await start_worker()
    await client.submit("makes the streams")
    nats_server.stop()
    submitting = asyncio.ensure_future(client.submit("patient"))
    await until(lambda: not client.connection.connected.is_set())
    await asyncio.to_thread(nats_server.start)
    assert (await (await submitting).result(30)).text == "patient"


async def test_a_submission_gives_up_with_a_sentence(nats_server: NatsServer) -> None:
    options = agentflow.connect(nats_server.url).options
    async with Client(options, patience=0.1) as client:
        await client.submit("makes the streams")
        nats_server.stop()
        with pytest.raises(StackError, match=r"cannot reach NATS|whether it is stored is unknown"):
            await client.submit("in vain")


async def test_a_full_queue_makes_submitters_wait(client: Client, start_worker: Any) -> None:
    await client.submit("makes the streams")
    info = await client.js.stream_info(subjects.TASKS)
    await client.js.api(f"STREAM.UPDATE.{subjects.TASKS}", {**info["config"], "max_msgs": 3})
    tasks = [await client.submit("fits") for _ in range(2)]
    body = TaskBody(prompt="does not fit")
    with pytest.raises(StreamFull):
        await client.submit_body(body, wait_full=False)
    late = [asyncio.ensure_future(client.submit("waits")) for _ in range(5)]
    await asyncio.wait(late, timeout=0.2)
    assert not any(submitting.done() for submitting in late)
    await start_worker()
    handles = tasks + [await submitting for submitting in late]
    assert all([(await handle.result(20)).ok for handle in handles])


async def test_thousands_at_once_wait_their_turn(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "OUTSTANDING", 10)
    async with Client(client.options) as narrow:
        await narrow.submit("makes the streams")
        some = [asyncio.ensure_future(narrow.submit("x")) for _ in range(500)]
        await asyncio.sleep(0)
        for each in some[::7]:
            each.cancel()
        done = await asyncio.gather(*some, return_exceptions=True)
        assert sum(isinstance(each, asyncio.CancelledError) for each in done) == len(some[::7])
        assert (await narrow.submit("and there is room again")).message_sequence


async def test_a_server_without_jetstream_is_named_at_once(nats_server: NatsServer) -> None:
    nats_server.stop()
    config = (nats_server.folder / "nats.conf").read_text()
    bare = config[: config.index("jetstream {")]
    (nats_server.folder / "bare.conf").write_text(bare)
    process = await asyncio.create_subprocess_exec(
        binary(), "-c", str(nats_server.folder / "bare.conf"), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    client = await agentflow.connect(nats_server.url)
                    break
                except NotConnected:
                    continue
        with pytest.raises(StackError, match="JetStream is not enabled there"):
            await client.submit("x")
        with pytest.raises(StackError, match="JetStream does not answer"):
            await client.get("x")
        await client.close()
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize(
    "url",
    [
        "nats://127.0.0.1:1",
        "nats://[bad",
        "nats://127.0.0.1:99999",
        "localhost:1,localhost:2",
        "nats://user:secret@127.0.0.1:1",
    ],
)
async def test_a_server_that_is_not_there_is_named_quickly(url: str) -> None:
    began = time.monotonic()
    with pytest.raises(NotConnected, match="cannot reach NATS at") as raised:
        await agentflow.connect(url)
    assert "secret" not in str(raised.value)
    # Refused, not timed out: the limit for a silent server is two seconds.
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    "nats_server", ['authorization { user: "u", password: "p" }'], indirect=True
)
async def test_credentials_that_are_refused(nats_server: NatsServer) -> None:
    with pytest.raises(PermissionDenied, match="does not accept these credentials"):
        await agentflow.connect(nats_server.url)
