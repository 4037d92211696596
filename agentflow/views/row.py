"""A task as lists and dashboards hold it, and every mapper to and from it: pure, no I/O.

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
from typing import Any, Final, cast

import msgspec

from agentflow.errors import InvalidTask
from agentflow.protocol import record as records
from agentflow.protocol import subjects
from agentflow.protocol import task as tasks
from agentflow.protocol.identity import message_identity
from agentflow.protocol.record import Record, State, Timings, Usage
from agentflow.protocol.task import title_of
from agentflow.views.failures import fingerprint
from agentflow.views.result import Result

REASON_CHARS: Final = 80
NOTE_CHARS: Final = 120
UNREADABLE: Final = "unreadable"
"""The state of a row about which nothing else is known."""
_EARLIEST: Final = -62_135_596_800_000
_LATEST: Final = 253_402_300_799_999
FINISHED: Final = frozenset(str(state) for state in records.TERMINAL)


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task as the index knows it, unseen by the collector: no row is part of a circle.

    Instants are milliseconds since 1970, money is micro-USD. `by` is who cancelled the task, or
    dropped (`dropped`) its dead letter.

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
    due: int | None = None
    resume_at: int | None = None
    reason: str | None = None
    stop_reason: str | None = None
    usage: Usage = Usage()
    cost: int | None = 0
    simulated: bool = False
    message: str = ""
    title: str = ""
    by: str = ""
    dropped: bool = False
    progress: float | None = None
    note: str | None = None
    error: str | None = None
    fingerprint: str = ""

    @property
    def finished(self) -> bool:
        """Whether the log has ended."""
        return self.state in FINISHED


def _part(*names: str) -> type[Record]:
    """A record of these fields alone: the decoder steps over the others, texts and all."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(Record):
        if field.name in names:
            known = (field.name, field.type)
            fields.append(known if field.required else (*known, field.default))
    return cast("type[Record]", msgspec.defstruct("Part", fields, frozen=True, gc=False))


_SHOWN: Final = (
    *("v", "state", "attempt", "failures", "actor", "time", "queue", "priority", "kind", "labels"),
    *("usage", "cost_usd", "timings", "model", "resume_at", "reason", "stop_reason", "simulated"),
    *("title", "by", "dropped"),
)
_DETAILS: Final = ("progress", "note", "error")
_part_decoder = msgspec.json.Decoder(_part(*_SHOWN))
_detailed_decoder = msgspec.json.Decoder(_part(*_SHOWN, *_DETAILS))


Details = dict[str, Any]
"""Fields that only a detailed row has."""


def from_record(
    subject: str, sequence: int, stored_ms: int, data: bytes, *, detailed: bool = False
) -> Row:
    """The row of a stored record; one of another version shows its state and nothing else."""
    task_id = subjects.record_id(subject)
    if not subjects.may_have_log(task_id):
        # Nothing can be asked or done about it, and no command may hold it.
        return Row(
            id=_plain(task_id), sequence=sequence, state=UNREADABLE, queue="", updated=stored_ms
        )
    try:
        record = _detailed_decoder.decode(data) if detailed else _part_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        head = records.unreadable(data, subject)
        return Row(id=task_id, sequence=sequence, state=head.state, queue="", updated=stored_ms)
    # The stream's clock, not the writer's: rows are sorted and expire by it.
    details = _details(record) if detailed else {}
    return _row(record, task_id, sequence, stored_ms, record.attempt, details)


def row_of_record(record: Record, sequence: int, *, detailed: bool = False) -> Row:
    """The row of a record that is decoded already, or was written here: by its writer's clock."""
    # A writer's words are members of enums, which cannot be interned.
    plain = msgspec.structs.replace(record, state=str(record.state), priority=str(record.priority))
    details = _details(plain) if detailed else {}
    return _row(plain, record.id, sequence, _ms(record.time) or 0, record.attempt, details)


