"""Short cuts for tests of the bus and of the task log."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.puller import ACK, Puller
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Delivered
from agentflow.config import Connect
from agentflow.errors import NotConnected
from agentflow.protocol import subjects
from agentflow.protocol.record import EMPTY, Last, Record
from agentflow.protocol.subjects import Priority
from agentflow.rules import records as entries
from agentflow.rules.records import Origin
from tests.support.nats_server import NatsServer

WITHIN = 20.0
"""Seconds after which a test gives up; what comes at all comes much sooner."""


_open: list[Connection] = []
_before: set[asyncio.Task[Any]] = set()


@asynccontextmanager
async def connected(*urls: str, **options: Any) -> AsyncIterator[Connection]:
    """A connection; the last one to be closed leaves no task behind."""
    if not _open:
        _before.clear()
        _before.update(asyncio.all_tasks())
    connection = await Connection.open(Connect(urls=urls, **options), "test")
    _open.append(connection)
    try:
        yield connection
    except BaseException:
        _open.remove(connection)
        await connection.close()
        raise
    _open.remove(connection)
    await connection.close()
    for _ in range(20):
        await asyncio.sleep(0)
    if not _open:
        left = asyncio.all_tasks() - _before - {asyncio.current_task()}
        assert not left, left


def freeze(server: NatsServer) -> None:
    """Stop the server and return when it has stopped: the signal alone takes its time."""
    server.pause()
    _, status = os.waitpid(server.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


async def happens(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(WITHIN):
        while not condition():
            await asyncio.sleep(0.005)


async def restarted(connection: Connection, restart: Callable[[], object]) -> None:
    """Do what costs the connection, and return when it is back."""
    back = asyncio.Event()
    remove = connection.on_connect(back.set)
    await asyncio.to_thread(restart)
    async with asyncio.timeout(WITHIN):
        await back.wait()
    remove()


async def killed_and_started(connection: Connection, server: NatsServer) -> None:
    """kill -9 the server, start it again, and return when the connection is back."""
    server.kill()
    await restarted(connection, server.start)


async def core_request(connection: Connection) -> None:
    """Fails unless the connection reads and writes."""
    async with asyncio.timeout(WITHIN):
        await provision.wait_ready(JetStream(connection))


def origin(task_id: str = "t1", **changes: Any) -> Origin:
    facts: dict[str, Any] = {
        "id": task_id,
        "queue": "default",
        "priority": "normal",
        "message": "1-1",
        "submitted": datetime.now(UTC),
        "kind": "echo",
    }
    return Origin(**facts | changes)


def claim(task_id: str = "t1", last: Last = EMPTY, *, actor: str = "w", **changes: Any) -> Record:
    return entries.claimed(origin(task_id, **changes), last, actor=actor, now=datetime.now(UTC))


class Station:
    """A puller whose test decides when a delivery is done with."""

    def __init__(
        self,
        connection: Connection,
        *,
        slots: int,
        queues: Sequence[str] = ("default",),
        allowed: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.connection = connection
        self.js = JetStream(connection)
        self.slots = slots
        self.queues = queues
        self.held: list[Delivered] = []
        self.seen: list[str] = []
        """Payloads in the order in which they were delivered."""
        self.most = 0
        self.mended = 0
        self.puller = Puller(
            connection,
            subjects.TASKS,
            [[subjects.consumer(queue, priority) for queue in queues] for priority in Priority],
            slots=slots,
            free=lambda: self.slots - len(self.held),
            deliver=self._deliver,
            ensure=self._ensure,
            allowed=allowed,
        )
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Station:
        await self.puller.start()
        self._watch = asyncio.create_task(self.puller.watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._watch is not None
        self._watch.cancel()
        await self.puller.stop()

    def _deliver(self, delivered: Delivered) -> None:
        self.held.append(delivered)
        self.seen.append(delivered.message.data.decode())
        self.most = max(self.most, len(self.held))

    async def _ensure(self) -> None:
        await provision.ensure_streams(self.js)
        for queue in self.queues:
            await provision.ensure_consumers(self.js, queue)
        self.mended += 1

    async def got(self, count: int) -> None:
        """Wait for this many deliveries in all."""
        await happens(lambda: len(self.seen) >= count)

    def finish(self) -> Delivered:
        """Ack the oldest delivery and free its slot."""
        delivered = self.held.pop(0)
        with suppress(NotConnected):
            self.connection.publish(delivered.message.reply, ACK)
        self.puller.refill()
        return delivered


async def provisioned(connection: Connection, *queues: str, lease: float = 60.0) -> JetStream:
    """Streams and consumers; a lease so long that no redelivery can hide a loss."""
    js = JetStream(connection)
    assert not await provision.ensure_streams(js)
    for queue in queues or ("default",):
        await provision.ensure_consumers(js, queue, lease=lease)
    return js


async def submit(
    js: JetStream, *payloads: str, queue: str = "default", priority: str = "normal"
) -> None:
    for payload in payloads:
        await js.store(subjects.task(queue, priority), payload.encode())


async def stream_has(js: JetStream, stream: str, messages: int) -> None:
    """Return when a stream holds this many messages."""
    async with asyncio.timeout(WITHIN):
        while (await js.stream_info(stream))["state"]["messages"] != messages:
            await asyncio.sleep(0.01)
