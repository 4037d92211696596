"""Consumers that a master makes for queues that nobody serves."""

import pytest

from agentflow.client import Client
from agentflow.config import Connect
from agentflow.master import consumers
from agentflow.protocol import subjects
from tests.support.masters import a_master
from tests.support.nats_server import NatsServer


async def names(client: Client) -> set[str]:
    return {info["name"] for info in await client.js.consumers(subjects.TASKS)}


async def test_a_queue_that_was_never_served_is_seen_by_its_consumers(
    nats_server: NatsServer,
) -> None:
    async with (
        a_master(nats_server.url) as master,
        Client(Connect(urls=(nats_server.url,))) as client,
    ):
        await master.consumers.look()
        assert await names(client) == set()
        await client.submit("one", queue="alone")
        await client.submit("two", queue="alone", priority="high")
        master.consumers._queues._read_at = -1e9
        await master.consumers.look()
        assert await names(client) == {"alone-high", "alone-normal", "alone-low"}
        pending = {
            info["name"]: info["num_pending"] for info in await client.js.consumers(subjects.TASKS)
        }
        assert pending == {"alone-high": 1, "alone-normal": 1, "alone-low": 0}


async def test_names_that_somebody_invents_make_no_flood(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "MOST", 2)
    async with (
        a_master(nats_server.url) as master,
        Client(Connect(urls=(nats_server.url,))) as client,
    ):
        for number in range(4):
            await client.submit("x", queue=f"invented{number}")
        for _ in range(2):
            await master.consumers.look()
        assert len(await names(client)) == 2 * 3
