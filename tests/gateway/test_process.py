"""The gateway as a process: its port, several of it, its tokens, kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import aiohttp

from agentflow.client import Client
from tests.gateway.conftest import Events, Serve
from tests.support.nats_server import NatsServer
from tests.support.parts import Part, Parts


async def url_of(part: Part) -> str:
    return (await part.says("gateway at ")).rpartition(" ")[2]


async def ready(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                async with session.get(url + "/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


async def test_a_port_that_is_taken_is_told_or_passed_over(
    parts: Parts, nats_server: NatsServer
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = parts.start("gateway", "--nats", nats_server.url, "--port", port)
        passed = parts.start("gateway", "--nats", nats_server.url, "--port", port, "--next-free")
        assert await refused.exited() == 3
        assert "choose another --port" in refused.text()
        url = await url_of(passed)
        assert url.startswith("http://127.0.0.1:")
        assert not url.endswith(f":{port}")
    passed.signal(signal.SIGTERM)
    assert await passed.exited() == 0


async def test_at_another_address_a_token_is_wanted(
    parts: Parts, client: Client, nats_server: NatsServer
) -> None:
    command = ("gateway", "--nats", nats_server.url, "--host", "0.0.0.0", "--port", "0")
    refused = parts.start(*command)
    assert await refused.exited() == 2
    assert "agentflow token create" in refused.text()
    text, _ = await client.operate.tokens.create("viewer")
    url = await url_of(parts.start(*command))
    async with aiohttp.ClientSession() as session:
        await ready(session, url)
        async with session.get(url + "/v1/tasks") as answer:
            assert answer.status == 401
        header = {"Authorization": f"Bearer {text}"}
        async with session.get(url + "/v1/tasks", headers=header) as answer:
            assert answer.status == 200


async def test_several_processes_share_a_port_and_one_that_is_killed_is_replaced(
    parts: Parts, nats_server: NatsServer
) -> None:
    part = parts.start("gateway", "--nats", nats_server.url, "--port", "0", "--processes", "2")
    url = await url_of(part)
    async with aiohttp.ClientSession(headers={"Connection": "close"}) as session:
        await ready(session, url)
        children = Path(f"/proc/{part.pid}/task/{part.pid}/children")
        first = set(children.read_text().split())
        assert len(first) == 2
        os.kill(int(min(first)), signal.SIGKILL)
        async with asyncio.timeout(30):
            while len(now := set(children.read_text().split())) < 2 or now == first:
                await asyncio.sleep(0.05)
        await ready(session, url)
        for _ in range(20):
            async with session.get(url + "/livez") as answer:
                assert answer.status == 200
    part.signal(signal.SIGTERM)
    assert await part.exited() == 0


async def test_a_reader_misses_nothing_while_its_gateway_and_the_server_are_killed(
    parts: Parts, serve: Serve, client: Client, nats_server: NatsServer, free_port
) -> None:
    port = str(free_port())
    command = ("gateway", "--nats", nats_server.url, "--port", port)
    part = parts.start(*command)
    url = await url_of(part)
    async with aiohttp.ClientSession() as session:
        await ready(session, url)
        await client.submit("x", id="k-1", kind="echo")
        ended = await client.cancel("k-1")
        async with session.get(f"{url}/v1/events?after=0") as response:
            told = await Events(response).next()
            assert told is not None
            last = told.id
        part.kill()
        await client.submit("x", id="k-2", kind="echo")
        await client.cancel("k-2")
        nats_server.kill()
        nats_server.start()
        await url_of(parts.start(*command))
        await ready(session, url)
        headers = {"Last-Event-ID": last}
        async with session.get(url + "/v1/events", headers=headers) as response:
            told = await Events(response).next()
        assert told is not None
        assert told.data["taskId"] == "k-2"
    assert ended.state == "cancelled"


async def test_tokens_are_made_listed_and_revoked_by_the_command_line(
    parts: Parts, client: Client, nats_server: NatsServer
) -> None:
    at = ("--nats", nats_server.url)
    made = parts.start("token", "create", "--role", "viewer", "--ttl", "1h", "--json", *at)
    assert await made.exited() == 0
    told = json.loads(made.text())
    assert told["token"].startswith(f"af_{told['id']}_")
    listed = parts.start("token", "list", *at)
    assert await listed.exited() == 0
    assert told["id"] in listed.text()
    assert told["token"] not in listed.text()
    gone = parts.start("token", "revoke", told["token"], *at)
    assert await gone.exited() == 0
    assert await client.operate.tokens.all() == []
    link = parts.start("web", "--print", "--role", "viewer", *at)
    assert await link.exited() == 0
    assert "/login#af_" in link.text()
    [once] = await client.operate.tokens.all()
    assert (once.role, once.once) == ("viewer", True)
