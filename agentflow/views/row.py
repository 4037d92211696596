"""From what the streams hold to rows of the index: pure, no I/O.

A row is the last record of a log in short, or a task message that no worker has seen. Two rules
make the order of arrival irrelevant, so that live copies and pages may overlap:

- of two records of a log the one with the higher sequence counts;
- a task message makes a row only where there is none: its log, if there is one, says more.

Texts and contents stay in the stream; whoever shows a task reads them there. Of an error a row has
what a table shows, and only where it is asked for (`detailed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from sys import intern
from typing import Any, Final

import msgspec

from agentflow.errors import InvalidTask
from agentflow.protocol import record as records
from agentflow.protocol import subjects
from agentflow.protocol import task as tasks
from agentflow.protocol.identity import message_identity
from agentflow.protocol.record import Failure, State, Timings, Usage
from agentflow.views.failures import fingerprint

REASON_CHARS: Final = 80
NOTE_CHARS: Final = 120
FINISHED: Final = frozenset(str(state) for state in records.TERMINAL)


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task as the index knows it, unseen by the collector: no row is part of a circle.

    Instants are milliseconds since 1970, money is micro-USD.

    `sequence` is that of the record; 0 for a task without one, and only then `message` is the
    identity of its message in AGENTFLOW_TASKS. Only a detailed row has the last four fields:
    `error` is type and message, `fingerprint` that of a failed or retrying task.
    """

    id: str
    sequence: int
    state: str
    queue: str
    updated: int
    priority: str = "normal"
    kind: str = "unknown"
    model: str | None = None
    labels: str = ""
    attempt: int = 0
    failures: int = 0
    actor: str = ""
    submitted: int | None = None
    started: int | None = None
    ended: int | None = None
    resume_at: int | None = None
    reason: str | None = None
    stop_reason: str | None = None
    usage: Usage = Usage()
    cost: int | None = 0
    simulated: bool = False
    message: str = ""
    progress: float | None = None
    note: str | None = None
    error: str | None = None
    fingerprint: str = ""

    @property
    def finished(self) -> bool:
        """Whether the log has ended."""
        return self.state in FINISHED


class Entry(msgspec.Struct, frozen=True, gc=False):
    """The fields of a record that a row needs; the decoder steps over the rest."""

    v: int
    state: str
    attempt: int
    failures: int
    actor: str
    time: datetime
    queue: str
    priority: str
    kind: str
    labels: dict[str, str]
    usage: Usage
    cost_usd: float | None
    timings: Timings
    model: str | None = None
    resume_at: datetime | None = None
    reason: str | None = None
    stop_reason: str | None = None
    simulated: bool = False


class Detailed(Entry, frozen=True, gc=False):
    """What a detailed row needs besides."""

    progress: float | None = None
    note: str | None = None
    error: Failure | None = None


_entry = msgspec.json.Decoder(Entry)
_detailed = msgspec.json.Decoder(Detailed)


def from_record(
    subject: str, sequence: int, stored_ms: int, data: bytes, *, detailed: bool = False
) -> Row:
    """The row of a stored record; one of another version shows its state and nothing else."""
    task_id = subjects.record_id(subject)
    try:
        entry: Entry = _detailed.decode(data) if detailed else _entry.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        head = records.unreadable(data, subject)
        return Row(id=task_id, sequence=sequence, state=head.state, queue="", updated=stored_ms)
    return Row(
        id=task_id,
        sequence=sequence,
        # Interned: a hundred thousand rows that are kept have few different ones.
        state=intern(entry.state),
        queue=intern(entry.queue),
        # The stream's clock, not the writer's: rows are sorted and expire by it.
        updated=stored_ms,
        priority=intern(entry.priority),
        kind=intern(entry.kind),
        model=intern(entry.model) if entry.model else entry.model,
        labels=intern(encode_labels(entry.labels)),
        attempt=entry.attempt,
        failures=entry.failures,
        actor=intern(entry.actor),
        submitted=_ms(entry.timings.submitted),
        started=_ms(entry.timings.started),
        ended=_ms(entry.timings.ended),
        resume_at=_ms(entry.resume_at),
        reason=entry.reason[:REASON_CHARS] if entry.reason else None,
        stop_reason=entry.stop_reason[:REASON_CHARS] if entry.stop_reason else None,
        usage=entry.usage,
        cost=None if entry.cost_usd is None else round(entry.cost_usd * 1_000_000),
        simulated=entry.simulated,
        **(_details(entry) if isinstance(entry, Detailed) else {}),
    )


def _details(entry: Detailed) -> dict[str, Any]:
    found: dict[str, Any] = {"progress": entry.progress}
    if entry.note:
        found["note"] = entry.note[:NOTE_CHARS]
    if entry.error is not None:
        found["error"] = f"{entry.error.type}: {entry.error.message}"[:NOTE_CHARS]
        found["fingerprint"] = fingerprint(entry.reason or "failed", entry.error).key
    return found


def from_task(
    subject: str,
    sequence: int,
    stored_ns: int,
    headers: Mapping[str, str],
    payload: bytes | None,
) -> Row | None:
    """The row of a task message that no worker has seen, None for one that makes none.

    None is answered for a continuation, whose log knows more. `payload` is None where only the
    headers are known; ask `needs_payload` first.
    """
    if headers.get(subjects.FOLLOWS, "0") != "0":
        return None
    queue, priority = subjects.parse_task(subject)
    body = None
    if payload is not None:
        try:
            body = tasks.parse_body(payload, headers)
        except InvalidTask:
            body = None  # a worker will fail it, under the id that it gets here too
    labels = body.labels if body and body.labels is not None else None
    stored_ms = stored_ns // 1_000_000
    return Row(
        id=tasks.task_id(headers, body, queue, sequence, stored_ns),
        sequence=0,
        state=State.QUEUED,
        queue=queue,
        updated=stored_ms,
        priority=priority,
        kind=(body.kind if body else None) or headers.get(subjects.KIND) or "claude",
        model=(body.model if body else None) or headers.get(subjects.MODEL) or None,
        labels=encode_labels(
            tasks.labels_from(headers.get(subjects.LABELS)) if labels is None else labels
        ),
        submitted=stored_ms,
        message=message_identity(sequence, stored_ns),
    )


def needs_payload(headers: Mapping[str, str]) -> bool:
    """Whether the id of a task cannot be told from its headers: its payload may name one."""
    if headers.get(subjects.FOLLOWS, "0") != "0" or subjects.ID in headers:
        return False
    return not headers.get(subjects.CONTENT_TYPE, "").startswith("text/plain")


def supersedes(new: Row, old_sequence: int | None) -> bool:
    """Whether `new` takes the place of the row with `old_sequence` (None: there is none)."""
    if old_sequence is None:
        return True
    return new.sequence > old_sequence


def encode_labels(labels: Mapping[str, str]) -> str:
    """Labels as text, `,"name":"value"` each; "" for none."""
    return f",{msgspec.json.encode(labels).decode()[1:-1]}" if labels else ""


def decode_labels(text: str) -> dict[str, str]:
    """The labels of a row."""
    return msgspec.json.decode(f"{{{text[1:]}}}", type=dict[str, str])


def label_text(name: str, value: str) -> str:
    """What the text of labels with this one contains, and no other text of labels.

    Quotes inside names and values are escaped, so a comma before a bare quote begins a name.
    """
    return f",{_quoted(name)}:{_quoted(value)}"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _ms(instant: datetime | None) -> int | None:
    return None if instant is None else round(instant.timestamp() * 1000)


def instant(ms: int | None) -> datetime | None:
    """A row's instant as a datetime."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
