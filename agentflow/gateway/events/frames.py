"""An event as readers get it: `{"type": "task.progress", "data": {"taskId": ..., ...}}`. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from agentflow.client import Event
from agentflow.protocol.record import Failure, Record, State, Usage

STARTED: Final = "task.started"
PROGRESS: Final = "task.progress"
QUEUED: Final = "task.queued"
TOKENS: Final = "task.tokens"
TYPES: Final = (
    *(QUEUED, STARTED, PROGRESS, TOKENS, "task.scheduled", "task.retrying", "task.waiting"),
    *("task.succeeded", "task.failed", "task.cancelled"),
)


class Happened(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What an event tells of a task. `sequence` is the record's, by which a stream is resumed.

    `text` and `offset` (UTF-8 bytes of the attempt before it) are of task.tokens. `record` is the
    whole of it, where that was asked for.
    """

    task_id: str
    state: str = ""
    queue: str = ""
    priority: str = ""
    kind: str = ""
    model: str | None = None
    labels: dict[str, str] = {}
    attempt: int = 0
    progress: float | None = None
    note: str | None = None
    reason: str | None = None
    error: Failure | None = None
    resume_at: datetime | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    time: datetime | None = None
    sequence: int = 0
    text: str = ""
    offset: int = 0
    record: Record | None = None


class Frame(msgspec.Struct, frozen=True):
    """An event: its type and what it tells."""

    type: str
    data: Happened


def frame(event: Event, *, whole: bool = False) -> Frame:
    """The frame of an event; `whole` with the record."""
    if event.kind == "tokens":
        return Frame(
            TOKENS,
            Happened(task_id=event.id, attempt=event.attempt, text=event.text, offset=event.offset),
        )
    record = event.record
    if record is None:
        return Frame(
            QUEUED,
            Happened(
                task_id=event.id,
                state=State.QUEUED,
                queue=event.queue,
                priority=event.priority,
                kind=event.task_kind,
                model=event.model,
                labels=event.labels,
            ),
        )
    return Frame(type_of(record), _of_record(event.id, record, event.sequence, whole))


def type_of(record: Record) -> str:
    """What a record is told as."""
    if record.state == State.RUNNING:
        told = record.progress is not None or record.note is not None
        return PROGRESS if told else STARTED
    return f"task.{record.state}"


def _of_record(task_id: str, record: Record, sequence: int, whole: bool) -> Happened:
    error = record.error
    if error is not None and not whole:
        error = Failure(type=error.type, message=error.message[:500], status=error.status)
    return Happened(
        task_id=task_id,
        state=record.state,
        queue=record.queue,
        priority=record.priority,
        kind=record.kind,
        model=record.model,
        labels=record.labels,
        attempt=record.attempt,
        progress=record.progress,
        note=record.note,
        reason=record.reason,
        error=error,
        resume_at=record.resume_at,
        usage=record.usage if record.terminal else None,
        cost_usd=record.cost_usd,
        time=record.time,
        sequence=sequence,
        record=record if whole else None,
    )
