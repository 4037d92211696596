"""Both streams as rows: the newest part is followed, the older part is read behind it.

A follower (bus/streams/follower.py) begins some `WINDOW` messages before the end, so that the
newest tasks are there at once and what happens now is seen while hundreds of thousands of older
messages are still to be read. Those are read in blocks, the newest block first, with turns for the
event loop between. The rules of views/row.py make the order irrelevant.

At most `newest` messages of a stream are read; `older` counts the records before them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from agentflow.bus.streams.follower import Follower, Source
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.pages import left_after, page, sequence_of, stored_ns, subject_of
from agentflow.bus.streams.rows import in_slices, take_tasks
from agentflow.bus.wire.message import Message
from agentflow.errors import BusError, NotFound, PermissionDenied
from agentflow.protocol import subjects
from agentflow.views.row import Row, from_record

WINDOW: Final = 2_000
BLOCK: Final = 20_000
"""Sequences in a block of records."""
LATE: Final = 10.0
"""Seconds after which a stored message is history."""
ABSENT: Final = 1.0
"""Seconds until a stream that is not there is looked for again."""
REST: Final = 0.25
"""Rest after a page, as a share of the processor time that it took: others draw meanwhile."""
BUFFERED: Final = 20_000
"""Live copies that may wait: some seconds of what a busy system does."""

_LIVE: Final = "agentflow.live."
_RETRYING: Final = b'"state":"retrying"'
_HEAD: Final = 128
"""Bytes of a record in which its state stands."""


def rest(spent: float, left: int) -> float:
    """In a burst: a dashboard is to be late by a second, not by ten."""
    return REST * spent if left else 0.1


RECORDS: Final = Source(
    stream=subjects.RECORDS,
    live=subjects.LIVE_RECORDS,
    gather=0.1,
    most=BUFFERED,
    rest=rest,
)
TASKS: Final = Source(
    stream=subjects.TASKS,
    live=(subjects.LIVE_TASKS,),
    gather=0.25,
    most=BUFFERED,
    queue=True,
    rest=rest,
)

Entry = tuple[int, Message]
Entries = Sequence[Entry]


class Told(Protocol):
    """What becomes known."""

    def rows(self, rows: list[Row], *, live: bool) -> None:
        """Rows of one turn; `live`: of what has just happened."""

    def progress(self) -> None:
        """Some messages more were read."""

    def anew(self, stream: str) -> None:
        """A stream was made anew: what was known of it is void."""


class Followed:
    """One stream as rows. `read_on` and `read_older` run side by side."""

    def __init__(self, js: JetStream, source: Source, told: Told, *, newest: int) -> None:
        self._js = js
        self._source = source
        self._told = told
        self._newest = newest
        self._follower = Follower(
            js, source, take=self._follow, reset=self._forget, begin=self._begin
        )
        self._blocks: list[tuple[int, int]] = []
        self._oldest = 0
        self._held = 0
        self._there = asyncio.Event()
        self._stirred = asyncio.Event()
        self.done = 0
        self.older = 0
        self.known = asyncio.Event()
        """Set while all is read that is to be read."""

    @property
    def total(self) -> int:
        """Messages that are to be read, as far as is known."""
        return self.done if self.known.is_set() else max(self.done + 1, self._held - self.older)

    async def start(self) -> None:
        """Listen."""
        await self._follower.start()

    async def close(self) -> None:
        """Listen no more."""
        await self._follower.close()

    def restart(self) -> None:
        """Take everything again."""
        self._follower.restart()

    # The newest part.

    async def read_on(self) -> None:
        """Follow, for ever. Raises BusError; to be called again then."""
        while True:
            try:
                await self._follower.run()
            except NotFound:
                self._none()
                self._follower.check()
                await asyncio.sleep(ABSENT)
            except BusError as error:
                self._follower.check()
                if isinstance(error, PermissionDenied):
                    self._none()
                raise

    def _none(self) -> None:
        """A server that nobody has used yet holds nothing, or nothing that we may read."""
        self.known.set()
        self._told.progress()

    def _begin(self, state: Mapping[str, Any]) -> int:
        """Where the newest part begins; what lies before it is divided into blocks."""
        held, first, last = int(state["messages"]), int(state["first_seq"]), int(state["last_seq"])
        if held > self._newest:
            first = max(first, last - self._newest + 1)
        begin = max(first - 1, last - min(WINDOW, self._newest), 0)
        # The messages of a queue are few among many sequences, so they are one block.
        size = max(1, begin) if self._source.queue else BLOCK
        self._blocks = [(max(first, end - size + 1), end) for end in range(begin, first - 1, -size)]
        self._oldest = first if held > self._newest else 0
        self._held = held
        self.done = self.older = 0
        self.known.clear()
        self._follower.caught_up.clear()
        self._there.set()
        self._stirred.set()
        return begin

    def _forget(self) -> None:
        self._told.anew(self._source.stream)

    async def _follow(self, entries: Entries, whole: bool) -> int:
        unresolved = await self._take(entries, whole)
        if not self.known.is_set():
            self.done += len(entries)
            self._told.progress()
        return unresolved

    # The older part.

    async def read_older(self) -> None:
        """Read what lies before the newest part, for ever: a stream may be made anew.

        Raises BusError; to be called again then, it goes on where it was.
        """
        while True:
            await self._there.wait()
            self._stirred.clear()
            await self._count_older()
            await self._follower.caught_up.wait()
            while self._blocks:
                await self._read_page()
            if not self._stirred.is_set():
                self.known.set()
                self._told.progress()
                await self._stirred.wait()

    async def _count_older(self) -> None:
        if not self._oldest or self.older:
            return
        oldest = await page(self._js.connection, self._source.stream, self._oldest, batch=1)
        if oldest.messages:
            self.older = max(0, self._held - 1 - left_after(oldest.messages[0]))

    async def _read_page(self) -> None:
        blocks = self._blocks
        first, last = blocks[0]
        began = time.process_time()
        older = await page(self._js.connection, self._source.stream, first)
        if blocks is not self._blocks:
            return  # the stream was made anew meanwhile
        entries = [
            (sequence, message)
            for message in older.messages
            if (sequence := sequence_of(message)) <= last
        ]
        if entries:
            await self._take(entries, True)
            self.done += len(entries)
        ended = len(entries) < len(older.messages) or not older.more
        if ended or not entries or entries[-1][0] >= last:
            blocks.pop(0)
        else:
            blocks[0] = (entries[-1][0] + 1, last)
        self._told.progress()
        await asyncio.sleep(REST * (time.process_time() - began))

    # From messages to rows.

    async def _take(self, entries: Entries, whole: bool) -> int:
        if not entries:
            return 0
        live = self._is_late(entries[-1][1]) <= LATE and self._follower.caught_up.is_set()
        if not self._source.queue:
            async for part in in_slices(telling(entries)):
                self._told.rows([record_row(*entry) for entry in part], live=live)
            return 0
        return await take_tasks(entries, whole, partial(self._told.rows, live=live))

    def _is_late(self, message: Message) -> float:
        return self._js.now().timestamp() - stored_ns(message) / 1e9


def telling(entries: Entries) -> list[Entry]:
    """Of several records of a task the last, and those with which an attempt ended.

    Usage and cost are sums, so the last one has all of them; but when an attempt failed is told by
    its own record only.
    """
    newest: dict[str, Entry] = {}
    kept: list[Entry] = []
    for entry in entries:
        task_id = subjects.record_id(_subject(entry[1]))
        before = newest.get(task_id)
        if before is not None and ends_attempt(before[1]):
            kept.append(before)
        newest[task_id] = entry
    return [*kept, *newest.values()]


def ends_attempt(message: Message) -> bool:
    """Whether a record is of an attempt that ended: told without decoding it."""
    return ".results." in _subject(message) or _RETRYING in message.data[:_HEAD]


def record_row(sequence: int, message: Message) -> Row:
    """The detailed row of a stored record."""
    return from_record(
        _subject(message),
        sequence,
        stored_ns(message) // 1_000_000,
        message.data,
        detailed=True,
    )


def _subject(message: Message) -> str:
    """A live copy says it in its own subject, which is quicker to read than a header."""
    return message.subject if message.subject.startswith(_LIVE) else subject_of(message)
