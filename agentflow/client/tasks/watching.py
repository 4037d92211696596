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
from agentflow.protocol import control, subjects, task
from agentflow.protocol import record as records
from agentflow.protocol.control import Said, Text
from agentflow.protocol.headers import number
from agentflow.protocol.record import EMPTY, Last, Record, State

BACKLOG: Final = 20_000
"""Messages that may wait for a slow reader; the log fills the gap in records afterwards."""
LOOK_EVERY: Final = 15.0
SAID_WITHIN: Final = 0.5
"""Seconds a worker has to tell what text there is so far."""

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


class _Spoken:
    """How much of an attempt's text a reader has: what was told so far and what comes overlap."""

    def __init__(self) -> None:
        self._attempt = 0
        self._bytes = 0

    def hear(self, event: Event) -> Event | None:
        """What of a piece is new, None where nothing is."""
        if event.attempt < self._attempt:
            return None
        if event.attempt > self._attempt:
            self._attempt, self._bytes = event.attempt, 0
        data = event.text.encode("utf-8", "replace")
        known = self._bytes - event.offset
        if known >= len(data):
            return None
        self._bytes = event.offset + len(data)
        if known <= 0:
            return event
        rest = data[known:].decode("utf-8", "replace")
        return msgspec.structs.replace(event, text=rest, offset=event.offset + known)


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
        self,
        task_id: str,
        *,
        newer_than: int = 0,
        tokens: bool = True,
        after: int | None = None,
    ) -> AsyncGenerator[Event]:
        """The task's last record, or with `after` those behind that one; then what happens, until a
        record ends it. Of one that runs the text so far comes first, as its worker tells it.

        A record that ends it counts only when its sequence is above `newer_than`.
        """
        async with self._feed(*_of_task(task_id, tokens)) as feed:
            last = await self._last(task_id)
            seen, spoken = last.sequence if after is None else after, _Spoken()
            async for event in self._so_far(task_id, last, after):
                seen = event.sequence
                yield event
            ended = last.record is not None and last.record.terminal
            if ended and newer_than < last.sequence <= seen:
                return
            if tokens and (said := await self._said(last.record)) is not None:
                yield said
                spoken.hear(said)
            while True:
                message = await feed.next(LOOK_EVERY)
                if message is not None and message.subject.startswith(_TOKENS):
                    if (heard := spoken.hear(_tokens_event(task_id, message))) is not None:
                        yield heard
                    continue
                ended = False
                async for event in self._after(task_id, seen, message):
                    assert event.record is not None
                    seen = event.sequence
                    yield event
                    ended = event.record.terminal and seen > newer_than
                if ended:
                    return

    async def _so_far(self, task_id: str, last: Last, after: int | None) -> AsyncGenerator[Event]:
        """The last record, or all behind `after`."""
        if after is not None:
            async for event in self._after(task_id, after, None):
                yield event
        elif last.record is not None:
            yield record_event(task_id, last.record, last.sequence)

    async def _last(self, task_id: str) -> Last:
        try:
            return last_of(await self._session.js.last(subjects.RECORDS, subjects.log(task_id)))
        except NotFound:
            return EMPTY  # nobody has used this server yet

    async def _said(self, record: Record | None) -> Event | None:
        """The text so far of a task that runs, where its worker can tell."""
        if record is None or record.state != State.RUNNING:
            return None
        try:
            answer = await self._session.connection.request(
                subjects.control("worker", record.actor),
                control.encode(Said(id=record.id)),
                timeout=SAID_WITHIN,
            )
        except BusError:
            return None  # it is of an older version, or gone
        told = control.decode(answer.data)
        if not isinstance(told, Text) or not told.text:
            return None
        return Event(
            kind="tokens", id=record.id, text=told.text, attempt=told.attempt, offset=told.offset
        )

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
                yield record_event(task_id, record, end)
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
            yield record_event(task_id, records.decode(stored.data, stored.subject), seen)

    # All tasks.

    async def all(self, *, tokens: bool = True, after: int | None = None) -> AsyncGenerator[Event]:
        """What happens to all tasks, from now on, or with `after` from behind that record on."""
        wanted = [*subjects.LIVE_RECORDS, subjects.LIVE_TASKS]
        if tokens:
            wanted.append(subjects.TOKENS)
        async with self._feed(*wanted) as feed:
            seen = after or 0
            if after is not None:
                feed.broken()  # what came before we listened is in the log
            while True:
                message = await feed.next(LOOK_EVERY)
                if message is None:
                    if seen or after is not None:
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
                        yield record_event(subjects.record_id(message.subject), record, seen)

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
                yield record_event(subjects.record_id(subject), record, seen)


def _of_task(task_id: str, tokens: bool) -> list[str]:
    """The subjects on which a task is told of."""
    told = [f"agentflow.live.progress.{task_id}", f"agentflow.live.results.{task_id}"]
    return [*told, subjects.tokens(task_id)] if tokens else told


def record_event(task_id: str, record: Record, sequence: int) -> Event:
    """The event of a record."""
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
