"""A feed kept in a file: a line of JSON says what it is, then each item is a line.

Items wait in memory and are written once a second, in one piece. What cannot be written (a full
disk) ends the recording, not the dashboard; so does its greatest size.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import BinaryIO, Final, Self

import msgspec

from agentflow.errors import UsageError
from agentflow.version import __version__
from agentflow.views import feed

FORMAT: Final = 1
FLUSH_EVERY: Final = 1.0
PIECE: Final = 1024 * 1024
"""Bytes that are written without waiting for their second."""
MOST: Final = 4 * 1024**3
"""Bytes of a recording: some days of a busy system."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. `started` is in seconds since 1970."""

    agentflow_feed: int
    version: str
    started: float


class Recorder:
    """A recording under way: `with Recorder(path) as recorder`, then `take` each item."""

    def __init__(self, path: Path, *, most: int = MOST) -> None:
        self.path = path
        self._most = most
        self._file: BinaryIO | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._due: asyncio.TimerHandle | None = None
        self._written = 0
        self._problem: str | None = None

    def __enter__(self) -> Self:
        """Begin the file. Raises UsageError where it is there already, or cannot be made."""
        try:
            # Prompts may be in what is generated: it is nobody else's to read.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UsageError(
                f"there is a file {self.path} already; name another one to record to"
            ) from None
        except OSError as error:
            raise UsageError(f"cannot record to {self.path}: {error.strerror}") from None
        self._file = os.fdopen(descriptor, "wb")
        head = Header(agentflow_feed=FORMAT, version=__version__, started=time.time())
        self._add(msgspec.json.encode(head))
        self._write()
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        self._end()

    def take(self, item: feed.Item) -> None:
        """Keep an item; in the event loop."""
        if self._file is None:
            return
        self._add(feed.encode(item))
        if self._size >= PIECE:
            self._write()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(FLUSH_EVERY, self._write)

    def told(self) -> str | None:
        """Why the recording has ended early; said once, else None."""
        problem, self._problem = self._problem, None
        return problem

    def _add(self, line: bytes) -> None:
        self._waiting.append(line + b"\n")
        self._size += len(line) + 1

    def _write(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        data, self._waiting, self._size = b"".join(self._waiting), [], 0
        if self._file is None or not data:
            return
        if self._written + len(data) > self._most:
            self._problem = f"the recording {self.path} has its greatest size and ends here"
            self._end()
            return
        try:
            self._file.write(data)
            self._file.flush()
            self._written += len(data)
        except OSError as error:
            self._problem = f"the recording {self.path} ends here: {error.strerror}"
            self._end()

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self._problem = f"the recording {self.path} is not whole: {error.strerror}"
