"""The log of a part: bounded in size, and able to say what this run of the part wrote last."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Final

LOG_BYTES: Final = 5 * 1024 * 1024
"""A log above this is put aside when its part starts; one such file is kept."""
TAIL_BYTES: Final = 16 * 1024
LAST_LINES: Final = 8


class LogFile:
    """Appended to over restarts; `text` and `last_lines` speak of the present run only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = 0

    def begin(self) -> None:
        """A run begins: what is there belongs to earlier ones."""
        self._start = self._size()
        if self._start > LOG_BYTES:
            self.path.replace(self.path.with_name(self.path.name + ".1"))
            self._start = 0

    def open(self) -> IO[bytes]:
        return self.path.open("ab")

    def text(self, limit: int = 65_536) -> str:
        """What the present run wrote first."""
        return self._read(self._begin(), limit)

    def last_lines(self, count: int = LAST_LINES) -> list[str]:
        """What the present run wrote last, without anything that would move a cursor."""
        start = max(self._begin(), self._size() - TAIL_BYTES)
        lines = [printable(line).rstrip() for line in self._read(start, TAIL_BYTES).splitlines()]
        return [line for line in lines if line][-count:]

    def _begin(self) -> int:
        # The server rotates its own log: a shorter file is a new one.
        return self._start if self._start <= self._size() else 0

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _read(self, start: int, limit: int) -> str:
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(limit).decode(errors="replace")
        except FileNotFoundError:
            return ""


def printable(line: str) -> str:
    """A line without control characters: a log may quote what a stranger sent."""
    return "".join(char if char.isprintable() else " " for char in line)
