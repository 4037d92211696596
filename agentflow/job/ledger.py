"""The file of results: one line a task, appended as tasks end, in input order once all have.

The file is the job's own memory: what it has as succeeded is never run or paid again, not even when
the log of seven days has forgotten it. Of several lines with one id the last counts. A line cut
short by a crash is removed before the next is appended, and a file with a line that is none of
ours is left alone; the file is locked while a job writes it. In memory is only where the line of
each task begins.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final, Protocol

import msgspec

from agentflow.errors import ResultsLost, UsageError
from agentflow.job import private
from agentflow.job.source import Item
from agentflow.protocol.record import State
from agentflow.rules import withdrawal
from agentflow.rules.answers import flaw_of
from agentflow.views.ledger import Line, decode_line, encode_line

_BEGINNING: Final = b'{"line":'
"""Of every line of ours; `line` comes first and has no default."""
_AGAIN: Final = (
    "Results are kept in the server's log for seven days: run the same command again to get them"
)


class Results(Protocol):
    """Where the results of a job go."""

    ignored: int

    def open(self) -> None:
        """Read what is there. Raises UsageError."""

    def close(self) -> None:
        """Write all. Raises ResultsLost."""

    def ids(self) -> Iterable[str]:
        """The tasks that have a result."""

    def get(self, task_id: str) -> Line | None:
        """The result of a task."""

    def settled(
        self, task_id: str, *, retry_failed: bool, again: frozenset[str] = frozenset()
    ) -> bool:
        """Whether a task needs no run: it succeeded, or failed and may not be tried again.

        `again`: kinds of answers (rules/answers.py) that earlier runs got and that do not count.
        """

    def append(self, line: Line) -> None:
        """Keep a result; it is kept when this returns. Raises ResultsLost."""

    def check(self) -> None:
        """Raise ResultsLost where the results would go nowhere."""

    def compact(self, items: Iterable[Item], *, others: bool) -> None:
        """One line a task, in the order of `items`; those of other jobs first, with `others`."""


class Ledger:
    """The results of a job in a file."""

    def __init__(self, path: Path, *, simulate: bool) -> None:
        self.path = path
        self._simulate = simulate
        self._file: IO[bytes] | None = None
        # Where a task's last line begins, and whether it succeeded: 2 * offset + 1. A line of this
        # run lies behind `_began`.
        self._places: dict[str, int] = {}
        self._began = 0
        self._made = False
        self.ignored = 0
        """Simulated results, which do not count in a real job and are dropped at its end."""

    def open(self) -> None:
        """Read what is there and lock the file. Raises UsageError."""
        self._made = not self.path.exists()
        try:
            self._file = open(self.path, "a+b", opener=private.opener)  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror or error}") from None
        try:
            _lock(self._file, self.path)
            self._read(self._file)
        except BaseException:
            self._file.close()
            self._file = None
            raise

    def _read(self, file: IO[bytes]) -> None:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{self.path} is no ordinary file; name another one with --out")
        if not status.st_mode & _WRITE:
            raise UsageError(f"{self.path} is read-only; name another one with --out")
        file.seek(0)
        end = 0
        for number, raw in enumerate(file, 1):
            if raw.endswith(b"\n"):
                self._take(number, raw, end)
            elif (line := decode_line(raw)) is not None:
                self._count(line, end)
                file.write(b"\n")  # only this was missing
            elif _BEGINNING.startswith(raw.rstrip(b"\0")[: len(_BEGINNING)]):
                file.truncate(end)  # cut short by a crash
                break
            else:
                raise self._foreign(number)
            end += len(raw)
        file.flush()
        self._began = file.seek(0, os.SEEK_END)

    def _take(self, number: int, raw: bytes, place: int) -> None:
        if not raw.strip() or b"\0" in raw:
            return  # a block that a power loss left empty: that result is in the log
        line = decode_line(raw)
        if line is None:
            raise self._foreign(number)
        self._count(line, place)

    def _foreign(self, number: int) -> UsageError:
        return UsageError(
            f"{self.path}: line {number} is no result of ours; name another file with --out"
        )

    def _count(self, line: Line, place: int) -> None:
        if line.simulated != self._simulate and line.kind == "claude":
            if self._simulate:
                raise UsageError(
                    f"{self.path} holds real results; simulated ones go to another file: --out"
                )
            self.ignored += 1
            return
        if line.reason == withdrawal.REASON:
            return  # it says what was paid; the task goes on
        self._places[line.id] = 2 * place + (line.state == State.SUCCEEDED)

    def close(self) -> None:
        """Write all to disk and unlock."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            with file:
                file.flush()
                os.fsync(file.fileno())
                if self._made and not os.fstat(file.fileno()).st_size:
                    self.path.unlink(missing_ok=True)  # nothing came of it: the input was refused
        except OSError as error:
            raise self._unwritten(error) from None

    def ids(self) -> Iterable[str]:
        """The tasks that have a result."""
        return self._places.keys()

    def get(self, task_id: str) -> Line | None:
        """The result of a task."""
        place = self._places.get(task_id)
        return None if place is None else decode_line(self._raw(place >> 1))

    def lines(self) -> Iterator[Line]:
        """Every result, the last one of each task."""
        for place in sorted(self._places.values()):
            line = decode_line(self._raw(place >> 1))
            assert line is not None
            yield line

    def settled(
        self, task_id: str, *, retry_failed: bool, again: frozenset[str] = frozenset()
    ) -> bool:
        """Whether a task needs no run: it succeeded, or failed and may not be tried again."""
        place = self._places.get(task_id)
        if place is None:
            return False
        if place >> 1 >= self._began:
            return True
        if not place & 1 and retry_failed:
            return False
        line = self.get(task_id) if again else None
        return line is None or flaw_of(line) not in again

    def append(self, line: Line) -> None:
        """Keep a result; it is in the file when this returns. Raises ResultsLost."""
        assert self._file is not None
        self.check()
        try:
            place = self._file.seek(0, os.SEEK_END)
            self._file.write(encode_line(line) + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._unwritten(error) from None
        self._places[line.id] = 2 * place + (line.state == State.SUCCEEDED)

    def check(self) -> None:
        """Raise ResultsLost where the file is no more what its path names, or is read-only."""
        assert self._file is not None
        ours = os.fstat(self._file.fileno())
        try:
            there = self.path.stat()
        except OSError as error:
            raise ResultsLost(f"{self.path} is gone ({error.strerror}). {_AGAIN}") from None
        if (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev):
            raise ResultsLost(f"{self.path} was replaced by another file. {_AGAIN}")
        if not there.st_mode & _WRITE:
            raise ResultsLost(f"{self.path} has become read-only. {_AGAIN}")

    def compact(self, items: Iterable[Item], *, others: bool) -> None:
        """One line a task, in the order of `items`; those of other jobs first, with `others`.

        Nothing is written where the file is so already. Raises ResultsLost.
        """
        assert self._file is not None
        self.check()
        target = Path(os.path.realpath(self.path))
        part = target.with_name(target.name + ".part")
        try:
            private.prepare(part, target)
            with part.open("r+b") as file:
                changed = self._rewrite(file, items, others=others)
                file.flush()
                os.fsync(file.fileno())
            if not changed:
                part.unlink()
                return
            self._replace(part, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise ResultsLost(
                f"{self.path} has every result, but cannot be put into order: "
                f"{error.strerror or error}"
            ) from None

    def _rewrite(self, file: IO[bytes], items: Iterable[Item], *, others: bool) -> bool:
        """Whether what was written differs from what is there."""
        assert self._file is not None
        end, changed = 0, False
        places: dict[str, int] = {}
        if others:
            foreign = dict(self._places)
            for item in items:
                foreign.pop(item.id, None)
            for name, place in sorted(foreign.items(), key=lambda one: one[1]):
                raw = self._raw(place >> 1)
                changed |= place >> 1 != end
                places[name] = 2 * end + (place & 1)
                end += file.write(raw)
        for item in items:
            place = self._places.get(item.id, -1)
            if place < 0:
                continue
            raw = self._raw(place >> 1)
            line = decode_line(raw)
            assert line is not None
            new = msgspec.structs.replace(
                line, line=item.line, input=item.carried, custom_id=item.custom_id
            )
            written = encode_line(new) + b"\n"
            changed |= place >> 1 != end or written != raw
            places[item.id] = 2 * end + (place & 1)
            end += file.write(written)
        changed |= end != os.fstat(self._file.fileno()).st_size
        if changed:
            self._places = places
        return changed

    def _replace(self, part: Path, target: Path) -> None:
        assert self._file is not None
        status = os.fstat(self._file.fileno())
        part.chmod(stat.S_IMODE(status.st_mode))
        new = part.open("a+b")
        fcntl.flock(new, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.replace(target)
        self._file.close()
        self._file = new
        self._began = new.seek(0, os.SEEK_END)

    def _raw(self, place: int) -> bytes:
        assert self._file is not None
        self._file.seek(place)
        return self._file.readline()

    def _unwritten(self, error: OSError) -> ResultsLost:
        return ResultsLost(
            f"cannot write {self.path}: {error.strerror or error}. Make room. {_AGAIN}"
        )


class Printed:
    """The results of a job on standard output. It has no memory: what ended is in the log."""

    def __init__(self) -> None:
        self.ignored = 0
        self._done: set[str] = set()

    def open(self) -> None:
        """Nothing is there."""

    def close(self) -> None:
        """Everything is written already."""

    def ids(self) -> Iterable[str]:
        """None: what other runs have written is not known."""
        return ()

    def get(self, task_id: str) -> Line | None:
        """Nothing is kept."""
        return None

    def settled(
        self, task_id: str, *, retry_failed: bool, again: frozenset[str] = frozenset()
    ) -> bool:
        """Whether this run has written it."""
        return task_id in self._done

    def append(self, line: Line) -> None:
        """Write it. Raises ResultsLost where nobody reads any more."""
        try:
            sys.stdout.buffer.write(encode_line(line) + b"\n")
            sys.stdout.buffer.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # Python would complain of it at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise ResultsLost(f"nobody reads the results ({error.strerror}). {_AGAIN}") from None
        self._done.add(line.id)

    def check(self) -> None:
        """It is noticed when it is written to."""

    def compact(self, items: Iterable[Item], *, others: bool) -> None:
        """What is written is written."""


_WRITE: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UsageError(
            f"{path} is being written by another run; wait for it, or name another file with --out"
        ) from None
