"""A budget holds before it spends: never more than its limit, in whatever order things happen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task
from agentflow.rules.routes import budgets
from agentflow.rules.routes.budgets import Answer, Budget, Holder, Settled, Turn
from agentflow.rules.routes.route import Route

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
LEASE = timedelta(seconds=15)
ACTORS = ("a", "b", "c")


def take(budget: Budget, actor: str, *wants: int, **more: Any) -> tuple[Budget, list[Answer]]:
    now = more.pop("now", NOW)
    turn = Turn(actor=actor, wants=wants, **more)
    return budgets.take(budget, turn, now=now, until=now + LEASE)


class Fleet(RuleBasedStateMachine):
    """Workers that hold, pay, settle, die and wake again, over one budget; requests cost at most
    what was held for them."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(limit=1_000)
        self.limit = 1_000
        self.now = NOW
        self.paid = 0
        self.holds: dict[str, list[int]] = {actor: [] for actor in ACTORS}

    def turn(self, actor: str, **turn: Any) -> list[Answer]:
        alive = actor in self.budget.held
        self.budget, answers = budgets.take(
            self.budget, Turn(actor=actor, **turn), now=self.now, until=self.now + LEASE
        )
        if not alive:
            self.holds[actor] = []  # what it had held has lapsed, and counts
        return answers

    @rule(actor=st.sampled_from(ACTORS), wants=st.lists(st.integers(0, 700), max_size=4))
    def hold(self, actor: str, wants: list[int]) -> None:
        for want, answer in zip(wants, self.turn(actor, wants=tuple(wants)), strict=True):
            if answer is Answer.HELD:
                self.holds[actor].append(want)

    @precondition(lambda self: any(self.holds.values()))
    @rule(data=st.data(), share=st.none() | st.floats(0, 1))
    def settle(self, data: Any, share: float | None) -> None:
        actor = data.draw(st.sampled_from([one for one in ACTORS if self.holds[one]]))
        held = self.holds[actor].pop()
        cost = None if share is None else int(held * share)
        # Somebody paid it, whether or not the budget still knows the worker.
        self.paid += held if cost is None else cost
        self.turn(actor, settled=(Settled(held, cost),))

    @rule(actor=st.sampled_from(ACTORS))
    def die(self, actor: str) -> None:
        self.paid += sum(self.holds[actor])  # all of it was on its way, at worst
        self.holds[actor] = []

    @rule(seconds=st.integers(1, 40), actor=st.sampled_from(ACTORS))
    def wait(self, seconds: int, actor: str) -> None:
        self.now += timedelta(seconds=seconds)
        self.turn(actor, renews=bool(self.holds[actor]))

    @rule(more=st.integers(0, 500))
    def raise_limit(self, more: int) -> None:
        self.limit += more
        self.budget = budgets.limited(self.budget, self.limit, spent=0, on_limit="wait", actor="me")

    @invariant()
    def spent_and_held_are_within_the_limit(self) -> None:
        assert self.budget.spent + self.budget.held_micro <= self.limit
        assert all(holder.micro >= 0 for holder in self.budget.held.values())

    @invariant()
    def what_was_paid_and_what_is_on_its_way_is_within_the_limit(self) -> None:
        on_its_way = sum(map(sum, self.holds.values()))
        lapsed = [sum(self.holds[actor]) for actor in ACTORS if actor not in self.budget.held]
        assert self.paid + on_its_way - sum(lapsed) <= self.budget.spent + self.budget.held_micro


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_what_fits_is_held_and_what_does_not_waits_for_what_comes_back() -> None:
    budget, answers = take(Budget(limit=100), "a", 60, 60, 30)

    assert answers == [Answer.HELD, Answer.WAIT, Answer.WAIT], "nobody is overtaken"
    assert (budget.room, budget.held["a"].micro) == (40, 60)
    budget, answers = take(budget, "a", 60, settled=(Settled(60, 10),))
    assert answers == [Answer.HELD]
    assert (budget.spent, budget.room) == (10, 30)


