"""Sums: percentiles, money by minute and hour, and series."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from agentflow.dashboard.store.totals import Durations, Totals, series, since, slots
from agentflow.views.row import Row

MINUTE = 60_000


def test_a_percentile_is_right_within_its_class() -> None:
    chance = random.Random(3)
    durations = Durations()
    values = [chance.lognormvariate(8, 1.2) for _ in range(5_000)]
    for at, value in enumerate(values):
        durations.change(at // 100, round(value), 1)
    values.sort()
    found = durations.percentiles(0, 10_000_000, 0.5, 0.95, 0.99)
    for share, value in zip((0.5, 0.95, 0.99), found, strict=True):
        assert value is not None
        assert value * 1000 == pytest.approx(values[int(share * len(values))], rel=0.12)


def test_percentiles_are_of_the_window_only_and_none_where_nothing_ended() -> None:
    durations = Durations()
    durations.change(5, 1_000, 1)
    durations.change(500, 100_000, 1)
    assert durations.percentiles(0, 60_000, 0.5)[0] == pytest.approx(1, rel=0.1)
    assert durations.percentiles(5_000_000, 6_000_000, 0.5)[0] == pytest.approx(100, rel=0.1)
    assert durations.percentiles(100_000, 200_000, 0.5, 0.9) == [None, None]


def test_what_is_taken_out_of_a_histogram_leaves_nothing() -> None:
    durations = Durations()
    durations.change(5, 1_234, 1)
    durations.change(5, 1_234, -1)
    assert durations == Durations()


def booked(cost: int | None, minute: int, **more: object) -> Row:
    fields: dict[str, object] = {
        "id": f"t-{minute}-{cost}",
        "sequence": 1,
        "state": "succeeded",
        "queue": "q",
        "updated": minute * MINUTE + 5,
        "cost": cost,
    }
    return Row(**{**fields, **more})  # type: ignore[arg-type]


def test_money_is_summed_from_a_minute_on_through_hours() -> None:
    totals = Totals()
    minutes = [100, 119, 120, 150, 179, 180, 240, 241]
    for minute in minutes:
        totals.add(booked(1 << minutes.index(minute), minute))
    for first in range(90, 250):
        wanted = sum(1 << at for at, minute in enumerate(minutes) if minute >= first)
        assert totals.spent(first * MINUTE).cost == wanted
        assert since(totals.costs, first, 1_000) == wanted


def test_an_hour_is_summed_anew_when_one_of_its_minutes_changes() -> None:
    totals = Totals()
    row = booked(70, 130)
    totals.add(row)
    assert totals.spent().cost == 70
    totals.add(booked(30, 131))
    assert totals.spent().cost == 100
    totals.remove(row)
    assert totals.spent().cost == 30


def test_a_task_without_a_price_is_counted_as_one() -> None:
    totals = Totals()
    totals.add(booked(None, 10))
    totals.add(booked(10, 10))
    whole = totals.spent()
    assert (whole.tasks, whole.unknown, whole.cost) == (2, 1, 10)


def test_a_series_leaves_out_the_slot_that_is_not_over() -> None:
    counts = Counter({100: 1, 101: 2, 109: 3, 110: 50})
    assert series(counts, 110, 10) == [1, 2, 0, 0, 0, 0, 0, 0, 0, 3]
    assert series(counts, 115, 2, 10) == [0, 6]
    assert slots(Counter({9: 4, 10: 5, 11: 6}), 110, 3) == [0, 4, 5]
    assert slots(None, 110, 2) == [0, 0]
