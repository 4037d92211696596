"""One feed of events for all readers of a process: each record is decoded and encoded once.

Readers of everything get what happened in a tenth of a second as one piece, those of the same
filter the same piece; readers of one task get theirs at once. A reader that takes too little is
dropped, and told so by its last event. Text as it is generated is listened to only for the tasks
that somebody reads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec

from agentflow.client import Client, Event
from agentflow.gateway.events.frames import Frame, frame
from agentflow.protocol import jobs

COALESCED: Final = 0.1
"""Seconds of events that readers of everything get at once."""
BEHIND: Final = 8 * 1024 * 1024
"""Bytes that may wait for a reader."""

_encoder = msgspec.json.Encoder()


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events; all conditions must hold, and of several values one. No value: any."""

    types: frozenset[str] = frozenset()
    state: frozenset[str] = frozenset()
    queue: frozenset[str] = frozenset()
    kind: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()
    job: str = ""
    whole: bool = False
    """With whole records."""
    reach: frozenset[str] = frozenset()
    """The only queues that the reader may see; none: all."""
    lines: bool = False
    """As lines of JSON for a web socket, not as server-sent events."""

    def wants(self, told: Frame) -> bool:
        """Whether an event is among them."""
        data = told.data
        return (
            (not self.types or told.type in self.types)
            and (not self.state or data.state in self.state)
            and (not self.queue or data.queue in self.queue)
            and (not self.reach or data.queue in self.reach)
            and (not self.kind or data.kind in self.kind)
            and (not self.job or data.labels.get(jobs.LABEL) == self.job)
            and all(data.labels.get(name) == value for name, value in self.labels)
        )


class Reader:
    """Somebody's queue of encoded pieces."""

    def __init__(self, wanted: Filter) -> None:
        self.wanted = wanted
        self.dropped = False
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ready = asyncio.Event()

    def put(self, piece: bytes) -> None:
        """Add a piece, or drop the reader where too many wait."""
        if self.dropped:
            return
        if self._size + len(piece) > BEHIND:
            self.dropped = True
        else:
            self._pieces.append(piece)
            self._size += len(piece)
        self._ready.set()

    async def next(self, timeout: float) -> bytes | None:
        """All that waits, None where nothing came in time. Empty: the reader is dropped."""
        if not self._pieces and not self.dropped:
            self._ready.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._ready.wait()
            except TimeoutError:
                return None
        pieces = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return pieces


def as_sse(told: Frame, sequence: int) -> bytes:
    """A frame as a server-sent event."""
    data = _encoder.encode(told.data)
    place = b"id: %d\n" % sequence if sequence else b""
    return b"%sevent: %s\ndata: %s\n\n" % (place, told.type.encode(), data)


def as_line(told: Frame, sequence: int) -> bytes:
    """A frame as a line of JSON."""
    return _encoder.encode(told) + b"\n"


def written(event: Event, wanted: Filter) -> bytes:
    """An event as a reader gets it, nothing where it is not wanted."""
    told = frame(event, whole=wanted.whole)
    if not wanted.wants(told):
        return b""
    write = as_line if wanted.lines else as_sse
    return write(told, event.sequence if event.record is not None else 0)


class Hub:
    """The readers, and the one feed."""

    def __init__(self) -> None:
        self._all: dict[Filter, set[Reader]] = {}
        self._gathered: list[Event] = []
        self._flushing: asyncio.TimerHandle | None = None
        self.position = 0
        """The sequence of the last record that came."""
        self.started = asyncio.Event()

    @property
    def readers(self) -> int:
        """How many read everything."""
        return sum(len(readers) for readers in self._all.values())

    def join(self, reader: Reader) -> int:
        """Give a reader what comes from now on; returns the sequence of the last record before."""
        self._flush()
        self._all.setdefault(reader.wanted, set()).add(reader)
        return self.position

    async def reaches(self, sequence: int, within: float = 5.0) -> None:
        """Return when it stands there: another gateway may have been ahead of this one.

        A sequence that never comes is of a stream that is no more.
        """
        try:
            async with asyncio.timeout(within):
                while self.position < sequence:  # noqa: ASYNC110 -- a matter of milliseconds
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pass

    def leave(self, reader: Reader) -> None:
        """Give it nothing more."""
        readers = self._all.get(reader.wanted)
        if readers is not None:
            readers.discard(reader)
            if not readers:
                del self._all[reader.wanted]

    async def run(self, client: Client) -> None:
        """Take what happens until cancelled. Raises BusError."""
        span = await client.history.span()
        last = span.last if span is not None else 0
        if not self.started.is_set() or self.position > last:
            self.position = last  # this is where we begin, or the stream was made anew
        self.started.set()
        feed: AsyncGenerator[Event] = client.watch(tokens=False, after=self.position)
        async with aclosing(feed):
            async for event in feed:
                self._take(event)

    def _take(self, event: Event) -> None:
        if event.record is not None:
            self.position = event.sequence
        if not self._all:
            return
        self._gathered.append(event)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(COALESCED, self._flush)

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        gathered, self._gathered = self._gathered, []
        if not gathered or not self._all:
            return
        forms: dict[tuple[bool, bool], list[tuple[Frame, bytes]]] = {}
        for wanted, readers in self._all.items():
            form = (wanted.whole, wanted.lines)
            made = forms.get(form)
            if made is None:
                made = forms[form] = _encoded(gathered, *form)
            piece = b"".join(data for told, data in made if wanted.wants(told))
            if piece:
                for reader in tuple(readers):
                    reader.put(piece)


def _encoded(events: list[Event], whole: bool, lines: bool) -> list[tuple[Frame, bytes]]:
    """The frames with their bytes."""
    write = as_line if lines else as_sse
    frames = [(frame(event, whole=whole), event) for event in events]
    return [
        (told, write(told, event.sequence if event.record is not None else 0))
        for told, event in frames
    ]