def test_what_can_never_fit_is_told_and_kept_as_the_least_need() -> None:
    budget, answers = take(Budget(limit=100, spent=50), "a", 80, 51, 20)

    assert answers == [Answer.OVER, Answer.OVER, Answer.HELD]
    assert budget.short == 51
    assert budgets.limited(budget, 200, spent=0, on_limit="end", actor="me").short == 0


def test_an_unknown_cost_settles_at_the_hold_and_is_marked() -> None:
    budget, _ = take(Budget(limit=100), "a", 60)
    budget, _ = take(budget, "a", settled=(Settled(60, None),))

    assert (budget.spent, budget.unknown, budget.held_micro) == (60, 60, 0)


def test_what_a_dead_worker_held_is_spent_when_its_lease_is_over() -> None:
    budget, _ = take(Budget(limit=100), "dead", 60)
    later = NOW + LEASE + timedelta(seconds=1)
    before, answers = take(budget, "b", 60, now=NOW + timedelta(seconds=1))
    assert answers == [Answer.WAIT]
    after, answers = take(budget, "b", 40, now=later)

    assert answers == [Answer.HELD]
    assert (after.spent, after.unknown, set(after.held)) == (60, 60, {"b"})
    woken, _ = take(after, "dead", settled=(Settled(60, 10),), now=later)
    assert (woken.spent, woken.room) == (60, 0), "it counts in full already"
    assert before is not None


def test_a_worker_that_asks_is_not_taken_for_dead() -> None:
    budget, _ = take(Budget(limit=100), "a", 60)
    budget, _ = take(budget, "a", settled=(Settled(60, 5),), now=NOW + 2 * LEASE)

    assert (budget.spent, budget.unknown) == (5, 0)


def test_a_turn_that_changes_nothing_writes_nothing() -> None:
    budget = Budget(limit=100, spent=90, held={"b": Holder(5, NOW + LEASE)})
    same, answers = take(budget, "a", 7)

    assert answers == [Answer.WAIT]
    assert same is budget
    assert budgets.turns_of(take(budget, "b", renews=True)[0], "b") == 1


def test_a_new_day_begins_with_nothing_spent_and_keeps_what_is_held() -> None:
    budget = Budget(limit=100, per="day", period="2026-11-29", spent=95, held={"b": Holder(5, NOW)})
    budget, answers = take(budget, "a", 60)

    assert answers == [Answer.HELD]
    assert (budget.spent, budget.period, budget.held_micro) == (0, "2026-11-30", 65)
    assert budgets.next_period("day", NOW) == datetime(2026, 12, 1, tzinfo=UTC)
    assert budgets.next_period("month", NOW) == datetime(2026, 12, 1, tzinfo=UTC)


@given(st.text(max_size=64), st.text(max_size=64))
def test_a_label_is_a_key_of_its_own(name: str, value: str) -> None:
    scope = budgets.label_scope(name, value)

    assert scope.count(".") == 2
    assert scope.isascii()
    assert not set(scope) & set(" *>\r\n")


def test_a_task_counts_against_its_queue_pool_labels_and_job() -> None:
    task = Task(
        id="t", queue="q", priority=Priority.NORMAL, labels={"team": "docs"}, budget="job.abc"
    )

    assert budgets.scopes_of(task, Route("key", "opus")) == [
        "all",
        "queue.q",
        "pool.key",
        "label.team.docs",
        "job.abc",
    ]


def test_a_budget_that_cannot_be_read_has_no_room() -> None:
    assert budgets.read(b"") is None
    unreadable = budgets.read(b"{")
    assert unreadable is not None
    assert unreadable.room == 0
    assert budgets.read(budgets.encode(Budget(limit=7, spent=3))) == Budget(limit=7, spent=3)


@pytest.mark.parametrize("dollars", [0.0, -1.0, float("nan"), float("inf"), 1e-7, 1e10])
def test_what_is_no_limit(dollars: float) -> None:
    assert budgets.micro_of(dollars) is None
