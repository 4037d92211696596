"""Events as they come: of one task until it ends, or of all.

Records are not lost: every one names what it follows, and those of all tasks are numbered without
gaps, so a missing one is noticed and read from the log. Token messages and arrivals are not stored;
what is lost of them (a reconnection, a reader that is too slow) stays lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

import msgspec

from agentflow.bus.streams.pages import page, sequence_of, stored_ns, subject_of
from agentflow.bus.wire.message import Message
from agentflow.client.session import Session
from agentflow.errors import BusError, NotFound
from agentflow.log.task import last_of
from agentflow.protocol import record as records
from agentflow.protocol import subjects, task
from agentflow.protocol.headers import number
from agentflow.protocol.record import EMPTY, Last, Record

BACKLOG: Final = 20_000
"""Messages that may wait for a slow reader; the log fills the gap in records afterwards."""
LOOK_EVERY: Final = 15.0

_LIVE: Final = len("agentflow.live.")
_TOKENS: Final = "agentflow.tokens."


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened to a task.

    `record`: its log has grown; `sequence` is the record's. `task`: its message has arrived in a
    queue (`sequence` is the message's; the id is a guess where only the payload holds one).
    `tokens`: text as it is generated; `offset` counts UTF-8 bytes of the attempt before it.
    """

    kind: Literal["record", "task", "tokens"]
    id: str
    sequence: int = 0
    record: Record | None = None
    queue: str = ""
    priority: str = ""
    task_kind: str = ""
    model: str | None = None
    labels: dict[str, str] = {}
    text: str = ""
    attempt: int = 0
    offset: int = 0


class _Feed:
    """Messages of some subjects, and a note when the connection was lost."""

    def __init__(self) -> None:
        self._waiting: deque[Message | None] = deque()
        self._ready = asyncio.Event()

    def take(self, message: Message) -> None:
        if len(self._waiting) < BACKLOG:
            self._waiting.append(message)
            self._ready.set()

    def broken(self) -> None:
        """Something may be missing from here on."""
        self._waiting.append(None)
        self._ready.set()

    async def next(self, timeout: float) -> Message | None:
        """The next message; None: look into the log."""
        if not self._waiting:
            self._ready.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._ready.wait()
            except TimeoutError:
                return None
        return self._waiting.popleft()


