"""The table: the cursor is a key, the order is calm, and every line has its width."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.dashboard.reader.column import Column, fit, listed
from agentflow.dashboard.reader.scene import Answers, Scene
from agentflow.dashboard.reader.table import Table
from agentflow.dashboard.render.lines import size_of
from agentflow.dashboard.store.store import Store


@dataclass
class Thing:
    name: str
    number: int


COLUMNS = [
    Column("name", "NAME", 8, lambda t, s: t.name, lambda t: t.name, grows=True, most=20),
    Column(
        "number",
        "NUMBER",
        6,
        lambda t, s: str(t.number),
        lambda t: t.number,
        right=True,
        falling=True,
    ),
    Column("spare", "SPARE", 10, lambda t, s: "spare", drop=2),
    Column("more", "MORE", 12, lambda t, s: "more", drop=1, grows=True),
]
SCENE = Scene(store=Store(), now=0.0, answers=Answers(), receipts=[], zone=UTC)


def things(count: int) -> dict[str, Thing]:
    return {f"k{at:03}": Thing(f"thing {at}", at) for at in range(count)}


def table(count: int = 50, *, now: float = 100.0) -> tuple[Table[Thing], dict[str, Thing]]:
    made: Table[Thing] = Table(COLUMNS, sort="number")
    items = things(count)
    made.refresh(items, now)
    return made, items


@pytest.mark.parametrize("width", range(1, 201))
def test_columns_fill_every_width_and_never_more(width: int) -> None:
    shown = fit(COLUMNS, width)
    used = sum(room for _, room in shown) + len(shown) - 1
    assert used <= max(width, 2 * len(shown) - 1)
    assert {column.key for column, _ in shown} >= {"name", "number"}
    if width >= 40:
        assert used == width or all(not column.grows for column, _ in shown)
    if width < 26:
        assert "spare" not in {column.key for column, _ in shown}


@given(st.integers(60, 200), st.integers(2, 60), st.integers(0, 60))
@settings(max_examples=80, deadline=None)
def test_a_table_has_its_lines_and_its_columns(width: int, height: int, count: int) -> None:
    made, _ = table(count)
    found = made.lines(width, height, SCENE)
    assert len(found) == height
    assert {size_of(line) for line in found} == {width}
    assert {size_of(line) for line in listed(COLUMNS, [Thing("a", 1)], width, SCENE)} == {width}


def test_the_cursor_stays_on_its_key_and_its_row_on_its_line() -> None:
    made, items = table()
    made.lines(80, 11, SCENE)
    made.move(25, 100.0)
    made.lines(80, 11, SCENE)
    at = made.place - made.top
    for key in ("k000", "k001", "k002"):
        del items[key]
    items["new"] = Thing("new", 7)
    assert made.refresh(items, 110.0)
    made.lines(80, 11, SCENE)
    assert made.cursor == "k025"
    assert made.place == 23
    assert made.place - made.top == at


def test_until_it_is_moved_the_cursor_is_on_the_first_row() -> None:
    made, items = table()
    assert made.cursor == "k000"
    items["a"] = Thing("a", -1)
    made.refresh(items, 110.0)
    assert made.cursor == "a"


def test_a_row_that_goes_leaves_its_place_to_the_next() -> None:
    made, items = table()
    made.move(10, 100.0)
    del items["k010"]
    made.refresh(items, 110.0)
    assert made.cursor == "k011"
    for key in list(items):
        del items[key]
    made.refresh(items, 120.0)
    assert made.item() is None
    assert made.chosen() == []


def test_the_order_stands_still_while_the_cursor_moves() -> None:
    made, items = table()
    made.move(1, 100.5)
    items["k005"] = Thing("thing 5", -5)
    assert not made.refresh(items, 101.0)
    made.move(1, 101.3)
    assert not made.refresh(items, 102.0)
    assert made.refresh(items, 102.4)
    assert made.order[0] == "k005"


def test_a_table_that_is_seen_again_is_in_order_before_the_cursor_moves() -> None:
    made, items = table()
    items["new"] = Thing("new", -1)
    made.opened()
    made.move(1, 100.2)
    assert made.refresh(items, 100.2)
    assert made.order[0] == "new"
    assert not made.refresh(items, 100.3)


def test_the_order_is_made_seldomer_where_very_many_rows_are_looked_at() -> None:
    made, items = table(60_000)
    assert not made.due(101.1)
    assert made.due(101.3)
    changed: set[str] = set()
    made.refresh(items, 101.3, changed=changed)
    assert made.due(102.4)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(-5, 5), st.booleans()), max_size=40),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_what_changed_is_merged_into_the_order_as_a_sort_of_all_would_have_it(
    changes: list[tuple[int, int, bool]], reverse: bool
) -> None:
    made: Table[Thing] = Table(COLUMNS, sort="number", reverse=reverse)
    items: dict[str, Thing] = {}
    changed: set[str] = set()
    now = 100.0
    made.refresh(items, now, changed=changed)
    for at, number, there in changes:
        key = f"k{at}"
        if there:
            items[key] = Thing(key, number)
        else:
            items.pop(key, None)
        changed.add(key)
        if at % 3 == 0:
            now += 2
            made.refresh(items, now, changed=changed, wanted=lambda thing: thing.number != 3)
    made.refresh(items, now + 2, changed=changed, wanted=lambda thing: thing.number != 3)
    wanted = {key: thing for key, thing in items.items() if thing.number != 3}
    assert set(made.order) == set(wanted)
    numbers = [wanted[key].number for key in made.order]
    assert numbers == sorted(numbers, reverse=reverse)
    assert not changed


def test_only_what_is_seen_is_formatted_and_only_what_changed_is_looked_at() -> None:
    formatted: list[str] = []
    keyed: list[int] = []

    def shown(thing: Thing, scene: Scene) -> str:
        formatted.append(thing.name)
        return thing.name

    def key(thing: Thing) -> int:
        keyed.append(thing.number)
        return thing.number

    made: Table[Thing] = Table([Column("name", "NAME", 8, shown, key)], sort="name")
    items = things(100_000)
    changed: set[str] = set()
    made.refresh(items, 100.0, changed=changed)
    assert len(keyed) == 100_000
    keyed.clear()
    made.lines(80, 31, SCENE)
    assert len(formatted) == 30
    changed |= {f"k{at:03}" for at in range(5_000)}
    assert not made.refresh(items, 100.1, changed=changed)
    assert made.refresh(items, 200.0, changed=changed)
    assert len(keyed) == 5_000


def test_marks_are_chosen_in_the_order_and_go_with_their_rows() -> None:
    made, items = table()
    made.to("k007", 100.0)
    made.mark()
    made.to("k003", 100.0)
    made.mark()
    assert made.chosen() == ["k003", "k007"]
    made.mark()
    assert made.chosen() == ["k007"]
    del items["k007"]
    made.refresh(items, 110.0)
    assert made.marks == set()
    made.mark_all()
    assert len(made.chosen()) == 49


def test_sorting_goes_by_a_column_and_the_other_way_round() -> None:
    made, items = table()
    made.sort_by("number")
    made.refresh(items, 100.0)
    assert made.order[0] == "k049"
    made.sort_by("name")
    made.refresh(items, 100.0)
    assert made.order[0] == "k000"
    assert made.next_sort() == "NUMBER"
    assert made.reverse  # the highest first
    made.sort_by("spare")
    assert made.sort == "number"


def test_a_column_can_be_hidden_but_the_last_one_cannot() -> None:
    made, _ = table()
    for column in COLUMNS:
        made.toggle(column.key)
    assert len(made.hidden) == len(COLUMNS) - 1
    assert "MORE" in made.lines(80, 3, SCENE)[0].text
    made.toggle("name")
    assert "NAME" in made.lines(80, 3, SCENE)[0].text
