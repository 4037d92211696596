"""Follow a stream: pages for what was, live copies for what comes, every sequence in order.

`cursor` is the sequence up to which all is taken. Live copies carry the sequence of what they copy,
so the next one either follows the cursor, or was taken already, or shows a gap; a gap is read as
pages. Starting is the largest gap. So there is one way to fall behind and one to catch up, whether
the cause is a start, a lost connection, a slow consumer, or a burst larger than the buffer: the
buffer of live copies is bounded and drops its oldest, because the stream still has them.

A stream that was made anew counts from 1 again; `created` tells, and all is taken from the start.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from agentflow.bus.connection import Connection
from agentflow.bus.jetstream import JetStream
from agentflow.bus.message import Message
from agentflow.bus.pages import Page, page, sequence_of
from agentflow.errors import NotFound

_log = logging.getLogger(__name__)

BUFFER_MESSAGES: Final = 8_192
BUFFER_BYTES: Final = 8 * 1024 * 1024
GATHER: Final = 0.05
"""Seconds in which live copies gather: of a short task only its end then costs anything."""
CHECK_EVERY: Final = 30.0
BATCH: Final = 1_000
"""Live copies taken at once at most."""
REPLICA_TRIES: Final = 20
REPLICA_PAUSE: Final = 0.1

Take = Callable[[Sequence[tuple[int, Message]], bool], Awaitable[int]]
"""Takes messages with their sequences; the flag says that payloads are whole. Returns the lowest
sequence that it could not use without its payload, 0 when there is none. It gives the event loop
its turn now and then."""


class Follower:
    """One stream, followed for ever. `caught_up` is set once all that was there is taken."""

    def __init__(
        self,
        js: JetStream,
        stream: str,
        live: Sequence[str],
        *,
        take: Take,
        reset: Callable[[], None],
        headers_only: bool = False,
    ) -> None:
        self._js = js
        self._connection: Connection = js.connection
        self._stream = stream
        self._live = live
        self._take = take
        self._reset = reset
        self._headers_only = headers_only
        self._buffer: deque[Message] = deque()
        self._buffered = 0
        self._wake = asyncio.Event()
        self._check_due = True
        self._created = ""
        self._again_from = 0
        self._again_at = 0.0
        self._newest = 0
        self.cursor = 0
        self.caught_up = asyncio.Event()
        self.max_age = 0.0
        """How long the stream keeps its messages, in seconds; 0 for ever."""

    async def start(self) -> None:
        """Listen first; what is stored from now on cannot be missed."""
        for subject in self._live:
            await self._connection.subscribe(subject, self._arrived)
        self._connection.on_connect(self.check)

    def check(self) -> None:
        """Compare with the stream soon: something may have been missed."""
        self._check_due = True
        self._wake.set()

    def restart(self) -> None:
        """Take everything again: what was taken has been forgotten."""
        self._created = ""
        self.check()

    async def run(self) -> None:
        """Take everything, for ever. Raises BusError; call it again then, nothing is lost."""
        while True:
            if self._check_due:
                await self._compare()
                self.caught_up.set()
            await self._drain()
            await self._read_again()
            try:
                async with asyncio.timeout(self._patience()):
                    await self._wake.wait()
            except TimeoutError:
                self._check_due = self._check_due or not self._again_from
            self._wake.clear()
            if not self._check_due:
                await asyncio.sleep(GATHER)

    # Live copies.

    def _arrived(self, message: Message) -> None:
        buffer = self._buffer
        buffer.append(message)
        self._buffered += len(message.data)
        while len(buffer) > BUFFER_MESSAGES or (self._buffered > BUFFER_BYTES and len(buffer) > 1):
            self._buffered -= len(buffer.popleft().data)
        self._wake.set()

    def _next(self) -> Message:
        message = self._buffer.popleft()
        self._buffered -= len(message.data)
        return message

    async def _drain(self) -> None:
        batch: list[tuple[int, Message]] = []
        while self._buffer:
            sequence = sequence_of(self._buffer[0])
            if sequence < self._newest:
                self.check()  # it counts from 1 again
            self._newest = sequence
            if sequence <= self.cursor:
                self._next()
            elif sequence == self.cursor + 1:
                batch.append((sequence, self._next()))
                self.cursor = sequence
            else:
                await self._hand_over(batch)
                batch = []
                await self._pages(self.cursor + 1, sequence - 1)
                self.cursor = max(self.cursor, sequence - 1)
            if len(batch) >= BATCH:
                await self._hand_over(batch)
                batch = []
        await self._hand_over(batch)

    async def _hand_over(self, batch: list[tuple[int, Message]]) -> None:
        """Live copies in their order."""
        if not batch:
            return
        unresolved = await self._take(batch, not self._headers_only)
        if unresolved:
            if not self._again_from:
                self._again_at = time.monotonic()
            self._again_from = min(self._again_from or unresolved, unresolved)

    # Messages whose headers do not say enough.

    def _patience(self) -> float:
        return GATHER * 4 if self._again_from else CHECK_EVERY

    async def _read_again(self) -> None:
        """Read what is still there with its payload, a moment later: most short tasks are gone."""
        if self._again_from and time.monotonic() - self._again_at >= GATHER * 4:
            first, self._again_from = self._again_from, 0
            await self._pages(first, self.cursor)

    # Pages.

    async def _compare(self) -> None:
        self._check_due = False
        try:
            info = await self._js.stream_info(self._stream)
        except NotFound:
            self._check_due = True
            raise
        self.max_age = info["config"].get("max_age", 0) / 1e9
        last = int(info["state"]["last_seq"])
        if info["created"] != self._created or last < self.cursor:
            if self._created:
                _log.warning("%s was made anew; reading it from its start", self._stream)
                self._buffer.clear()
                self._buffered = 0
                self._reset()
            self._created = info["created"]
            self.cursor = self._again_from = self._newest = 0
        if last > self.cursor:
            await self._pages(self.cursor + 1, last)
            self.cursor = max(self.cursor, last)

    async def _pages(self, first: int, last: int) -> None:
        """Take what the stream still has from `first` to `last`."""
        tries = 0
        coming: asyncio.Task[Page] | None = None
        try:
            while first <= last:
                found = await (coming or page(self._connection, self._stream, first))
                coming = None
                entries = [(sequence_of(message), message) for message in found.messages]
                if entries:
                    first = entries[-1][0] + 1
                    tries = 0
                if found.more and first <= last:
                    # The next page travels while this one is taken in.
                    coming = asyncio.create_task(page(self._connection, self._stream, first))
                if entries:
                    await self._take(entries, True)
                self.cursor = max(self.cursor, first - 1)
                if found.more:
                    continue
                if first > last or not self._may_lag or tries >= REPLICA_TRIES:
                    return
                tries += 1
                await asyncio.sleep(REPLICA_PAUSE)
        finally:
            if coming is not None:
                coming.cancel()

    @property
    def _may_lag(self) -> bool:
        # Pages come from any replica, which may be behind the leader. Of a queue's messages any
        # may have been acked, so only the end of a log that keeps them is worth waiting for.
        return not self._headers_only
