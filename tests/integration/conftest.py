"""A worker in the test's own process, and an observer beside it, on a fresh real server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.handlers.contract import Handler
from agentflow.protocol import limits
from agentflow.worker.worker import Worker
from tests.support.handlers import PLAIN
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer


class StartWorker(Protocol):
    def __call__(
        self, handlers: dict[str, Handler] | None = None, **options: Any
    ) -> Awaitable[Worker]: ...


@pytest.fixture
def nats_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NatsServer]:
    """A fresh real nats-server; a test may give it lines of configuration."""
    server = NatsServer(tmp_path / "nats", extra=getattr(request, "param", "")).start()
    try:
        yield server
    finally:
        if server.alive:
            server.kill()  # an orderly stop takes ten times as long, and there are many tests


@pytest.fixture
async def observer(nats_server: NatsServer) -> AsyncIterator[Observer]:
    found = await Observer.open(nats_server.url)
    yield found
    await found.close()


@pytest.fixture
async def start_worker(nats_server: NatsServer) -> AsyncIterator[StartWorker]:
    """Call it for a running worker; it is stopped with the test."""
    running: list[tuple[Worker, Connection]] = []

    async def start(handlers: dict[str, Handler] | None = None, **options: Any) -> Worker:
        connection = await Connection.open(Connect(urls=(nats_server.url,)), "worker")
        worker = Worker(connection, {**PLAIN, **(handlers or {})}, **options)
        running.append((worker, connection))
        await worker.start()
        return worker

    yield start
    for worker, connection in running:
        if not worker.actor.stopping.is_set():
            worker.actor.hurry.set()
            async with asyncio.timeout(15):
                await worker.actor.close()
        await connection.close()


@pytest.fixture
def short_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a silent owner for a third of a second, not for five."""
    monkeypatch.setattr(limits, "ASK_EVERY", 0.1)
    monkeypatch.setattr(limits, "ASK_FOR", 0.3)
