"""A task in an answer of the master, and back: what one version writes any other reads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.protocol import record
from agentflow.protocol.api import TEXT_HEAD
from agentflow.protocol.record import Failure, Record, State, Timings, Usage
from agentflow.views.api import TASK_FIELDS, result_of_json, task_json
from agentflow.views.result import Result, result_of_record
from agentflow.views.row import (
    Row,
    from_record,
    result_of_row,
    row_of_record,
    row_of_result,
)
from tests.support.masters import TaskView

NOW = datetime(2026, 11, 24, 12, 0, 0, 250_000, tzinfo=UTC)
MS = round(NOW.timestamp() * 1000)


def ended(**fields: Any) -> Record:
    """A record with a value in every field that a row has."""
    known: dict[str, Any] = {
        "v": 1,
        "id": "t1",
        "state": State.FAILED,
        "attempt": 3,
        "failures": 2,
        "actor": "w-1",
        "follows": 9,
        "message": "7-1795520000000000001",
        "time": NOW,
        "queue": "mail",
        "priority": "high",
        "kind": "claude",
        "labels": {"team": "x", 'a"b': "é"},
        "usage": Usage(1, 2, 3, 4),
        "cost_usd": 0.001234,
        "timings": Timings(NOW, NOW, NOW, 1.5, 0.2),
        "model": "m-1",
        "resume_at": NOW,
        "reason": "api_error",
        "error": Failure("api_error", "it broke " * 100, 500),
        "progress": 0.5,
        "note": "half",
        "text": "long " * 1000,
        "stop_reason": "end_turn",
        "simulated": True,
        "title": "a title",
        "by": "ana@here",
        "dropped": True,
    }
    return Record(**(known | fields))


def row(entry: Record, *, detailed: bool = True) -> Row:
    return from_record(entry.subject, 11, MS, record.encode(entry), detailed=detailed)


def sent(task: Result) -> bytes:
    return msgspec.json.encode(task_json(task))


def answered(task: Result) -> Result:
    return result_of_json(msgspec.json.decode(sent(task)))


def test_a_record_that_is_decoded_makes_the_row_that_its_bytes_make() -> None:
    for detailed in (True, False):
        assert row_of_record(ended(), 11, detailed=detailed) == row(ended(), detailed=detailed)


def test_every_field_of_an_answer_is_documented_and_filled() -> None:
    fields = task_json(result_of_record(ended(), 11))
    assert fields.keys() == set(TASK_FIELDS) == set(TaskView.__struct_fields__)
    view = msgspec.json.decode(sent(result_of_record(ended(), 11)), type=TaskView)
    assert (view.attempt, view.failures, view.actor) == (3, 2, "w-1")
    assert (view.submitted, view.started, view.ended, view.updated) == (NOW, NOW, NOW, NOW)
    assert (view.usage, view.cost_usd, view.simulated) == (Usage(1, 2, 3, 4), 0.001234, True)
    assert view.labels == {"team": "x", 'a"b': "é"}
    assert view.text_head == ("long " * 1000)[:TEXT_HEAD]
    assert view.error is not None
    assert (view.error.status, len(view.error.message)) == (500, TEXT_HEAD)
    assert (view.sequence, view.message) == (11, "7-1795520000000000001")


def test_what_is_empty_is_left_out_and_read_as_empty() -> None:
    task = Result(id="t", state="queued", queue="q", priority="low", kind="unknown", cost_usd=0.0)
    assert task_json(task).keys() == {"id", "state", "queue", "priority", "usage", "cost_usd"}
    assert answered(task) == task
    assert msgspec.json.decode(sent(task), type=TaskView).kind == "unknown"


def test_a_row_comes_back_from_an_answer() -> None:
    for entry in (ended(progress=None, note=None), ended(progress=None, note=None, error=None)):
        shown = row(entry)
        told = answered(result_of_row(shown, entry))
        assert row_of_result(told) == msgspec.structs.replace(shown, message=entry.message)


def test_fields_of_a_later_version_are_passed_over() -> None:
    fields = msgspec.json.decode(sent(result_of_record(ended(), 11))) | {"later": 1, "timings": 7}
    assert result_of_json(fields) == answered(result_of_record(ended(), 11))
    with pytest.raises(msgspec.ValidationError):
        result_of_json(fields | {"attempt": "three"})


@given(
    attempt=st.integers(0, 3),
    cost=st.none() | st.just(0.0) | st.just(0.5),
    text=st.none() | st.text(max_size=8),
    error=st.none() | st.builds(Failure, type=st.text(max_size=3), message=st.text(max_size=3)),
    kind=st.sampled_from(["claude", "unknown", "echo"]),
    usage=st.builds(Usage, st.integers(0, 2), st.integers(0, 2)),
)
def test_what_an_answer_says_is_what_is_read(**fields: Any) -> None:
    attempts, cost, text = fields.pop("attempt"), fields.pop("cost"), fields.pop("text")
    task = Result(
        id="t",
        state="running",
        queue="q",
        priority="low",
        attempts=attempts,
        cost_usd=cost,
        text=text,
        **fields,
    )
    # No text and an empty one are the same in a list.
    assert answered(task) == msgspec.structs.replace(task, text=text or None)