def row_of_result(result: Result) -> Row:
    """The detailed row of a task that a master told of."""
    details = _details(result) | {"message": result.message}
    updated = _ms(result.updated) or 0
    return _row(result, result.id, result.sequence, updated, result.attempts, details)


def _row(
    task: Record | Result, task_id: str, sequence: int, updated: int, attempt: int, details: Details
) -> Row:
    timings, resume_at = task.timings, task.resume_at
    return Row(
        id=task_id,
        sequence=sequence,
        # Interned: a hundred thousand rows that are kept have few different ones.
        state=intern(task.state),
        queue=intern(task.queue),
        updated=updated,
        priority=intern(task.priority),
        kind=intern(task.kind),
        model=intern(task.model) if task.model else task.model,
        labels=intern(encode_labels(task.labels)),
        attempt=attempt,
        failures=task.failures,
        actor=intern(task.actor),
        submitted=_ms(timings.submitted),
        started=_ms(timings.started),
        ended=_ms(timings.ended),
        due=_ms(timings.due),
        resume_at=None if resume_at is None else _ms(resume_at),
        reason=task.reason[:REASON_CHARS] if task.reason else None,
        stop_reason=task.stop_reason[:REASON_CHARS] if task.stop_reason else None,
        usage=task.usage,
        cost=None if task.cost_usd is None else round(task.cost_usd * 1_000_000),
        simulated=task.simulated,
        title=title_of(task.title),
        by=intern(task.by[:REASON_CHARS]) if task.by else "",
        dropped=task.dropped,
        **details,
    )


def _details(task: Record | Result) -> Details:
    details: Details = {"progress": task.progress}
    if task.note:
        details["note"] = task.note[:NOTE_CHARS]
    if task.error is not None:
        details["error"] = f"{task.error.type}: {task.error.message}"[:NOTE_CHARS]
        details["fingerprint"] = fingerprint(task.reason or "failed", task.error).key
    return details


def result_of_row(row: Row, record: Record | None = None) -> Result:
    """The task as users see it; `record` is the row's, where it was read: it has text and error."""
    return Result(
        id=row.id,
        state=row.state,
        queue=row.queue,
        priority=row.priority,
        kind=row.kind,
        model=row.model,
        labels=decode_labels(row.labels),
        attempts=row.attempt,
        failures=row.failures,
        actor=row.actor,
        text=record.text if record else None,
        stop_reason=row.stop_reason,
        reason=row.reason,
        error=record.error if record else None,
        usage=row.usage,
        cost_usd=None if row.cost is None else row.cost / 1_000_000,
        timings=Timings(
            submitted=instant(row.submitted),
            started=instant(row.started),
            ended=instant(row.ended),
        ),
        resume_at=instant(row.resume_at),
        progress=row.progress,
        note=row.note,
        simulated=row.simulated,
        title=row.title or None,
        by=row.by or None,
        dropped=row.dropped,
        updated=instant(row.updated),
        sequence=row.sequence,
        message=record.message if record else row.message,
    )


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
        title=tasks.title(body, headers),
        message=message_identity(sequence, stored_ns),
    )


def waited(row: Row) -> int | None:
    """Milliseconds that a task waited for the attempt that has started last, since it was due."""
    due = row.due
    if due is None and row.attempt <= 1:
        due = row.submitted
    return None if due is None or row.started is None else max(0, row.started - due)


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
    if instant is None:
        return None
    # Of another zone it may lie outside the years that there are in UTC.
    return min(max(round(instant.timestamp() * 1000), _EARLIEST), _LATEST)


def _plain(text: str) -> str:
    """A name that is none, fit for a list."""
    escaped = text.encode("unicode_escape").decode()
    return escaped if len(escaped) <= REASON_CHARS else f"{escaped[:REASON_CHARS]}..."


def instant(ms: int | None) -> datetime | None:
    """A row's instant as a datetime."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