class Watching:
    """Opens feeds on one connection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._feeds: set[_Feed] = set()
        session.connection.on_connect(self._reconnected)

    def _reconnected(self) -> None:
        for feed in self._feeds:
            feed.broken()

    @asynccontextmanager
    async def _feed(self, *wanted: str) -> AsyncIterator[_Feed]:
        feed = _Feed()
        connection = self._session.connection
        subscriptions = [await connection.subscribe(subject, feed.take) for subject in wanted]
        self._feeds.add(feed)
        try:
            await connection.flush()
            yield feed
        finally:
            self._feeds.discard(feed)
            for subscription in subscriptions:
                await subscription.close()

    # One task.

    async def one(
        self, task_id: str, *, newer_than: int = 0, tokens: bool = True
    ) -> AsyncGenerator[Event]:
        """The task's last record, then what happens, until a record ends it.

        A record that ends it counts only when its sequence is above `newer_than`.
        """
        wanted = [f"agentflow.live.progress.{task_id}", f"agentflow.live.results.{task_id}"]
        if tokens:
            wanted.append(subjects.tokens(task_id))
        async with self._feed(*wanted) as feed:
            last = await self._last(task_id)
            seen = last.sequence
            if last.record is not None:
                yield _record_event(task_id, last.record, seen)
                if last.record.terminal and seen > newer_than:
                    return
            while True:
                message = await feed.next(LOOK_EVERY)
                if message is not None and message.subject.startswith(_TOKENS):
                    yield _tokens_event(task_id, message)
                    continue
                ended = False
                async for event in self._after(task_id, seen, message):
                    assert event.record is not None
                    seen = event.sequence
                    yield event
                    ended = event.record.terminal and seen > newer_than
                if ended:
                    return

    async def _last(self, task_id: str) -> Last:
        try:
            return last_of(await self._session.js.last(subjects.RECORDS, subjects.log(task_id)))
        except NotFound:
            return EMPTY  # nobody has used this server yet

    async def _after(
        self, task_id: str, seen: int, message: Message | None
    ) -> AsyncGenerator[Event]:
        """The records after `seen`, up to the one in `message`, or up to the end without one."""
        end = 0
        if message is not None:
            end = sequence_of(message)
            if end <= seen:
                return
            record = records.decode(message.data, message.subject)
            if record.follows == seen:
                yield _record_event(task_id, record, end)
                return
        while not end or seen < end:
            try:
                stored = await self._session.js.next_after(
                    subjects.RECORDS, seen + 1, subjects.log(task_id)
                )
            except BusError:
                return  # the reconnection or the next look reads again
            if stored is None:
                return
            seen = stored.sequence
            yield _record_event(task_id, records.decode(stored.data, stored.subject), seen)

    # All tasks.

    async def all(self, *, tokens: bool = True) -> AsyncGenerator[Event]:
        """What happens to all tasks, from now on."""
        wanted = [*subjects.LIVE_RECORDS, subjects.LIVE_TASKS]
        if tokens:
            wanted.append(subjects.TOKENS)
        async with self._feed(*wanted) as feed:
            seen = 0
            while True:
                message = await feed.next(LOOK_EVERY)
                if message is None:
                    if seen:
                        async for event in self._missed(seen):
                            seen = event.sequence
                            yield event
                elif message.subject.startswith(_TOKENS):
                    yield _tokens_event(message.subject[len(_TOKENS) :], message)
                elif message.subject.startswith("tasks.", _LIVE):
                    if (arrival := _task_event(message)) is not None:
                        yield arrival
                else:
                    sequence = sequence_of(message)
                    if seen and sequence > seen + 1:
                        async for event in self._missed(seen, sequence - 1):
                            seen = event.sequence
                            yield event
                    if sequence > seen:
                        seen = sequence
                        record = records.decode(message.data, message.subject)
                        yield _record_event(subjects.record_id(message.subject), record, seen)

    async def _missed(self, seen: int, end: int | None = None) -> AsyncGenerator[Event]:
        more = True
        while more:
            try:
                messages, more = await page(self._session.connection, subjects.RECORDS, seen + 1)
            except BusError:
                return  # the next look reads again
            for message in messages:
                seen = sequence_of(message)
                if end is not None and seen > end:
                    return
                subject = subject_of(message)
                record = records.decode(message.data, subject)
                yield _record_event(subjects.record_id(subject), record, seen)


def _record_event(task_id: str, record: Record, sequence: int) -> Event:
    return Event(
        kind="record",
        id=task_id,
        sequence=sequence,
        record=record,
        queue=record.queue,
        priority=record.priority,
        task_kind=record.kind,
        model=record.model,
        labels=record.labels,
        attempt=record.attempt,
    )


def _tokens_event(task_id: str, message: Message) -> Event:
    headers = message.headers
    return Event(
        kind="tokens",
        id=task_id,
        text=message.data.decode("utf-8", "replace"),
        attempt=number(headers.get(subjects.ATTEMPT)) or 0,
        offset=number(headers.get(subjects.OFFSET)) or 0,
    )


def _task_event(message: Message) -> Event | None:
    parts = message.subject[_LIVE:].split(".")
    if len(parts) not in (2, 3, 4):
        return None
    headers = message.headers
    queue, sequence = parts[1], sequence_of(message)
    return Event(
        kind="task",
        id=task.task_id(headers, None, queue, sequence, stored_ns(message)),
        sequence=sequence,
        queue=queue,
        priority=parts[2] if len(parts) > 2 else subjects.Priority.NORMAL,
        task_kind=headers.get(subjects.KIND, ""),
        model=headers.get(subjects.MODEL),
        labels=task.labels_from(headers.get(subjects.LABELS)),
    )
