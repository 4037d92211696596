"""What budgets hold for batches: the rules alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agentflow.rules.routes import budgets, reserved
from agentflow.rules.routes.budgets import Answer, Budget, Holder, Turn

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAME = reserved.holder("pool", "default", "af0123456789ab")


def held(micro: int, **more: int) -> Budget:
    budget = reserved.reserve(Budget(limit=100, **more), NAME, micro, NOW)
    assert budget is not None
    return budget


def test_what_is_reserved_is_kept_from_others() -> None:
    budget = held(70)
    turn = Turn(actor="w", wants=(40,))
    later = NOW + timedelta(seconds=15)
    _, answers = budgets.take(budget, turn, now=NOW, until=later)
    assert answers == [Answer.WAIT]
    assert reserved.reserve(budget, reserved.holder("pool", "q", "af1"), 31, NOW) is None


def test_of_two_builders_of_a_create_the_one_that_sends_it_has_enough() -> None:
    budget = held(70)
    for micro in (50, 90):
        again = reserved.reserve(budget, NAME, micro, NOW)
        assert again is not None
        assert again.held_micro == max(70, micro)
    assert reserved.reserve(budget, NAME, 101, NOW) is None
    assert reserved.room(budget, NAME) == 100


def test_it_is_settled_once() -> None:
    once = reserved.settle(held(70), NAME, 20, 5)
    assert (once.spent, once.unknown, once.held) == (25, 5, {})
    assert reserved.settle(once, NAME, 20, 5) is once


def test_what_nobody_can_read_counts_in_full() -> None:
    gone = reserved.forfeit(held(70), NAME)
    assert (gone.spent, gone.unknown) == (70, 70)
    assert reserved.forfeit(gone, NAME) is gone


@pytest.mark.parametrize("days", [1, 30])
def test_no_lease_ends_it_while_results_can_be_read(days: int) -> None:
    budget = held(70)
    assert budgets.lapse(budget, NOW + timedelta(days=days)) is budget
    lapsed = budgets.lapse(budget, NOW + timedelta(days=32))
    assert (lapsed.spent, lapsed.unknown) == (70, 70)


def test_a_new_month_keeps_what_is_held() -> None:
    budget = held(70, spent=30)
    monthly = budgets.current(
        Budget(limit=100, spent=30, held=budget.held, per="month", period="2026-02"), NOW
    )
    assert (monthly.spent, monthly.held_micro) == (0, 70)


def test_creates_are_told_by_their_place() -> None:
    other = reserved.holder("pool", "default2", "af2")
    budget = Budget(limit=9, held={NAME: Holder(1, NOW), other: Holder(1, NOW)})
    assert reserved.nonces(budget, "pool", "default") == ["af0123456789ab"]
