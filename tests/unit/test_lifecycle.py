"""The order of states: the table is whole, terminal states absorb, and the rules keep to it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.protocol import limits, record
from agentflow.protocol.record import EMPTY, Last, Record, State, Timings, Usage
from agentflow.rules.claim import Act, Delivery, after_silence, decide
from agentflow.rules.lifecycle import FOLLOWERS, may_follow

# What each act writes (a claim may also park or fail at once), and what a run may write.
WRITTEN = {
    Act.CLAIM: [
        State.RUNNING,
        State.SCHEDULED,
        State.RETRYING,
        State.WAITING,
        State.FAILED,
    ],
    Act.EXPIRE: [State.FAILED],
    Act.REJECT: [State.FAILED],
    Act.LOST: [State.FAILED],
}
OF_A_RUN = [state for state in State if state != State.WAITING]

names = st.text(max_size=12)


def test_the_table_has_each_state_on_the_left_and_on_the_right() -> None:
    assert set(FOLLOWERS) == {None, *State}
    assert set().union(*FOLLOWERS.values()) == set(State)


def test_terminal_parked_and_open_states_share_out_all_states() -> None:
    open_states = {State.QUEUED, State.RUNNING, State.WAITING}
    assert set(State) == record.TERMINAL | record.PARKED | open_states
    assert not record.TERMINAL & record.PARKED


@pytest.mark.parametrize("ended", [State.SUCCEEDED, State.CANCELLED])
@given(after=st.sampled_from(State) | names)
def test_nothing_follows_succeeded_or_cancelled(ended: State, after: str) -> None:
    assert not may_follow(ended, after)


def test_failed_is_followed_only_by_what_a_manual_retry_brings() -> None:
    assert {state for state in State if may_follow(State.FAILED, state)} == {
        State.RUNNING,
        State.SCHEDULED,
        State.RETRYING,
        State.WAITING,
        State.FAILED,
    }


@pytest.mark.parametrize("state", [state for state in State if state not in record.TERMINAL])
def test_what_has_not_ended_can_be_cancelled_and_can_end(state: State) -> None:
    assert may_follow(state, State.CANCELLED)
    assert may_follow(state, State.FAILED)
    ends_well = state in (State.RUNNING, State.WAITING)
    assert may_follow(state, State.SUCCEEDED) == ends_well


def test_a_task_is_handed_back_only_by_a_run() -> None:
    assert [last for last in FOLLOWERS if may_follow(last, State.QUEUED)] == [State.RUNNING]


@given(last=names.filter(lambda name: name not in set(State)), after=st.sampled_from(State) | names)
def test_a_state_i_do_not_know_is_followed_only_by_cancelled(last: str, after: str) -> None:
    assert may_follow(last, after) == (after == State.CANCELLED)


@given(last=st.none() | st.sampled_from(State), after=names)
def test_a_state_i_do_not_know_follows_nothing(last: State | None, after: str) -> None:
    assert may_follow(last, after) == (after in FOLLOWERS[last])


def entry(sequence: int, state: str, message: str, failures: int, follows: int) -> Last:
    made = Record(
        v=record.VERSION,
        id="t",
        state=state,
        attempt=1,
        failures=failures,
        actor="a",
        follows=follows,
        message=message,
        time=datetime.fromtimestamp(0, UTC),
        queue="q",
        priority="normal",
        kind="echo",
        labels={},
        usage=Usage(),
        cost_usd=None,
        timings=Timings(),
    )
    return Last(sequence, made)


@settings(max_examples=400)
@given(st.data())
def test_whoever_writes_what_the_rules_allow_keeps_to_the_table(data: st.DataObject) -> None:
    """Random messages are delivered one after the other; each writes what its act allows."""
    last, ended = EMPTY, False
    for _ in range(data.draw(st.integers(1, 12), label="deliveries")):
        delivery = Delivery(
            message=data.draw(st.sampled_from(["m1", "m2", "m3"]), label="message"),
            follows=data.draw(st.integers(0, last.sequence), label="follows"),
            delivered=data.draw(st.sampled_from([1, 2]), label="times"),
            age=data.draw(st.sampled_from([0.0, limits.HORIZON + 1.0]), label="age"),
            deadly=data.draw(st.booleans(), label="deadly"),
        )
        act = decide(delivery, last)
        if act == Act.ASK:
            act = after_silence(delivery, last, max_attempts=2)
        if act not in WRITTEN:
            continue
        assert not ended, "a delivery wrote after the end"
        if last.state == State.FAILED:
            assert delivery.follows == last.sequence, "failed was followed by no continuation"
        # What runs, and is taken over, never goes into a batch.
        allowed = [s for s in WRITTEN[act] if (last.state, s) != (State.RUNNING, State.WAITING)]
        state = data.draw(st.sampled_from(allowed), label="written")
        while True:
            assert may_follow(last.state, state)
            failures = last.record.failures + 1 if last.record else 0
            last = entry(last.sequence + 1, state, delivery.message, failures, last.sequence)
            if state != State.RUNNING or not data.draw(st.booleans(), label="runs on"):
                break
            state = data.draw(st.sampled_from(OF_A_RUN), label="by the run")
        ended = state in (State.SUCCEEDED, State.CANCELLED)
