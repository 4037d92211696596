"""A job: a file of tasks. Its tasks bear its label, and a key of the bucket says what it is.

The key is for people and for whoever comes later; no task depends on it. `seen` is renewed while
the job runs, so that of one that was killed it can be told since when nobody drives it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from agentflow.errors import UsageError
from agentflow.protocol import limits

PREFIX: Final = "job."
"""Of the keys; the job's id follows."""
LABEL: Final = "job"
"""The label of a job's tasks; its value is the job's id."""
LINE: Final = "line"
"""The label that says which line of the file a task is."""
SEEN_EVERY: Final = 5.0
SILENT: Final = 20.0
"""Seconds without a word after which nobody drives a job."""
KEPT: Final = 30 * 24 * 3600
"""Seconds that the key outlives the last word; as long as dead letters, longer than records."""

RANGES: Final = 1000
"""Ranges of withdrawn sequences that are kept."""

_ID: Final = re.compile(r"[a-z0-9-]{1,24}")
_NAMED: Final = 15
_HASHED: Final = 8


class Input(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a job's input lies and how it was read, of one that says more than its tasks do.

    `path` is empty for standard input; `size` (bytes) and `changed` (Unix time, ns) tell whether
    the file is still what was read. `carry` names what stands beside a result although it was
    asked, as --with does.
    """

    path: str = ""
    size: int = 0
    changed: int = 0
    format: str = ""
    template: str | None = None
    carry: list[str] = []


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the key of a job holds.

    `lines` are the tasks that are wanted of the file, `defaults` is the hash of what holds for
    lines that do not say it, `who` drives it from where. `cost_usd` is what the results cost so
    far, None once a part has no known price. `ending` is empty until it has ended; `waiting` says
    what its tasks wait for. `withdrawn` has the sequences, from and to, of the messages that were
    taken out of AGENTFLOW_TASKS and of which no record tells: they were not lost. `input` says
    where columns and the like are, which stand beside results and are not in the log.
    """

    v: int = 1
    id: str
    file: str
    results: str
    queue: str
    lines: int
    defaults: str
    who: str
    started: datetime
    seen: datetime
    ended: datetime | None = None
    ending: str = ""
    done: int = 0
    failed: int = 0
    running: int = 0
    cost_usd: float | None = 0.0
    waiting: str = ""
    simulated: bool = False
    withdrawn: list[tuple[int, int]] = []
    input: Input | None = None

    @property
    def left(self) -> int:
        """Tasks without a result."""
        return max(0, self.lines - self.done)

    def driven(self, now: datetime) -> bool:
        """Whether somebody still drives it, as far as it can be told."""
        return self.ended is None and now - self.seen < timedelta(seconds=SILENT)


def with_withdrawn(job: Job, sequences: Iterable[int]) -> Job:
    """The job with these sequences among those that were withdrawn, the oldest ranges left out."""
    ranges: list[tuple[int, int]] = []
    taken = {at for first, last in job.withdrawn for at in range(first, last + 1)}
    for sequence in sorted(taken.union(sequences)):
        if ranges and ranges[-1][1] == sequence - 1:
            ranges[-1] = (ranges[-1][0], sequence)
        else:
            ranges.append((sequence, sequence))
    return msgspec.structs.replace(job, withdrawn=ranges[-RANGES:])


_decoder = msgspec.json.Decoder(Job)


def job_id(name: str, identity: str) -> str:
    """The id of a job: readable by its file's name, and the same for the same `identity`.

    It may be the name of a queue.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_NAMED].strip("-")
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:_HASHED]
    return f"{plain or 'job'}-{digest}"


def labels(own: Mapping[str, str] | None, job: str, line: int) -> dict[str, str]:
    """The labels of a job's task: its own, the job's, and its line where there is room for it."""
    given = {**(own or {}), LABEL: job}
    if LINE not in given and len(given) < limits.LABELS:
        given[LINE] = str(line)
    return given


def check_id(text: str) -> str:
    """Return `text`; raise UsageError where it cannot be the id of a job."""
    if _ID.fullmatch(text) is None:
        raise UsageError(f"{text[:80]!r} is no job; `agentflow jobs` lists them")
    return text


def key(job: str) -> str:
    """The key of a job."""
    return PREFIX + job


def encode(job: Job) -> bytes:
    """As it is stored."""
    return msgspec.json.encode(job)


def decode(value: bytes | None) -> Job | None:
    """The job that a key holds, None where none can be read."""
    try:
        return None if value is None else _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
