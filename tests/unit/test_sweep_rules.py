"""The sweep's table: one fact at a time, and the order in which they are read."""

from datetime import UTC, datetime

import msgspec
import pytest

from agentflow.protocol.record import EMPTY, VERSION, Last, Record, State, Timings, Usage
from agentflow.rules.sweep import LogFacts, Step, next_step

PARKED = (State.SCHEDULED, State.RETRYING)
OWNED = (State.RUNNING, State.QUEUED)


def last(state: str, *, v: int = VERSION) -> Last:
    return Last(
        5,
        Record(
            v=v,
            id="t",
            state=state,
            attempt=1,
            failures=0,
            actor="w",
            follows=0,
            message="3-4",
            time=datetime.fromtimestamp(0, UTC),
            queue="q",
            priority="normal",
            kind="echo",
            labels={},
            usage=Usage(),
            cost_usd=None,
            timings=Timings(),
        ),
    )


def test_an_empty_log_is_well() -> None:
    assert next_step(EMPTY, LogFacts()) is Step.WELL


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_an_ended_log_is_well(state: State) -> None:
    assert next_step(last(state), LogFacts(message=False, held=False)) is Step.WELL


@pytest.mark.parametrize(("state", "v"), [("waiting", 1), ("dreaming", 1), ("running", 2)])
def test_what_is_not_understood_is_left_alone(state: str, v: int) -> None:
    assert next_step(last(state, v=v), LogFacts(message=False, held=False)) is Step.WELL


@pytest.mark.parametrize("state", [*OWNED, *PARKED])
def test_the_message_is_looked_for_first(state: State) -> None:
    assert next_step(last(state), LogFacts()) is Step.LOOK_FOR_MESSAGE
    # Even with everything else known, for that may have been true of another moment.
    known = LogFacts(held=False, schedule=False, due=False, noted=7, first=9)
    assert next_step(last(state), known) is Step.LOOK_FOR_MESSAGE
    known.message = True
    assert next_step(last(state), known) is Step.WELL


@pytest.mark.parametrize("state", OWNED)
def test_a_task_without_message_is_lost_when_its_owner_does_not_hold_it(state: State) -> None:
    assert next_step(last(state), LogFacts(message=False)) is Step.ASK_OWNER
    assert next_step(last(state), LogFacts(message=False, held=True)) is Step.WELL
    assert next_step(last(state), LogFacts(message=False, held=False)) is Step.LOSE


@pytest.mark.parametrize("state", PARKED)
def test_a_parked_task_is_lost_when_nothing_can_bring_it_back(state: State) -> None:
    facts = LogFacts(message=False)
    assert next_step(last(state), facts) is Step.LOOK_FOR_SCHEDULE
    facts.schedule = False
    assert next_step(last(state), facts) is Step.LOOK_FOR_DUE
    facts.due = False
    assert next_step(last(state), facts) is Step.NOTE_END
    facts = LogFacts(message=False, schedule=False, noted=7, first=7)
    assert next_step(last(state), facts) is Step.WAIT
    assert next_step(last(state), msgspec.structs.replace(facts, first=8)) is Step.LOSE


@pytest.mark.parametrize("state", PARKED)
def test_a_parked_task_is_well_with_its_schedule_and_waits_while_anything_is_due(
    state: State,
) -> None:
    assert next_step(last(state), LogFacts(message=False, schedule=True)) is Step.WELL
    assert next_step(last(state), LogFacts(message=False, schedule=True, noted=1, first=9)) is (
        Step.WELL
    )
    assert next_step(last(state), LogFacts(message=False, schedule=False, due=True)) is Step.WAIT
