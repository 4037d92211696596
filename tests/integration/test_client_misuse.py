"""A client used where it cannot work says so in one sentence, from every public method."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from agentflow.client import Client
from agentflow.client import client as clients
from agentflow.errors import NotConnected, UsageError
from agentflow.sync import SyncClient, connect
from tests.support import misuse
from tests.support.nats_server import NatsServer

ROOT = Path(__file__).resolve().parents[2]


def url_client(server: NatsServer) -> Client:
    return clients.connect(server.url)


def test_before_it_is_open() -> None:
    client = clients.connect("nats://127.0.0.1:1")
    made = misuse.all_calls(client, [client])
    assert {"Client.submit", "Client.map", "Client.dead", "Client.live"} <= dict(made).keys()
    assert misuse.accepted(made, "async with agentflow.connect()") == []


async def test_after_its_end(nats_server: NatsServer) -> None:
    async with url_client(nats_server) as client:
        made = misuse.all_calls(client, misuse.parts_of(client))
    names = dict(made).keys()
    assert {"DeadLetters.letters", "History.rows", "TaskHandle.result", "Live.start"} <= names
    assert misuse.accepted(made, "closed; connect again") == []
    await client.close()
    async with client:  # again
        await client.read("t1")


def test_in_another_loop_and_in_none(nats_server: NatsServer) -> None:
    async def opened() -> tuple[Client, list[misuse.Call]]:
        client = await url_client(nats_server)
        return client, misuse.all_calls(client, misuse.parts_of(client))

    async def use() -> list[str]:
        with pytest.raises(UsageError, match="event loop"):
            await client.close()
        return misuse.accepted(made, "event loop")

    with asyncio.Runner() as first:
        client, made = first.run(opened())
        with asyncio.Runner() as second:
            assert second.run(use()) == []
        assert misuse.accepted(made, "event loop") == []
        first.run(client.close())


def test_the_sync_client_after_its_end(nats_server: NatsServer) -> None:
    with connect(nats_server.url) as client:
        made = [*misuse.calls(client), *misuse.calls(client.submit("x"))]
    assert {"SyncClient.watch", "SyncClient.map", "SyncTask.result"} <= dict(made).keys()
    assert misuse.accepted(made, "closed; connect again") == []


def test_in_a_fork_of_the_process(nats_server: NatsServer) -> None:
    command = [sys.executable, "-m", "tests.support.misuse", nats_server.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


async def test_who_waits_is_told_that_the_client_was_closed(nats_server: NatsServer) -> None:
    client = await url_client(nats_server)
    task = await client.submit("nobody runs it")

    async def mapped() -> None:
        async for _ in client.map(["nor this"]):
            pass

    async def ended() -> None:
        async for _ in client.as_completed([task]):
            pass

    waiting = [asyncio.ensure_future(work) for work in (task.result(), mapped(), ended())] + [
        client.expect(task.id)
    ]
    while client.tasks.waiting.expected < 2:
        await asyncio.sleep(0.01)
    await client.close()
    async with asyncio.timeout(5):
        for error in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(error, NotConnected) and "closed" in str(error)


async def test_a_result_that_is_here_can_be_had_after_the_end(nats_server: NatsServer) -> None:
    async with url_client(nats_server) as client:
        task = await client.submit("x")
        await client.cancel(task.id)
        assert (await task.result(raise_on_failure=False)).state == "cancelled"
    assert (await task.result(raise_on_failure=False)).state == "cancelled"


async def test_opening_it_twice_is_opening_it_once(nats_server: NatsServer) -> None:
    client = await url_client(nats_server)
    connection = client.connection
    async with client:
        assert client.connection is connection


def test_the_sync_client_hides_nothing_of_it() -> None:
    assert {name for name, _ in misuse.calls(object.__new__(SyncClient))} >= {
        "SyncClient.submit",
        "SyncClient.drain_tasks",
    }
