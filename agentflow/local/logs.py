"""The logs of a local stack, read together: a file a part, and the one put aside before it.

What is there comes in the order of its instants; then, followed, as it is written. A file that is
shorter than what was read of it, or another one under its name, is read from its beginning.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from agentflow.views import entries
from agentflow.views.entries import Entry

EVERY: Final = 0.2
FIRST_BYTES: Final = 8 * 1024 * 1024
"""Of each file, from its end: what is there may be much."""


class _File:
    """One file, as far as it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.name.removesuffix(".1").rpartition(".")[0]
        self._at = 0
        self._inode = 0
        self._rest = b""
        self._open: Entry | None = None

    def read(self, *, first: bool = False) -> list[Entry]:
        """Entries that were not read yet. More lines of the last one come alone."""
        found: list[Entry] = []
        for line in self._lines(first):
            begun = entries.parse(self.part, line)
            if begun is not None:
                found.append(begun)
            elif found:
                found[-1] = entries.more(found[-1], line)
            elif self._open is not None and line.strip():
                found.append(msgspec.structs.replace(self._open, text=line))
        if found:
            self._open = found[-1]
        return found

    def _lines(self, first: bool) -> list[str]:
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size < self._at or (self._inode and status.st_ino != self._inode):
                    self._at, self._rest = 0, b""
                self._inode = status.st_ino
                cut = first and status.st_size > FIRST_BYTES
                file.seek(status.st_size - FIRST_BYTES if cut else self._at)
                data = self._rest + file.read(FIRST_BYTES)
                self._at = file.tell()
        except FileNotFoundError:
            return []
        *lines, self._rest = data.split(b"\n")
        return [line.decode(errors="replace") for line in lines[int(cut) :]]


class StackLogs:
    """All files of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, _File] = {}
        self._begun = False

    def read(self) -> list[Entry]:
        """What is there and was not read yet, in the order of its instants."""
        found: list[Entry] = []
        for path in sorted(self._folder.glob("*.log")) + sorted(self._folder.glob("*.log.1")):
            aside = path.suffix == ".1"
            if aside and self._begun:
                continue  # what was put aside meanwhile was read under its old name
            known = path in self._files
            file = self._files.setdefault(path, _File(path))
            found += file.read(first=not known)
        self._begun = True
        return sorted(found, key=lambda entry: entry.time)

    def follow(self) -> Iterator[Entry]:
        """What is written from here on; never ends."""
        while True:
            yield from self.read()
            time.sleep(EVERY)
