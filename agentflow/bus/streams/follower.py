"""Follow a stream: pages for what was, live copies for what comes, every sequence in order.

`cursor` is the sequence up to which all is taken. Live copies carry the sequence of what they copy,
so the next one either follows the cursor, or was taken already, or shows a gap; a gap is read as
pages. Starting is the largest gap. So there is one way to fall behind and one to catch up, whether
the cause is a start, a lost connection, a slow consumer, or a burst.

A burst is read at leisure: when live copies come quicker than they are wanted, the follower stops
listening and reads pages, with pauses, until few are left. What the master knows may then be some
seconds late, and the processor is left to those who do the work.

A stream that was made anew counts from 1 again; `created` tells, and all is taken from the start.
Who wants only the newest part says where to begin (`begin`), and reads the rest in its own time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.pages import PAGE_MESSAGES, Page, left_after, page, sequence_of
from agentflow.bus.wire.connection import Connection, Subscription
from agentflow.bus.wire.message import Message
from agentflow.errors import NotFound

_log = logging.getLogger(__name__)

BUFFER_BYTES: Final = 8 * 1024 * 1024
CHECK_EVERY: Final = 30.0
BATCH: Final = 1_000
"""Live copies taken at once at most."""
AGAIN_AFTER: Final = 0.2
"""Messages whose headers do not say enough are read this much later: most short tasks are gone."""
FEW: Final = 50
MANY: Final = 200
PAUSE: Final = 0.1
REPLICA_TRIES: Final = 20
REPLICA_PAUSE: Final = 0.1

Take = Callable[[Sequence[tuple[int, Message]], bool], Awaitable[int]]
"""Takes messages with their sequences; the flag says that payloads are whole. Returns the lowest
sequence that it could not use without its payload, 0 when there is none. It gives the event loop
its turn now and then."""


Begin = Callable[[Mapping[str, Any]], int]
"""From a stream's state to the sequence after which to begin. Asked for again for a stream that was
made anew."""
Rest = Callable[[float, int], float]
"""How long to rest after a page that took some seconds of processor time, with so many messages
still to come."""


def pause(spent: float, left: int) -> float:
    """How long the master rests in a burst.

    A fifth of one processor, more when far behind: what is sustained must be kept up with.
    """
    pages = left / PAGE_MESSAGES
    if pages < 1:
        return PAUSE
    return spent * (4.0 if pages < 100 else 1.0 if pages < 400 else 0.0)


def _all(_: Mapping[str, Any]) -> int:
    return 0


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What is followed: a stream, and the subjects of its live copies.

    Live copies gather for `gather` seconds, so that of a short task only its end costs anything;
    more than `most` at once are a burst, in which `rest` says how long to pause after each page.
    `queue` says that messages are deleted when they are done with, and that live copies have
    headers only.
    """

    stream: str
    live: Sequence[str]
    gather: float
    most: int
    queue: bool = False
    rest: Rest = pause


