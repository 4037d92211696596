"""A recording played again: at its own pace or another, paused, and from any time.

To be at an earlier time all is forgotten and folded again from the start, as fast as it goes; what
is shown then is exactly what was known at that time. Lines that cannot be read (of a later version,
or damaged) are counted, told, and left out.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, Final, Self

import msgspec

from agentflow.client import Client
from agentflow.dashboard.feed.recorder import FORMAT, Header
from agentflow.dashboard.feed.source import Apply
from agentflow.errors import UsageError
from agentflow.views import feed

HEAD: Final = 4_096
"""Bytes in which the first line of a recording ends."""
LINE: Final = 64 * 1024 * 1024
TAIL: Final = 1024 * 1024
"""Bytes at the end in which the last item is looked for."""
TOLD: Final = 1_000
"""A file that is full of bad lines is told of once in so many."""
SLICE: Final = 0.004
"""Seconds of folding between two turns of the event loop."""


class Replay:
    """See source.Source. `with Replay(path, forget)`; `forget` empties what was folded so far."""

    def __init__(self, path: Path, forget: Callable[[], None], *, speed: float = 1.0) -> None:
        self.path = path
        self._forget = forget
        self._file: BinaryIO | None = None
        self._start = 0
        self._line = 0
        self._bad = 0
        self._first_bad = 0
        self._at = 0.0
        """Where the clock stood at `_since`."""
        self._since = time.monotonic()
        self._speed = speed
        self._paused = False
        self._wanted: float | None = None
        self._turn = asyncio.Event()
        self.first = 0.0
        """When the recording began."""
        self.last = 0.0
        """When its last item became known."""
        self.ended = False
        """Whether all has been played; a seek begins again."""

    # Opening and closing.

    def __enter__(self) -> Self:
        """Open it. Raises UsageError for a file that is no recording."""
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise UsageError(f"cannot replay {self.path}: {error.strerror}") from None
        try:
            self._begin(self._file)
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self, file: BinaryIO) -> None:
        try:
            head = msgspec.json.decode(file.readline(HEAD), type=Header)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise UsageError(
                f"{self.path} is not a recording of the dashboard (agentflow tui --record FILE)"
            ) from None
        if head.agentflow_feed != FORMAT:
            raise UsageError(
                f"{self.path} was recorded by AgentFlow {head.version[:40]}, in a format that "
                f"this version does not know ({head.agentflow_feed}; known is {FORMAT})"
            )
        self._start = file.tell()
        self._line = 1
        # Items are of the server's clock, the header is of the recorder's.
        first = feed.decode(file.readline(LINE))
        self.first = self.last = self._at = head.started if first is None else first.at
        size = file.seek(0, os.SEEK_END)
        file.seek(max(self._start, size - TAIL))
        for line in reversed(file.read().splitlines()):
            if (item := feed.decode(line)) is not None:
                self.last = max(self.first, item.at)
                break
        file.seek(self._start)

    # Where it is, and where it is to be.

    @property
    def client(self) -> Client | None:
        """Nothing can be done to the past."""
        return None

    def follow_tokens(self, ids: Iterable[str]) -> None:
        """What was recorded is told, and no more."""

    @property
    def now(self) -> float:
        """The time of the recording that is shown."""
        if self._paused or self.ended:
            return self._at
        passed = (time.monotonic() - self._since) * self._speed
        return min(self._at + passed, max(self.last, self._at))

    @property
    def paused(self) -> bool:
        """Whether the time stands."""
        return self._paused

    @property
    def speed(self) -> float:
        """How many of its seconds pass in one."""
        return self._speed

    def pause(self, paused: bool = True) -> None:
        """Let the time stand, or go on."""
        self._stand()
        self._paused = paused
        self._turn.set()

    def set_speed(self, speed: float) -> None:
        """Play at another pace. Raises UsageError for none."""
        if speed <= 0:
            raise UsageError(f"speed is {speed:g}, should be above 0")
        self._stand()
        self._speed = speed
        self._turn.set()

    def seek(self, at: float) -> None:
        """Be at another time of the recording, in seconds since 1970."""
        self._wanted = min(max(at, self.first), self.last)
        self._turn.set()

    def _stand(self) -> None:
        """Fix the clock where it is."""
        self._at, self._since = self.now, time.monotonic()

    # Playing.

    async def run(self, apply: Apply) -> None:
        """Play until cancelled; at the end it waits for a seek."""
        self._since = time.monotonic()
        item = self._next(apply)
        while True:
            if self._wanted is not None:
                item = await self._sought(apply, item)
            elif item is None:
                self._at, self.ended = self.last, True
                await self._wait(None)
            elif (wait := item.at - self.now) > 0:
                await self._wait(None if self._paused else wait / self._speed)
            else:
                apply(item)
                item = self._next(apply)
                await asyncio.sleep(0)

    async def _sought(self, apply: Apply, item: feed.Item | None) -> feed.Item | None:
        """Fold up to the time that is wanted; the first item after it."""
        assert self._wanted is not None
        if self._wanted < self.now:
            item = self._from_the_start(apply)
        self.ended = False
        began = time.monotonic()
        while item is not None and self._wanted is not None and item.at <= self._wanted:
            apply(item)
            self._at, self._since = max(self._at, item.at), time.monotonic()
            item = self._next(apply)
            if time.monotonic() - began > SLICE:
                before = self._wanted
                await asyncio.sleep(0)
                began = time.monotonic()
                if self._wanted < before:
                    return item  # meanwhile somebody wants to be at an earlier time
        self._at, self._since = self._wanted, time.monotonic()
        self._wanted = None
        return item

    def _from_the_start(self, apply: Apply) -> feed.Item | None:
        assert self._file is not None
        self._forget()
        self._file.seek(self._start)
        self._line, self._bad = 1, 0
        self._at, self._since = self.first, time.monotonic()
        return self._next(apply)

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._turn.wait()
        except TimeoutError:
            pass
        self._turn.clear()

    def _next(self, apply: Apply) -> feed.Item | None:
        """The next item that can be read, None at the end."""
        assert self._file is not None
        while line := self._file.readline(LINE):
            self._line += 1
            item = feed.decode(line)
            if item is not None:
                return item
            if not line.endswith(b"\n") and len(line) < LINE:
                return None  # who recorded it was killed in the middle of a line
            self._tell_bad(apply)
        return None

    def _tell_bad(self, apply: Apply) -> None:
        self._bad += 1
        if self._bad == 1:
            self._first_bad = self._line
        elif self._bad % TOLD:
            return
        lines = f"line {self._first_bad}" + (f" and {self._bad - 1} more" * (self._bad > 1))
        apply(feed.Note(at=self._at, part="recording", text=f"{lines} cannot be read: left out"))
