"""The past as a store: at every place it is what folding all records up to there gives."""

from __future__ import annotations

import random

import pytest

from agentflow.dashboard.store import timeline
from agentflow.dashboard.store.store import Store
from agentflow.dashboard.store.timeline import Timeline
from agentflow.protocol.record import Usage
from agentflow.views import feed
from agentflow.views.row import Row

NEXT = {
    "": ("running", "scheduled"),
    "scheduled": ("running",),
    "running": ("running", "succeeded", "failed", "retrying", "queued"),
    "retrying": ("running", "cancelled"),
    "queued": ("running",),
    "failed": ("running",),
}


def stream(number: int, *, seed: int = 1, gaps: bool = True) -> list[Row]:
    """Records of some tasks, in the stream's order; some sequences are gone."""
    chance = random.Random(seed)
    states: dict[str, str] = {}
    found: list[Row] = []
    sequence = 10
    while len(found) < number:
        task_id = f"t{chance.randrange(number // 3)}"
        following = NEXT.get(states.get(task_id, ""))
        if following is None:
            continue
        states[task_id] = state = chance.choice(following)
        sequence += 1 + (gaps and chance.random() < 0.2)
        found.append(
            Row(
                id=task_id,
                sequence=sequence,
                state=state,
                queue=chance.choice(("a", "b")),
                updated=1_000_000 + 100 * sequence,
                started=1_000_000 + 100 * sequence - 50,
                submitted=1_000_000,
                usage=Usage(sequence, 1),
                cost=sequence,
            )
        )
    return found


def folded(rows: list[Row], place: int) -> Store:
    store = Store()
    store.apply(feed.Rows(at=0, rows=[row for row in rows if row.sequence <= place]))
    return store


def go(line: Timeline, rows: list[Row], place: int) -> None:
    line.back(place)
    line.fold([row for row in rows if line.place < row.sequence <= place])


def same(line: Timeline, rows: list[Row], place: int) -> None:
    wanted = folded(rows, place)
    assert line.store.rows == wanted.rows
    assert line.store.totals.states == wanted.totals.states
    assert line.store.totals.spent() == wanted.totals.spent()
    assert line.store.totals.running == wanted.totals.running
    assert [event.row for event in line.store.events] == [event.row for event in wanted.events]


def test_at_any_place_it_is_the_fold_of_what_was_before() -> None:
    rows = stream(1_500)
    line = Timeline(0, every=50)
    chance = random.Random(2)
    last = rows[-1].sequence
    for place in [last, *(chance.randrange(last + 5) for _ in range(25)), 0, last]:
        go(line, rows, place)
        same(line, rows, place)
        assert line.place == max((row.sequence for row in rows if row.sequence <= place), default=0)


def test_a_step_back_and_a_step_on_are_each_others_opposite() -> None:
    rows = stream(500)
    line = Timeline(0, every=50)
    go(line, rows, rows[300].sequence)
    before, at = line.store.rows.copy(), line.at
    for _ in range(3):
        go(line, rows, rows[299].sequence)
        assert line.store.rows != before
        assert line.at < at
        go(line, rows, rows[300].sequence)
        assert line.store.rows == before
        assert line.at == at


def test_a_step_back_folds_few_and_checkpoints_are_few() -> None:
    rows = stream(6_000, gaps=False)
    line = Timeline(0, every=50)
    go(line, rows, rows[-1].sequence)
    assert len(line.checkpoints) == timeline.MOST
    for row in reversed(rows[-40:]):
        line.back(row.sequence)
        assert row.sequence - line.place <= 2 * line.every
        go(line, rows, row.sequence)
    # Far away they are further apart, and still there is a way that is shorter than all of it.
    line.back(rows[3_000].sequence)
    assert 0 < rows[3_000].sequence - line.place < 2_000


def test_checkpoints_are_bounded_by_the_rows_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "ROWS", 1_000)
    rows = stream(2_000)
    line = Timeline(0, every=20)
    go(line, rows, rows[-1].sequence)
    assert sum(len(each.store.rows) for each in line.checkpoints) <= 1_000
    same(line, rows, rows[-1].sequence)


def test_a_picture_that_is_looked_at_does_not_change_by_going_back() -> None:
    rows = stream(400)
    line = Timeline(0, every=50)
    go(line, rows, rows[-1].sequence)
    shown, before = line.store, line.store.rows.copy()
    go(line, rows, rows[100].sequence)
    assert shown.rows == before
    assert shown is not line.store
