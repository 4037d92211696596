"""The table of what a worker does with a delivery: a case a row, in the table's order."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.protocol import limits, record
from agentflow.protocol.asked import Asked
from agentflow.protocol.record import EMPTY, Last, Record, State, Timings, Usage
from agentflow.rules.claim import LOOKS, Act, Delivery, after_silence, decide, is_fresh

MINE, OTHER = "7-1700000000000000000", "8-1700000000000000001"
MANY = limits.MAX_DELIVERIES + 1
OLD = limits.HORIZON + 1.0


def last(
    state: str, sequence: int = 5, message: str = MINE, failures: int = 0, v: int = record.VERSION
) -> Last:
    made = Record(
        v=v,
        id="t",
        state=state,
        attempt=1,
        failures=failures,
        actor="a",
        follows=0,
        message=message,
        time=datetime.fromtimestamp(0, UTC),
        queue="q",
        priority="normal",
        kind="echo",
        labels={},
        usage=Usage(),
        cost_usd=None,
        timings=Timings(),
        reason="batch" if state == State.WAITING else None,
    )
    return Last(sequence, made)


def mine(
    follows: int = 0,
    delivered: int = 2,
    age: float = 1.0,
    *,
    known: bool = True,
    deadly: bool = False,
    sourced: bool = False,
) -> Delivery:
    return Delivery(MINE, follows, delivered, age, understood=known, deadly=deadly, sourced=sourced)


def fired(follows: int, *, deadly: bool = False) -> Delivery:
    """What a schedule brought."""
    return mine(follows, sourced=True, deadly=deadly)


def waiting_for(reason: str) -> Last:
    """What waits for something."""
    end = last(State.WAITING)
    assert end.record is not None
    return Last(end.sequence, msgspec.structs.replace(end.record, reason=reason))


S = State
TABLE = {
    # empty
    "empty log": (mine(), EMPTY, Act.CLAIM),
    "empty log, exactly 6 days": (mine(age=float(limits.HORIZON)), EMPTY, Act.CLAIM),
    "empty log, past 6 days": (mine(age=OLD), EMPTY, Act.EXPIRE),
    "expired log, continuation still young": (mine(follows=5), EMPTY, Act.CLAIM),
    "expired log, continuation past 6 days": (mine(follows=5, age=OLD), EMPTY, Act.EXPIRE),
    # continues L
    "continues retrying": (fired(5), last(S.RETRYING, message=OTHER), Act.CLAIM),
    "continues scheduled": (fired(5), last(S.SCHEDULED, message=OTHER), Act.CLAIM),
    "continues failed": (mine(follows=5), last(S.FAILED, message=OTHER), Act.CLAIM),
    "continues failed, past 6 days": (
        mine(follows=5, age=OLD), last(S.FAILED, message=OTHER), Act.CLAIM,
    ),
    "scheduled after what was read": (fired(9), last(S.RUNNING, message=OTHER), Act.CLAIM),
    "names what was cancelled": (fired(5), last(S.CANCELLED, message=OTHER), Act.ACK),
    "names what succeeded": (fired(5), last(S.SUCCEEDED, message=OTHER), Act.ACK),
    "names what succeeded, its own": (fired(5), last(S.SUCCEEDED), Act.ACK),
    # whoever may submit says that it continues L
    **{
        f"a client's that names {state}": (
            mine(follows=5), last(state, message=OTHER),
            Act.CLAIM if state == S.FAILED else Act.ACK,
        )
        for state in State
    },
    **{
        f"a client's that names what is behind {state}": (
            mine(follows=9_999_999_999, delivered=LOOKS), last(state, message=OTHER), Act.ACK,
        )
        for state in State
    },
    **{
        f"what was read may be old: {state}": (
            mine(follows=9_999_999_999), last(state, message=OTHER),
            Act.ACK if state in (S.SUCCEEDED, S.CANCELLED) else Act.AGAIN,
        )
        for state in State
    },
    # L.message is not m
    **{
        f"{state}, of another message": (mine(follows=4), last(state, message=OTHER), Act.ACK)
        for state in State
    },
    # it waits for a batch
    "waiting, the same": (mine(), last(S.WAITING), Act.REPUBLISH_ENTRY),
    "waiting, and brought back": (fired(5), last(S.WAITING, message=OTHER), Act.WAKE),
    "waiting for what I do not know": (mine(), waiting_for("a signal"), Act.UPGRADE),
    # L.message is m
    "succeeded": (mine(), last(S.SUCCEEDED), Act.ACK),
    "cancelled": (mine(), last(S.CANCELLED), Act.ACK),
    "failed": (mine(), last(S.FAILED), Act.REPUBLISH_DEAD),
    "scheduled": (mine(), last(S.SCHEDULED), Act.REPUBLISH_SCHEDULE),
    "retrying": (mine(), last(S.RETRYING), Act.REPUBLISH_SCHEDULE),
    "queued": (mine(), last(S.QUEUED), Act.CLAIM),
    "queued, past 6 days": (mine(age=OLD), last(S.QUEUED), Act.CLAIM),
    "running": (mine(), last(S.RUNNING), Act.ASK),
    "running, a continuation again": (mine(follows=4), last(S.RUNNING), Act.ASK),
    "retrying, a continuation again": (mine(follows=4), last(S.RETRYING), Act.REPUBLISH_SCHEDULE),
}  # fmt: skip


@pytest.mark.parametrize(("delivery", "end", "act"), TABLE.values(), ids=TABLE.keys())
def test_the_table(delivery: Delivery, end: Last, act: Act) -> None:
    assert decide(delivery, end) == act


ASKED, ELSE = {"kind": "echo", "prompt": "a"}, {"kind": "echo", "prompt": "b"}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def asking(asked: Asked | None, follows: int = 0, stored: datetime = NOON) -> Delivery:
    return msgspec.structs.replace(mine(follows), asked=asked, stored=stored)


def asked_before(state: State, asked: Asked | None = ASKED, message: str = OTHER) -> Last:
    began = Timings(submitted=datetime(2026, 1, 1, 11, tzinfo=UTC))
    end = last(state, message=message)
    assert end.record is not None
    return Last(5, msgspec.structs.replace(end.record, asked=asked, timings=began))


@pytest.mark.parametrize("state", State)
def test_another_request_with_the_id_is_disowned_whatever_the_log_says(state: State) -> None:
    assert decide(asking(ELSE), asked_before(state)) == Act.DISOWN
    assert decide(asking({}), asked_before(state)) == Act.DISOWN, "it cannot be read"


@pytest.mark.parametrize("state", State)
def test_what_may_be_of_the_log_is_not_compared(state: State) -> None:
    began = asked_before(state).record
    assert began is not None
    for delivery, end in {
        "the same": (asking(ASKED), asked_before(state)),
        "a log without": (asking(ELSE), asked_before(state, None)),
        "a message unread": (asking(None), asked_before(state)),
        "a continuation that was overtaken": (asking(ELSE, follows=4), asked_before(state)),
        "what began it": (
            asking(ELSE, stored=began.timings.submitted or NOON),
            asked_before(state),
        ),
    }.values():
        assert decide(delivery, end) == Act.ACK
    assert decide(asking(ELSE), asked_before(state, message=MINE)) != Act.DISOWN


REJECTED = {
    "empty log": (mine(deadly=True), EMPTY, Act.REJECT),
    "the number alone is nothing": (mine(delivered=MANY), EMPTY, Act.CLAIM),
    "handed back often": (mine(delivered=MANY), last(S.QUEUED), Act.CLAIM),
    "a continuation": (fired(5, deadly=True), last(S.RETRYING), Act.REJECT),
    "handed back": (mine(deadly=True), last(S.QUEUED), Act.REJECT),
    # What it has parked, failed or ended stays so: a rejection would be a second ending.
    "parked": (mine(deadly=True), last(S.RETRYING), Act.REPUBLISH_SCHEDULE),
    "failed": (mine(deadly=True), last(S.FAILED), Act.REPUBLISH_DEAD),
    "succeeded": (mine(deadly=True), last(S.SUCCEEDED), Act.ACK),
    "of another message": (mine(deadly=True), last(S.RUNNING, message=OTHER), Act.ACK),
    # The owner may live, so it is asked first.
    "running": (mine(deadly=True), last(S.RUNNING), Act.ASK),
}


@pytest.mark.parametrize(("delivery", "end", "act"), REJECTED.values(), ids=REJECTED.keys())
def test_what_kills_whoever_parses_it(delivery: Delivery, end: Last, act: Act) -> None:
    assert decide(delivery, end) == act


@pytest.mark.parametrize("state", State)
@given(follows=st.integers(0, 9), delivered=st.integers(1, 200), age=st.floats(0, 2 * OLD))
def test_what_needs_an_ability_i_lack_is_left_alone(
    state: State, follows: int, delivered: int, age: float
) -> None:
    delivery = mine(follows, delivered, age, known=False)
    assert decide(delivery, last(state)) == Act.UPGRADE
    assert decide(delivery, EMPTY) == Act.UPGRADE
    assert not is_fresh(delivery)


@pytest.mark.parametrize(
    "end",
    [
        last("sleeping"),
        last("sleeping", v=record.VERSION + 1),
        *(last(state, v=record.VERSION + 1) for state in State),
    ],
    ids=lambda end: f"{end.state}-v{end.record.v}",
)
@given(
    message=st.sampled_from([MINE, OTHER]),
    follows=st.integers(0, 9),
    delivered=st.integers(1, 200),
    age=st.floats(0, 2 * OLD),
)
def test_a_log_of_a_later_version_is_left_alone(
    end: Last, message: str, follows: int, delivered: int, age: float
) -> None:
    """Before anything else, the 100 deliveries included: it is neither claimed nor acked."""
    assert decide(Delivery(message, follows, delivered, age), end) == Act.UPGRADE


def test_a_first_delivery_claims_unread() -> None:
    assert is_fresh(mine(delivered=1))


@pytest.mark.parametrize(
    "delivery",
    [
        mine(delivered=2),
        mine(follows=5, delivered=1),
        mine(delivered=1, age=float(limits.HORIZON)),
        mine(delivered=1, age=OLD),
        mine(delivered=1, known=False),
    ],
    ids=["redelivered", "a continuation", "6 days old", "older", "not understood"],
)
def test_everything_else_reads_first(delivery: Delivery) -> None:
    assert not is_fresh(delivery)


@given(follows=st.integers(0, 9), delivered=st.integers(1, 200), age=st.floats(0, 2 * OLD))
def test_what_claims_unread_would_claim_had_it_read_an_empty_log(
    follows: int, delivered: int, age: float
) -> None:
    delivery = mine(follows, delivered, age)
    assert not is_fresh(delivery) or decide(delivery, EMPTY) == Act.CLAIM


@pytest.mark.parametrize(
    ("failures", "max_attempts", "act"),
    [(0, 5, Act.CLAIM), (3, 5, Act.CLAIM), (4, 5, Act.LOST), (9, 5, Act.LOST), (0, 1, Act.LOST)],
)
def test_silence_counts_as_a_failure(failures: int, max_attempts: int, act: Act) -> None:
    assert after_silence(mine(), last(S.RUNNING, failures=failures), max_attempts) == act


def test_silence_rejects_what_kills_whoever_parses_it_and_nothing_else() -> None:
    assert after_silence(mine(deadly=True), last(S.RUNNING), 5) == Act.REJECT
    assert after_silence(mine(delivered=MANY), last(S.RUNNING), 5) == Act.CLAIM
    assert after_silence(mine(delivered=MANY - 1), last(S.RUNNING), 5) == Act.CLAIM
