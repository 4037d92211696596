"""Servers joined and divided as docs/scaling.md says: a leaf node, and accounts side by side."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentflow.bus.streams import provision
from agentflow.cli.checks import server as server_checks
from agentflow.cli.checks.check import Status
from agentflow.cli.repair import put_right
from agentflow.client import Client
from agentflow.config import Connect
from tests.support.deployment import Deployment, whole
from tests.support.nats_server import NatsServer, free_port
from tests.support.parts import Parts
from tests.support.until import until

LEAF = """
leafnodes {{ remotes: [{{ url: "nats://127.0.0.1:{port}" }}] }}
mappings {{ "$JS.API.>": "$JS.hub.API.>" }}
"""
ACCOUNTS = """
accounts {
  red { jetstream: enabled, users: [{ user: red, password: r }] }
  blue { jetstream: enabled, users: [{ user: blue, password: b }] }
}
"""


@pytest.fixture
def servers() -> Iterator[list[NatsServer]]:
    """Those that are to be stopped, the last first."""
    found: list[NatsServer] = []
    yield found
    for server in reversed(found):
        server.stop()


def _leaves(server: NatsServer) -> int:
    """How many leaf nodes have joined it."""
    with urllib.request.urlopen(f"{server.monitoring}/leafz", timeout=5) as answer:
        return int(json.load(answer)["leafnodes"])


async def test_a_worker_behind_a_leaf_node_works_for_the_hub(
    tmp_path: Path, servers: list[NatsServer], parts: Parts
) -> None:
    """The leaf has no JetStream: what the worker asks of it is mapped to the hub's domain."""
    port = free_port()
    listen = f"leafnodes {{ listen: 127.0.0.1:{port} }}"
    hub = NatsServer(tmp_path / "hub", extra=listen, jetstream="domain: hub").start()
    servers.append(hub)
    leaf = NatsServer(tmp_path / "leaf", extra=LEAF.format(port=port), jetstream=None).start()
    servers.append(leaf)
    await until(lambda: _leaves(hub) == 1)
    async with Client(Connect(urls=(hub.url,))) as client:
        worker = parts.start("worker", "--kinds", "echo", "--nats", leaf.url)
        await worker.says("slots on")
        handles = [await client.submit(f"n{each}", kind="echo") for each in range(20)]
        results = [await handle.result(timeout=30) for handle in handles]
    assert [result.text for result in results] == [f"n{each}" for each in range(20)]
    # The other way round: whoever submits at the leaf.
    async with Client(Connect(urls=(leaf.url,))) as client:
        handle = await client.submit("from the leaf", kind="echo")
        assert (await handle.result(timeout=30)).text == "from the leaf"


async def test_a_second_set_of_streams_behind_a_leaf_node_is_refused(
    tmp_path: Path, servers: list[NatsServer], parts: Parts
) -> None:
    """Each of them would store every task."""
    port = free_port()
    listen = f"leafnodes {{ listen: 127.0.0.1:{port} }}"
    hub = NatsServer(tmp_path / "hub", extra=listen, jetstream="domain: hub").start()
    servers.append(hub)
    joined = f'leafnodes {{ remotes: [{{ url: "nats://127.0.0.1:{port}" }}] }}'
    leaf = NatsServer(tmp_path / "leaf", extra=joined, jetstream="domain: leaf").start()
    servers.append(leaf)
    await until(lambda: _leaves(hub) == 1)
    async with Client(Connect(urls=(hub.url,))) as client:
        assert not await provision.ensure_streams(client.js)
        assert (await put_right(client.js, replicas=None, retention=None)).failed == []
    async with Client(Connect(urls=(leaf.url,))) as client:
        refused = await put_right(client.js, replicas=None, retention=None)
        assert refused.done == []
        assert "a set of streams elsewhere takes agentflow.tasks.>" in refused.failed[0]
        assert "Nothing was changed" in refused.failed[0]
        # Made all the same, as a master makes them that does not look.
        assert not await provision.ensure_streams(client.js)
        found = await server_checks.joined(client.js)
        assert found is not None
        assert found.status is Status.FAIL
        assert "2 sets of streams take agentflow.tasks.>" in found.text


HUB = """
include ./nats.conf
jetstream {{ store_dir: "./nats-data", domain: hub, max_buffered_msgs: 50000 }}
leafnodes {{
  listen: "127.0.0.1:{port}"
  authorization {{ users: [{{ user: leaf, password: "l", account: AGENTFLOW }}] }}
}}
"""


async def test_a_worker_behind_a_leaf_node_works_for_roles_in_other_accounts(
    tmp_path: Path, servers: list[NatsServer], parts: Parts
) -> None:
    """The hub has nats.conf: who submits is in an account of his own, the leaf in that of tasks."""
    port = free_port()
    config = whole(tmp_path / "config").parent / "host.conf"
    config.write_text(HUB.format(port=port))
    hub = Deployment(tmp_path / "hub", config=config).start()
    try:
        text = LEAF.format(port=port).replace("//127", "//leaf:l@127")
        leaf = NatsServer(tmp_path / "leaf", extra=text, jetstream=None).start()
        servers.append(leaf)
        async with Client(hub.options("admin")) as admin:
            assert not await provision.ensure_streams(admin.js)
        worker = parts.start("worker", "--kinds", "echo", "--nats", leaf.url)
        await worker.says("slots on")
        async with Client(hub.options("submitter")) as client:
            handles = [await client.submit(f"n{each}", kind="echo") for each in range(20)]
            results = [await handle.result(timeout=30) for handle in handles]
        assert [result.text for result in results] == [f"n{each}" for each in range(20)]
    finally:
        hub.stop()


async def test_two_accounts_of_a_server_are_two_sets_of_streams(
    tmp_path: Path, servers: list[NatsServer], parts: Parts
) -> None:
    server = NatsServer(tmp_path / "nats", extra=ACCOUNTS).start()
    servers.append(server)
    urls = [
        server.url.replace("//", f"//{user}:{password}@")
        for user, password in (("red", "r"), ("blue", "b"))
    ]
    async with Client(Connect(urls=(urls[0],))) as red, Client(Connect(urls=(urls[1],))) as blue:
        worker = parts.start("worker", "--kinds", "echo", "--nats", urls[0])
        await worker.says("slots on")
        # The same id in both: neither knows of the other's.
        ours = await red.submit("of red", kind="echo", id="same")
        theirs = await blue.submit("of blue", kind="echo", id="same")
        assert (await ours.result(timeout=30)).text == "of red"
        other = parts.start("worker", "--kinds", "echo", "--nats", urls[1])
        await other.says("slots on")
        assert (await theirs.result(timeout=30)).text == "of blue"
