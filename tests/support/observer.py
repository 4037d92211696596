"""A task queue seen from outside: submit anything, wait for what the live subjects say.

It speaks the bare protocol, so that a test of the worker does not stand on the client.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream, PubAck, Stored
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.config import Connect
from agentflow.errors import BusError
from agentflow.log.task import TaskLog, last_of
from agentflow.protocol import control, limits, record, subjects
from agentflow.protocol import headers as blocks
from agentflow.protocol import task as tasks
from agentflow.protocol.control import Heartbeat
from agentflow.protocol.identity import message_identity
from agentflow.protocol.record import Last
from agentflow.protocol.subjects import Priority
from agentflow.rules.records import Origin
from tests.support import checker

T = TypeVar("T")
WITHIN = 20.0
"""Seconds after which a test gives up; what comes at all comes much sooner."""

_INSTANT = re.compile(r"(.*T\d\d:\d\d:\d\d)(?:\.(\d+))?Z")


class Observer:
    """One connection that submits tasks and hears what became of them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.js = JetStream(connection)
        self.live: dict[str, list[Last]] = {}
        """Accepted records by task, in the order in which they came."""
        self.tokens: dict[str, list[Message]] = {}
        self.replies: list[Message] = []
        self.workers: dict[int, Heartbeat] = {}
        """The last heartbeat of each worker, by process."""
        self._stored: dict[int, str] = {}
        self._changed = asyncio.Event()

    @classmethod
    async def open(cls, url: str) -> Observer:
        """Connect, make the streams, listen."""
        self = cls(await Connection.open(Connect(urls=(url,)), "observer"))
        assert not await provision.ensure_streams(self.js)
        await self.connection.subscribe(subjects.LIVE_TASKS, self._submitted)
        for subject in subjects.LIVE_RECORDS:
            await self.connection.subscribe(subject, self._recorded)
        await self.connection.subscribe(subjects.TOKENS, self._generated)
        await self.connection.subscribe(subjects.PRESENCE, self._alive)
        await self.connection.flush()
        return self

    async def close(self) -> None:
        await self.connection.close()

    # What is heard.

    def _submitted(self, message: Message) -> None:
        headers = message.headers
        self._stored[int(headers["Nats-Sequence"])] = headers["Nats-Time-Stamp"]
        self._changed.set()

    def _recorded(self, message: Message) -> None:
        entry = record.decode(message.data, message.subject)
        sequence = int(message.headers["Nats-Sequence"])
        self.live.setdefault(subjects.record_id(message.subject), []).append(Last(sequence, entry))
        self._changed.set()

    def _generated(self, message: Message) -> None:
        self.tokens.setdefault(message.subject.rpartition(".")[2], []).append(message)
        self._changed.set()

    def _alive(self, message: Message) -> None:
        heartbeat = control.decode_heartbeat(message.data)
        if heartbeat is not None and heartbeat.role == "worker":
            self.workers[heartbeat.pid] = heartbeat
        self._changed.set()

    async def listen_for_replies(self, subject: str) -> None:
        def received(message: Message) -> None:
            self.replies.append(message)
            self._changed.set()

        await self.connection.subscribe(subject, received)
        await self.connection.flush()

    async def until(self, check: Callable[[], T | None], within: float = WITHIN) -> T:
        """What `check` gives, as soon as it is true; it is asked again after each message."""
        async with asyncio.timeout(within):
            while True:
                self._changed.clear()
                found = check()
                if found:
                    return found
                await self._changed.wait()

    async def becomes(self, ask: Callable[[], Awaitable[T | None]], within: float = WITHIN) -> T:
        """`until` for what sends no event: the server has to be asked."""
        async with asyncio.timeout(within):
            while True:
                try:
                    found = await ask()
                except BusError:
                    found = None  # some tests take the server away
                if found:
                    return found
                await asyncio.sleep(0.02)

    async def state(
        self, task_id: str, state: str, *, after: int = 0, within: float = WITHIN
    ) -> Last:
        """The first record of this state after a sequence."""

        def find() -> Last | None:
            for entry in self.live.get(task_id, []):
                if entry.sequence > after and entry.state == state:
                    return entry
            return None

        return await self.until(find, within)

    async def ended(self, task_id: str, *, after: int = 0, within: float = WITHIN) -> record.Record:
        """The final record after a sequence."""

        def find() -> record.Record | None:
            for entry in self.live.get(task_id, []):
                if entry.sequence > after and entry.record and entry.record.terminal:
                    return entry.record
            return None

        return await self.until(find, within)

    async def all_ended(self, ids: Iterable[str], within: float = WITHIN) -> None:
        waiting = set(ids)

        def done() -> bool:
            for task_id in list(waiting):
                if any(
                    entry.record and entry.record.terminal for entry in self.live.get(task_id, [])
                ):
                    waiting.discard(task_id)
            return not waiting

        try:
            await self.until(done, within)
        except TimeoutError:
            raise AssertionError(
                f"{len(waiting)} tasks have not ended: {sorted(waiting)[:10]}"
            ) from None

    # What is stored.

    async def submit(
        self,
        payload: bytes | str | Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        subject: str = "agentflow.tasks.default",
        block: bytes = b"",
    ) -> PubAck:
        """Store a task message; a mapping is sent as JSON."""
        if isinstance(payload, str):
            payload = payload.encode()
        elif not isinstance(payload, bytes):
            payload = msgspec.json.encode(payload)
        return await self.js.store(subject, payload, block or blocks.encode(headers or {}))

    async def stored_ns(self, sequence: int) -> int:
        """When a task message was stored, in nanoseconds."""
        text = await self.until(lambda: self._stored.get(sequence))
        found = _INSTANT.fullmatch(text)
        assert found is not None
        seconds = msgspec.convert(found[1] + "Z", datetime, strict=False).timestamp()
        return int(seconds) * 1_000_000_000 + int((found[2] or "0").ljust(9, "0"))

    async def derived_id(self, ack: PubAck, queue: str = "default") -> str:
        """The id of a task that was given none."""
        return tasks.derived_id(queue, ack.seq, await self.stored_ns(ack.seq))

    async def origin(self, task_id: str, ack: PubAck, *, kind: str = "echo") -> Origin:
        """What a record says of this task message."""
        stored = await self.stored_ns(ack.seq)
        return Origin(
            id=task_id,
            queue="default",
            priority=Priority.NORMAL,
            message=message_identity(ack.seq, stored),
            submitted=msgspec.convert(stored / 1e9, datetime, strict=False),
            kind=kind,
        )

    def log_as(self, actor: str) -> TaskLog:
        """The task log in the hands of another actor."""
        return TaskLog(self.js, actor)

    async def last(self, task_id: str) -> Last:
        return last_of(await self.js.last(subjects.RECORDS, subjects.log(task_id)))

    async def log(self, task_id: str) -> list[Last]:
        """The whole log of a task."""
        return [last async for _, last in checker.read_records(self.js, subjects.log(task_id))]

    async def states(self, task_id: str) -> list[str | None]:
        return [entry.state for entry in await self.log(task_id)]

    async def dead(self, task_id: str, queue: str = "default") -> Stored | None:
        return await self.js.last(subjects.DEAD, subjects.dead(queue, task_id))

    async def messages(self, stream: str = subjects.TASKS) -> int:
        info = await self.js.stream_info(stream)
        count: int = info["state"]["messages"]
        return count

    async def pending_acks(self) -> int:
        found = await self.js.consumers(subjects.TASKS)
        return sum(consumer["num_ack_pending"] for consumer in found)

    async def at_rest(self, within: float = WITHIN) -> None:
        """Wait until no task message is left and none is delivered."""

        async def empty() -> bool:
            return await self.messages() == 0 and await self.pending_acks() == 0

        await self.becomes(empty, within)

    async def deliver_often(self, times: int, consumer: str = "default-normal") -> None:
        """Take the first message and hand it back, again and again."""
        await provision.ensure_consumers(self.js, consumer.rpartition("-")[0], lease=limits.LEASE)
        taken: asyncio.Queue[Message] = asyncio.Queue()
        inbox = f"_INBOX.often.{id(taken):x}"
        subscription = await self.connection.subscribe(inbox, taken.put_nowait)
        for _ in range(times):
            self.connection.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{subjects.TASKS}.{consumer}",
                b'{"batch":1}',
                reply=inbox,
            )
            found = await taken.get()
            assert found.reply.startswith("$JS.ACK."), found.block
            self.connection.publish(found.reply, b"-NAK")
        await self.connection.flush()
        await subscription.close()
