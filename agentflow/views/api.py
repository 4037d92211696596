"""A task in the master's answers on `agentflow.api.*`, and in the JSON of the dashboard.

In an answer a task is its last record in short; docs/protocol.md ("The API") is its definition.
One table says which field there is which of a `Result`, and is read in both directions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import msgspec

from agentflow.protocol.api import TEXT_HEAD
from agentflow.protocol.record import Failure
from agentflow.views.result import Result
from agentflow.views.row import Row, decode_labels

_FIELDS: Final[dict[str, tuple[str, Any]]] = {
    "id": ("id", ...),
    "state": ("state", ...),
    "queue": ("queue", ...),
    "priority": ("priority", ...),
    "kind": ("kind", "unknown"),
    "model": ("model", None),
    "labels": ("labels", {}),
    "attempt": ("attempts", 0),
    "failures": ("failures", 0),
    "actor": ("actor", ""),
    "submitted": ("timings.submitted", None),
    "started": ("timings.started", None),
    "ended": ("timings.ended", None),
    "updated": ("updated", None),
    "resume_at": ("resume_at", None),
    "reason": ("reason", None),
    "error": ("error", None),
    "usage": ("usage", ...),
    "cost_usd": ("cost_usd", None),
    "stop_reason": ("stop_reason", None),
    "text_head": ("text", None),
    "simulated": ("simulated", False),
    "title": ("title", None),
    "by": ("by", None),
    "dropped": ("dropped", False),
    "sequence": ("sequence", 0),
    "message": ("message", ""),
}
"""Name in an answer: where a `Result` has it, and the value that is left out (`...`: none is)."""

TASK_FIELDS: Final = tuple(_FIELDS)
_WRITING: Final = [(name, attrgetter(at), left) for name, (at, left) in _FIELDS.items()]
_IN_RESULT: Final = {name: at for name, (at, _) in _FIELDS.items()}
_TIMINGS: Final = frozenset({"submitted", "started", "ended"})


def task_json(task: Result) -> dict[str, Any]:
    """A task as an answer has it: of its text and its error's message the beginning."""
    fields = {name: value for name, read, left_out in _WRITING if (value := read(task)) != left_out}
    if text := fields.pop("text_head", None):
        fields["text_head"] = text[:TEXT_HEAD]
    if task.error is not None:
        fields["error"] = _head(task.error)
    return fields


def _head(error: Failure) -> Failure:
    if len(error.message) <= TEXT_HEAD:
        return error
    return msgspec.structs.replace(error, message=error.message[:TEXT_HEAD])


def result_of_json(answered: dict[str, Any]) -> Result:
    """The task in an answer; fields of a later version are passed over. Raises ValidationError."""
    fields: dict[str, Any] = {"kind": "unknown"}
    timings: dict[str, Any] = {}
    for name, value in answered.items():
        if name in _TIMINGS:
            timings[name] = value
        elif name in _IN_RESULT:
            fields[_IN_RESULT[name]] = value
    return msgspec.convert({**fields, "timings": timings}, Result)


def row_json(row: Row, worker: str | None) -> dict[str, Any]:
    """A row as the dashboard's JSON has it: every field is there, what is not known is null."""
    return {
        "id": row.id,
        "state": row.state,
        "queue": row.queue,
        "priority": row.priority,
        "kind": row.kind,
        "model": row.model,
        "labels": decode_labels(row.labels) if row.labels else {},
        "attempt": row.attempt,
        "failures": row.failures,
        "worker": worker,
        "submitted": iso(row.submitted),
        "started": iso(row.started),
        "ended": iso(row.ended),
        "updated": iso(row.updated),
        "resume_at": iso(row.resume_at),
        "reason": row.reason,
        "stop_reason": row.stop_reason,
        "error": row.error,
        "group": row.fingerprint or None,
        "usage": row.usage,
        "cost_usd": None if row.cost is None else row.cost / 1_000_000,
        "progress": row.progress,
        "note": row.note,
        "title": row.title or None,
        "by": row.by or None,
        "dropped": row.dropped,
        "simulated": row.simulated,
    }


def iso(ms: int | None) -> str | None:
    """A row's instant as ISO 8601 in UTC, to the millisecond."""
    if ms is None:
        return None
    second, rest = divmod(ms, 1000)
    return f"{_second(second)}.{rest:03d}Z"


@lru_cache(maxsize=8192)
def _second(second: int) -> str:
    """Rows that are shown together have few different ones."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
