"""Which messages of a task are taken back, and how."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agentflow.protocol.record import EMPTY, Last, Record, State
from agentflow.rules.records import Origin, follow
from agentflow.rules.withdrawal import Step, step

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OURS, OTHER = "5-1", "6-1"


def last(state: State, message: str = OURS, sequence: int = 9) -> Last:
    origin = Origin(id="t", queue="q", priority="normal", message=message, submitted=NOW)
    record: Record = follow(origin, EMPTY, state, actor="a", now=NOW)
    return Last(sequence, record)


@pytest.mark.parametrize(
    ("end", "follows", "expected"),
    [
        (EMPTY, 0, Step.REMOVE),
        (EMPTY, 4, Step.FAIL),  # a continuation that outlived its log: only it has the payload
        (last(State.QUEUED), 0, Step.FAIL),
        (last(State.QUEUED, OTHER), 0, Step.LEAVE),
        (last(State.RETRYING), 9, Step.FAIL),
        (last(State.SCHEDULED), 9, Step.FAIL),
        (last(State.RETRYING), 0, Step.FAIL),  # parked a moment ago, and not yet scheduled
        (last(State.RETRYING, OTHER), 8, Step.LEAVE),
        (last(State.RUNNING), 0, Step.ASK),
        (last(State.RUNNING, OTHER), 0, Step.LEAVE),
        (last(State.FAILED), 9, Step.KEEP),  # retried by hand
        (last(State.FAILED), 0, Step.LEAVE),
        (last(State.SUCCEEDED), 0, Step.LEAVE),
        (last(State.CANCELLED), 0, Step.LEAVE),
    ],
)
def test_each_end_of_a_log(end: Last, follows: int, expected: Step) -> None:
    assert step(OURS, follows, end, sourced=follows > 0) is expected


@pytest.mark.parametrize("state", [State.RETRYING, State.SCHEDULED, State.RUNNING, State.QUEUED])
def test_what_a_client_stored_is_no_payload_of_what_waits(state: State) -> None:
    """It would become the dead letter, with which the task is gone on with."""
    assert step(OURS, 9, last(state, OTHER)) is Step.LEAVE
    assert step(OURS, 99, last(state, OTHER)) is Step.LEAVE


def test_a_record_of_a_later_version_is_left_alone() -> None:
    later = last(State.QUEUED)
    assert later.record is not None
    unknown = Last(
        9,
        Record(
            **{**{f: getattr(later.record, f) for f in later.record.__struct_fields__}, "v": 99}
        ),
    )
    assert step(OURS, 9, unknown) is Step.LEAVE
