"""results.jsonl: one line a task, appended as tasks end.

The file is the job's own memory: what it has as succeeded is never run or paid again, not even when
the log of seven days has forgotten it. Of several lines with one id the last counts. A line cut
short by a crash is removed before the next is appended; the file is locked while a job writes it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO, Any

import msgspec

from agentflow.batch.source import Item
from agentflow.errors import UsageError
from agentflow.protocol.record import Failure, Record, State, Timings, Usage
from agentflow.rules.records import micro


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One result. `line` is the task's line in the input file."""

    line: int
    id: str
    state: str
    text: str | None = None
    value: Any = None
    content: Any = None
    usage: Usage
    cost_usd: float | None
    stop_reason: str | None
    attempts: int
    timings: Timings
    error: Failure | None
    reason: str | None = None
    kind: str = "claude"
    model: str | None = None
    labels: dict[str, str] = {}
    request: str | None = None
    truncated: bool = False
    simulated: bool = False


def line_of(item: Item, record: Record) -> Line:
    """The result line of a task that ended."""
    return Line(
        line=item.line,
        id=item.id,
        state=record.state,
        text=record.text,
        value=record.value,
        content=record.content,
        usage=record.usage,
        cost_usd=record.cost_usd,
        stop_reason=record.stop_reason,
        attempts=record.attempt,
        timings=record.timings,
        error=record.error,
        reason=record.reason,
        kind=record.kind,
        model=record.model,
        labels=record.labels,
        request=item.request,
        truncated=record.truncated,
        simulated=record.simulated,
    )


class Ledger:
    """The results of a job, in memory and on disk."""

    def __init__(self, path: Path, *, simulate: bool) -> None:
        self.path = path
        self._simulate = simulate
        self._file: IO[bytes] | None = None
        self._encoder = msgspec.json.Encoder()
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
        self._file.seek(0)
        end = 0
        for number, raw in enumerate(self._file, 1):
            if not raw.endswith(b"\n"):
                break  # cut short by a crash
            end += len(raw)
            if raw.strip():
                self._take(number, raw)
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)

    def _take(self, number: int, raw: bytes) -> None:
        try:
            line = msgspec.json.decode(raw, type=Line)
        except (msgspec.DecodeError, RecursionError):
            if not raw.strip(b"\0 \r\n"):
                return  # a block that a power loss left empty
            raise UsageError(
                f"{self.path}: line {number} is no result of ours; name another file with --out"
            ) from None
        if line.simulated != self._simulate and line.kind == "claude":
            self.ignored += 1
            return
        self.lines[line.id] = line

    def close(self) -> None:
        """Write all to disk and unlock."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def append(self, line: Line) -> None:
        """Keep a result; it is in the file when this returns."""
        assert self._file is not None
        self.lines[line.id] = line
        self._file.write(self._encoder.encode(line) + b"\n")
        self._file.flush()

    def succeeded(self, task_id: str) -> bool:
        """Whether this task needs to be run no more."""
        line = self.lines.get(task_id)
        return line is not None and line.state == State.SUCCEEDED

    def cost_micro(self, ids: set[str]) -> int | None:
        """What the tasks have cost so far, in micro-USD; None where a price is unknown."""
        total = 0
        for task_id in ids:
            line = self.lines.get(task_id)
            if line is None:
                continue
            if line.cost_usd is None:
                return None
            total += micro(line.cost_usd)
        return total