class Follower:
    """One stream, followed for ever. `caught_up` is set once all that was there is taken."""

    def __init__(
        self,
        js: JetStream,
        source: Source,
        *,
        take: Take,
        reset: Callable[[], None],
        begin: Begin = _all,
    ) -> None:
        self._js = js
        self._connection: Connection = js.connection
        self._source = source
        self._stream = source.stream
        self._take = take
        self._reset = reset
        self._begin = begin
        self._subscriptions: list[Subscription] = []
        self._unhook: Callable[[], None] | None = None
        self._buffer: deque[Message] = deque()
        self._buffered = 0
        self._burst = False
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._hurried = 0
        self._rounds = 0
        self._round = asyncio.Condition()
        self._check_due = True
        self._created = ""
        self._again_from = 0
        self._again_at = 0.0
        self._newest = 0
        self.cursor = 0
        self.bursts = 0
        self.caught_up = asyncio.Event()
        self.max_age = 0.0
        """How long the stream keeps its messages, in seconds; 0 for ever."""

    async def start(self) -> None:
        """Listen first; what is stored from now on cannot be missed."""
        await self._listen()
        self._unhook = self._connection.on_connect(self.check)

    async def close(self) -> None:
        """Listen no more; for whoever ends before the connection does."""
        await self.deafen()
        if self._unhook is not None:
            self._unhook()

    def check(self) -> None:
        """Compare with the stream soon: something may have been missed."""
        self._check_due = True
        self._wake.set()

    def restart(self) -> None:
        """Take everything again: what was taken has been forgotten."""
        self._created = ""
        self.check()

    async def fresh(self, within: float = 0.5) -> None:
        """Wait until what has arrived by now is taken; not while that may take long."""
        if self._burst or not self.caught_up.is_set():
            return
        wanted = self._rounds + 2  # the present round may have begun before
        self._hurried += 1
        self._hurry.set()
        self._wake.set()
        try:
            async with asyncio.timeout(within), self._round:
                await self._round.wait_for(lambda: self._rounds >= wanted)
        except TimeoutError:
            _log.debug("%s is read too slowly to be fresh", self._stream)
        finally:
            self._hurried -= 1
            if not self._hurried:
                self._hurry.clear()

    async def run(self) -> None:
        """Take everything, for ever. Raises BusError; call it again then, nothing is lost."""
        while True:
            # Where to begin is known after the first comparison.
            if self._burst and self._created:
                await self._read_at_leisure()
            if self._check_due:
                await self._compare()
                self.caught_up.set()
            await self._drain()
            await self._read_again()
            self._rounds += 1
            async with self._round:
                self._round.notify_all()
            await self._rest()

    async def _rest(self) -> None:
        if not self._hurry.is_set():
            try:
                async with asyncio.timeout(AGAIN_AFTER if self._again_from else CHECK_EVERY):
                    await self._wake.wait()
            except TimeoutError:
                self._check_due = self._check_due or not self._again_from
        self._wake.clear()
        if not self._check_due:
            try:
                async with asyncio.timeout(self._source.gather):
                    await self._hurry.wait()
            except TimeoutError:
                pass
        await asyncio.sleep(0)

    # Live copies.

    async def _listen(self) -> None:
        for subject in self._source.live:
            self._subscriptions.append(await self._connection.subscribe(subject, self._arrived))

    async def deafen(self) -> None:
        """Stop listening; pages still tell everything."""
        while self._subscriptions:
            await self._subscriptions.pop().close()

    def _arrived(self, message: Message) -> None:
        if self._burst:
            return
        self._buffer.append(message)
        self._buffered += len(message.data)
        if len(self._buffer) > self._source.most or self._buffered > BUFFER_BYTES:
            self._burst = True
            self._empty()
        self._wake.set()

    def _empty(self) -> None:
        self._buffer.clear()
        self._buffered = 0

    def _next(self) -> Message:
        message = self._buffer.popleft()
        self._buffered -= len(message.data)
        return message

    async def _drain(self) -> None:
        batch: list[tuple[int, Message]] = []
        gone = await self._gone() if self._source.queue and len(self._buffer) > MANY else 0
        while self._buffer:
            sequence = sequence_of(self._buffer[0])
            if sequence < self._newest:
                self.check()  # it counts from 1 again
            self._newest = sequence
            if sequence <= self.cursor:
                self._next()
            elif sequence == self.cursor + 1:
                message = self._next()
                if sequence > gone:
                    batch.append((sequence, message))
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

    async def _gone(self) -> int:
        """The sequence up to which a queue's messages are done with; their records say more."""
        state = (await self._js.stream_info(self._stream))["state"]
        return int(state["first_seq"] if state["messages"] else state["last_seq"] + 1) - 1

    async def _hand_over(self, batch: list[tuple[int, Message]]) -> None:
        """Live copies in their order."""
        if not batch:
            return
        unresolved = await self._take(batch, not self._source.queue)
        if unresolved:
            if not self._again_from:
                self._again_at = time.monotonic()
            self._again_from = min(self._again_from or unresolved, unresolved)

    async def _read_again(self) -> None:
        """Read with their payloads what headers alone could not tell."""
        if self._again_from and time.monotonic() - self._again_at >= AGAIN_AFTER:
            first, self._again_from = self._again_from, 0
            await self._pages(first, self.cursor)

    # Pages.

    async def _read_at_leisure(self) -> None:
        """Read a burst from the stream, with pauses, until it is over; then listen again."""
        self.bursts += 1
        await self.deafen()
        while True:
            began = time.process_time()
            stored = await page(self._connection, self._stream, self.cursor + 1)
            entries = [(sequence_of(message), message) for message in stored.messages]
            if entries:
                await self._take(entries, True)
                self.cursor = max(self.cursor, entries[-1][0])
            if not stored.more and len(entries) <= FEW:
                break
            spent = time.process_time() - began
            left = left_after(stored.messages[-1]) if entries else 0
            await asyncio.sleep(self._source.rest(spent, left))
        # Listening again before the comparison: what comes in between is in one or the other.
        self._empty()
        self._burst = False
        await self._listen()
        self._check_due = True

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
                self._empty()
                self._reset()
            self._created = info["created"]
            self.cursor = self._begin(info["state"])
            self._again_from = self._newest = 0
        if last > self.cursor:
            await self._pages(self.cursor + 1, last)
            self.cursor = max(self.cursor, last)

    async def _pages(self, first: int, last: int) -> None:
        """Take what the stream still has from `first` to `last`."""
        tries = 0
        coming: asyncio.Task[Page] | None = None
        try:
            while first <= last:
                stored = await (coming or page(self._connection, self._stream, first))
                coming = None
                entries = [(sequence_of(message), message) for message in stored.messages]
                if entries:
                    first = entries[-1][0] + 1
                    tries = 0
                if stored.more and first <= last:
                    # The next page travels while this one is taken in.
                    coming = asyncio.create_task(page(self._connection, self._stream, first))
                if entries:
                    await self._take(entries, True)
                self.cursor = max(self.cursor, first - 1)
                if stored.more:
                    continue
                # Pages come from any replica, which may be behind the leader. Of a queue's messages
                # any may have been acked, so only the end of a log is worth waiting for.
                if first > last or self._source.queue or tries >= REPLICA_TRIES:
                    return
                tries += 1
                await asyncio.sleep(REPLICA_PAUSE)
        finally:
            if coming is not None:
                coming.cancel()
