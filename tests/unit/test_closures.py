"""Routes close, are tried by one request, and open again: the rules of rules/routes/closures.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentflow.rules.routes import closures
from agentflow.rules.routes.closures import (
    PROBE_FOR,
    STEPS,
    Blame,
    Closed,
    Refusal,
    answered,
    claim_probe,
    half_open,
    refused,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def refusal(reason: str, task: str = "a", **more: object) -> Refusal:
    return Refusal(reason=reason, task_id=task, actor=f"w-{task}", **more)  # type: ignore[arg-type]


def judge(present: Closed | None, met: Refusal, now: datetime = NOW, *, lately: int | None = None):  # type: ignore[no-untyped-def]
    return refused(present, met, now, met=lately, random=lambda: 0.0)


def probe(present: Closed | None, met: Refusal, now: datetime, *, lately: int | None = None):  # type: ignore[no-untyped-def]
    """The refusal of the request that `met.actor` sent as the probe."""
    claimed = claim_probe(present, met.actor, now)
    assert claimed is not None and claimed.probe == met.actor
    return judge(claimed, closures.msgspec.structs.replace(met, probe=True), now, lately=lately)


@pytest.mark.parametrize("reason", ["rate", "overload", "unreachable"])
def test_what_never_reached_a_model_closes_the_route_and_no_task_is_blamed(reason: str) -> None:
    verdict = judge(None, refusal(reason))
    assert verdict.blame is Blame.ROUTE
    assert verdict.closed is not None and verdict.closed.until == after(STEPS[reason].first)
    assert verdict.resume_at >= after(STEPS[reason].first)


def test_each_failed_probe_closes_for_longer_up_to_a_minute() -> None:
    present, now, lasted = judge(None, refusal("unreachable")).closed, NOW, []
    for _ in range(9):
        assert present is not None and present.until is not None
        now = present.until
        present = probe(present, refusal("unreachable", "p"), now).closed
        assert present is not None and present.until is not None
        lasted.append((present.until - now).total_seconds())
    assert lasted == [2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_the_many_that_fail_at_once_are_one_closing() -> None:
    first = judge(None, refusal("unreachable", "a")).closed
    second = judge(first, refusal("unreachable", "b"), after(0.5)).closed
    assert second is not None and second.step == 1
    late = judge(first, refusal("unreachable", "c"), after(5)).closed
    assert late is not None and late.step == 1, "it was sent before, and is no probe"


def test_a_rate_limit_lasts_as_long_as_the_api_says() -> None:
    closed = judge(None, refusal("rate", retry_after=40.0)).closed
    assert closed is not None and closed.until == after(40)
    shorter = judge(closed, refusal("rate", "b", retry_after=10.0)).closed
    assert shorter == closed, "it moves only later"


def test_one_probe_goes_and_its_answer_opens() -> None:
    closed = judge(None, refusal("rate")).closed
    assert closed is not None
    assert claim_probe(closed, "w1", after(1)) == closed, "not yet"
    assert half_open(closed, after(3))
    claimed = claim_probe(closed, "w1", after(3))
    assert claimed is not None and claimed.until == after(3 + PROBE_FOR)
    assert claim_probe(claimed, "w2", after(4)) == claimed, "the others wait"
    assert answered(claimed, "w2") == claimed
    assert answered(claimed, "w1") is None
    lost = claim_probe(claimed, "w2", after(4 + PROBE_FOR))
    assert lost is not None and lost.probe == "w2", "a probe that dies is followed by another"


@pytest.mark.parametrize("reason", ["auth", "spend"])
def test_a_credential_is_believed_bad_when_a_second_task_meets_it(reason: str) -> None:
    suspected = judge(None, refusal(reason, "a"))
    assert suspected.blame is Blame.ROUTE and suspected.closed is not None
    assert suspected.closed.met == ["a"] and half_open(suspected.closed, NOW), "tried at once"
    believed = probe(suspected.closed, refusal(reason, "b"), after(0.1))
    assert believed.blame is Blame.ROUTE and believed.closed is not None
    assert believed.closed.until == after(300.1) and not believed.closed.suspect
    again = probe(believed.closed, refusal(reason, "a", again=True), after(301))
    assert again.blame is Blame.ROUTE, "everybody meets it: no task is to blame"
    assert again.closed is not None and again.closed.until == after(301 + 1800)


def test_a_refusal_that_nobody_else_meets_is_the_tasks_own() -> None:
    suspected = judge(None, refusal("auth", "a")).closed
    claimed = claim_probe(suspected, "w-b", after(0.1))
    present = answered(claimed, "w-b")
    assert present is None, "the probe was answered: all go on"
    verdict = judge(None, refusal("auth", "a", again=True), after(2), lately=1)
    assert (verdict.closed, verdict.blame) == (None, Blame.TASK)


def test_a_task_alone_is_not_its_own_witness() -> None:
    suspected = judge(None, refusal("auth", "a")).closed
    verdict = probe(suspected, refusal("auth", "a", again=True), after(2))
    assert verdict.blame is Blame.TASK
    assert verdict.closed is not None and half_open(verdict.closed, after(2)), "the next finds out"
    assert probe(verdict.closed, refusal("auth", "b"), after(3)).closed.step == 1  # type: ignore[union-attr]


def test_what_was_under_way_confirms_nothing() -> None:
    suspected = judge(None, refusal("auth", "a")).closed
    verdict = judge(suspected, refusal("auth", "b"), after(0.1))
    assert (verdict.closed, verdict.blame) == (suspected, Blame.ROUTE)


@pytest.mark.parametrize("reason", ["auth", "spend", "server"])
def test_where_the_route_answers_nobody_waits_for_one_refusal(reason: str) -> None:
    for number, task in enumerate("abc", 1):
        verdict = judge(None, refusal(reason, task), after(number), lately=number)
        assert (verdict.closed, verdict.blame) == (None, Blame.ROUTE)
        again = judge(None, refusal(reason, task, again=True), after(number), lately=number)
        assert (again.closed, again.blame) == (None, Blame.TASK)
    believed = judge(None, refusal(reason, "d"), after(4), lately=4)
    assert believed.blame is Blame.ROUTE
    assert believed.closed is not None and believed.closed.step == 1


def test_any_answer_ends_a_suspicion_and_no_other_closure() -> None:
    suspected = judge(None, refusal("auth", "a")).closed
    assert answered(suspected, "w-b", probe=False) is None
    closed = judge(None, refusal("rate", "a")).closed
    assert answered(closed, "w-b", probe=False) == closed


def test_what_a_person_closed_only_a_person_opens() -> None:
    closed = Closed(since=NOW, reason="operator")
    assert closed.holds(after(10**6)) and not half_open(closed, after(10**6))
    assert claim_probe(closed, "w", after(99)) == closed
    assert answered(closed, "") == closed
    verdict = judge(closed, refusal("unreachable"))
    assert (verdict.closed, verdict.blame) == (closed, Blame.ROUTE)


@example(steps=[("auth", "a", "meet", 0.0, 4), ("server", "a", "meet", 0.0, 4)])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(STEPS)),
            st.sampled_from("abc"),
            st.sampled_from(["meet", "probe", "answer"]),
            st.floats(0, 100),
            st.none() | st.integers(1, 6),
        ),
        max_size=30,
    )
)
def test_a_closure_always_ends_and_moves_only_later_but_for_its_probe(
    steps: list[tuple[str, str, str, float, int | None]],
) -> None:
    present: Closed | None = None
    now = NOW
    for reason, task, what, seconds, lately in steps:
        now += timedelta(seconds=seconds)
        met = refusal(reason, task)
        before = present
        if what == "meet":
            present = judge(present, met, now, lately=lately).closed
            if before is not None and before.holds(now):
                assert present is not None and present.until is not None
                assert before.until is not None and present.until >= before.until
        else:
            claimed = claim_probe(present, met.actor, now)
            if claimed is None or claimed.probe != met.actor or claimed == present:
                continue
            if what == "answer":
                present = answered(claimed, met.actor)
                assert present is None
            else:
                present = probe(present, met, now, lately=lately).closed
        if present is not None:
            assert present.until is not None, "only a person closes without an end"
            assert present.until <= now + timedelta(seconds=1800 + 1)


class OldClosed(closures.msgspec.Struct, kw_only=True, rename={"since": "from"}):
    """A closure as version 0.1 without probes read it: it holds until `until`, or for good."""

    v: int = 1
    since: datetime
    until: datetime | None = None
    reason: str
    error_code: str | None = None
    request_id: str | None = None
    actor: str = ""
    message: str | None = None

    def holds(self, now: datetime) -> bool:
        return self.until is None or self.until > now


def test_a_worker_of_the_version_before_waits_while_a_probe_is_under_way() -> None:
    def old(closed: Closed | None) -> OldClosed:
        value = closures.encode(closed)
        assert value is not None
        return closures.msgspec.json.decode(value, type=OldClosed)

    closed = judge(None, refusal("rate")).closed
    assert old(closed).holds(after(1)) and not old(closed).holds(after(3))
    claimed = claim_probe(closed, "w-new", after(3))
    assert old(claimed).holds(after(4)), "one asks, and the old ones wait too"
    by_old = closures.read(closures.msgspec.json.encode(OldClosed(since=NOW, reason="auth")))
    assert by_old is not None and by_old.holds(after(10**6)), "closed by it: a person opens it"
    assert claim_probe(by_old, "w-new", after(10**6)) == by_old
