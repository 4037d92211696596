"""A gateway in the test's own process, with a master and a worker, before a fresh real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import aiohttp
import pytest

from agentflow.bus.wire.connection import Connection
from agentflow.client import Client, connect
from agentflow.config import Connect
from agentflow.gateway.gateway import Gateway
from agentflow.gateway.routes.table import routes
from agentflow.gateway.server import HttpServer, bound
from agentflow.gateway.settings import Settings
from agentflow.handlers.contract import Handler
from agentflow.worker.worker import Worker
from tests.support.handlers import PLAIN
from tests.support.masters import a_master, ready
from tests.support.nats_server import NatsServer
from tests.support.until import until


class Answer(NamedTuple):
    """A response, read."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class Served:
    """A gateway that listens, and a session that asks it."""

    def __init__(self, gateway: Gateway, port: int, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.port = port
        self.session = session
        self.url = f"http://127.0.0.1:{port}"

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """A request with JSON, and its whole answer."""
        if body is not None:
            options["json"] = body
        async with self.session.request(method, self.url + path, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.ask("POST", path, body, **options)

    async def raw(self, data: bytes, within: float = 20.0) -> bytes:
        """Bytes as they are, and all that comes back until the gateway closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            async with asyncio.timeout(within):
                return await reader.read()
        finally:
            writer.close()

    @asynccontextmanager
    async def events(self, path: str, **options: Any) -> AsyncIterator[Events]:
        """Server-sent events as they come."""
        options.setdefault("headers", {}).setdefault("Accept", "text/event-stream")
        async with self.session.get(self.url + path, **options) as response:
            assert response.status == 200, await response.text()
            yield Events(response)


class Told(NamedTuple):
    """A server-sent event."""

    event: str
    data: Any
    id: str


class Events:
    """The events of a stream, one after the other."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self, within: float = 20.0) -> Told | None:
        """The next one, None at the end."""
        told: dict[str, str] = {}
        async with asyncio.timeout(within):
            async for line in self._response.content:
                text = line.decode().rstrip("\n")
                if not text and "data" in told:
                    return Told(told["event"], json.loads(told["data"]), told.get("id", ""))
                name, _, value = text.partition(": ")
                if name in ("event", "data", "id"):
                    told[name] = value
        return None

    async def until(self, event: str) -> list[Told]:
        """All up to the first of this name, with it."""
        found = []
        while (told := await self.next()) is not None:
            found.append(told)
            if told.event == event:
                break
        return found


class Serve(Protocol):
    def __call__(self, **settings: Any) -> Awaitable[Served]: ...


@pytest.fixture
def nats_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats", extra=getattr(request, "param", "")).start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
async def serve(nats_server: NatsServer) -> AsyncIterator[Serve]:
    """Call it for a gateway; it ends with the test."""
    running: list[tuple[asyncio.Task[None], HttpServer, Gateway, aiohttp.ClientSession]] = []

    async def start(**settings: Any) -> Served:
        options = Connect(urls=(nats_server.url,))
        chosen = Settings(port=0, **settings)
        gateway = Gateway(options, chosen)
        server = HttpServer(gateway, routes())
        task = asyncio.create_task(gateway.run())
        listener = bound(chosen)
        await server.start(listener)
        session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        running.append((task, server, gateway, session))
        async with asyncio.timeout(20):
            await until(lambda: not gateway.unready() and gateway.hub.started.is_set())
        return Served(gateway, listener.getsockname()[1], session)

    yield start
    for task, server, gateway, session in running:
        gateway.closing.set()
        await session.close()
        await server.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A client beside the gateway; the first on the server, it makes the streams."""
    async with connect(nats_server.url) as opened:
        yield opened


@asynccontextmanager
async def a_worker(
    server: NatsServer, handlers: dict[str, Handler] | None = None, **options: Any
) -> AsyncIterator[Worker]:
    connection = await Connection.open(Connect(urls=(server.url,)), "worker")
    worker = Worker(connection, {**PLAIN, **(handlers or {})}, **options)
    await worker.start()
    try:
        yield worker
    finally:
        worker.actor.hurry.set()
        await worker.actor.close()
        await connection.close()


@pytest.fixture
async def stack(nats_server: NatsServer) -> AsyncIterator[Worker]:
    """A master that knows all, and a worker."""
    async with a_master(nats_server.url) as master:
        await ready(master)
        async with a_worker(nats_server) as worker:
            yield worker
