"""results.jsonl: one line a task, appended as tasks end.

The file is the job's own memory: what it has as succeeded is never run or paid again, not even when
the log of seven days has forgotten it. Of several lines with one id the last counts. A line cut
short by a crash is removed before the next is appended, and whatever else is no line of ours is
left alone; the file is locked while a job writes it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import IO, Final

from agentflow.errors import StackError, UsageError
from agentflow.views.ledger import Line, decode_line, encode_line

_BEGINNING: Final = b'{"line":'
"""Of every line of ours; `line` comes first and has no default."""


class Ledger:
    """The results of a job, in memory and on disk."""

    def __init__(self, path: Path, *, simulate: bool) -> None:
        self.path = path
        self._simulate = simulate
        self._file: IO[bytes] | None = None
        self.lines: dict[str, Line] = {}
        self.ignored = 0
        """Lines of simulated answers in a real job, or the other way round."""

    def open(self) -> None:
        """Read what is there and lock the file. Raises UsageError."""
        try:
            self._file = self.path.open("a+b")
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror or error}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            self._file = None
            raise UsageError(
                f"{self.path} is being written by another run; "
                "wait for it, or name another file with --out"
            ) from None
        try:
            self._read(self._file)
        except BaseException:
            self._file.close()
            self._file = None
            raise

    def _read(self, file: IO[bytes]) -> None:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UsageError(f"{self.path} is no ordinary file; name another one with --out")
        file.seek(0)
        end = 0
        for number, raw in enumerate(file, 1):
            if raw.endswith(b"\n"):
                self._take(number, raw)
            elif (line := decode_line(raw)) is not None:
                self._count(line)
                file.write(b"\n")  # only this was missing
            elif _BEGINNING.startswith(raw.rstrip(b"\0")[: len(_BEGINNING)]):
                file.truncate(end)  # cut short by a crash
                return
            else:
                raise self._foreign(number)
            end += len(raw)

    def _take(self, number: int, raw: bytes) -> None:
        if not raw.strip() or b"\0" in raw:
            return  # a block that a power loss left empty: that result is in the log
        line = decode_line(raw)
        if line is None:
            raise self._foreign(number)
        self._count(line)

    def _foreign(self, number: int) -> UsageError:
        return UsageError(
            f"{self.path}: line {number} is no result of ours; name another file with --out"
        )

    def _count(self, line: Line) -> None:
        if line.simulated != self._simulate and line.kind == "claude":
            self.ignored += 1
            return
        self.lines[line.id] = line

    def close(self) -> None:
        """Write all to disk and unlock."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            with file:
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritten(error) from None

    def append(self, line: Line) -> None:
        """Keep a result; it is in the file when this returns. Raises StackError."""
        assert self._file is not None
        try:
            self._file.write(encode_line(line) + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._unwritten(error) from None
        self.lines[line.id] = line

    def _unwritten(self, error: OSError) -> StackError:
        return StackError(
            f"cannot write {self.path}: {error.strerror or error}. Results are kept in the "
            "server's log for seven days: make room and run the same command again"
        )
