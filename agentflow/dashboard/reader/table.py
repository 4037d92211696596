"""The table: which rows, in which order, where the cursor is, and the lines that are seen.

Only what is seen is formatted, so a hundred thousand rows cost no more than thirty. The order is
made anew at most once a second, seldomer where that means to look at very many rows, and not while
the cursor moves: nothing jumps away from under it. Rows that changed are taken out, sorted by
themselves and merged in, so that a second with five thousand changes costs no sort of all.

The cursor is a key, not a place: it stays on its row wherever that goes, and its row stays on its
line of the screen. Until somebody moves it, it is on the first row whatever that is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from agentflow.dashboard.reader.column import GAP, Column, cells, fit, row_line, spaced
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.cells import Grid, GridRow, Heading
from agentflow.dashboard.render.lines import Hit, Line, Run, cell, clip, line

T = TypeVar("T")

REFRESH: Final = 1.0
"""Seconds between two orders at least."""
A_SECOND: Final = 50_000
"""Rows that may be looked at, all of them, in a second; more make the next order come later."""


class Habit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a person wants to see a table."""

    sort: str
    reverse: bool = False
    hidden: list[str] = []


class Table(Generic[T]):
    """A table of items by key. The owner gives the items; the person moves, sorts and marks."""

    def __init__(
        self,
        columns: Sequence[Column[T]],
        *,
        sort: str,
        reverse: bool = False,
        empty: str = "nothing here",
    ) -> None:
        self.columns = list(columns)
        self.hidden: set[str] = set()
        """Keys of columns that the person does not want to see."""
        self.sort = sort
        self.reverse = reverse
        self.empty = empty
        self.order: list[str] = []
        self.cursor = ""
        self.marks: set[str] = set()
        self.top = 0
        self.height = 1
        """Rows that were seen at the last drawing."""
        self._keys: dict[str, Any] = {}
        self._place = 0
        self._placed = False
        """Whether the person has put the cursor somewhere."""
        self._due = 0.0
        self._stale = True
        self._opened = False
        self._items: Mapping[str, T] = {}

    # Which rows.

    def invalidate(self) -> None:
        """Make the order anew at the next refresh: another filter, another sort, other columns."""
        self._stale = True
        self._due = 0.0

    def due(self, now: float) -> bool:
        """Whether a refresh would do anything."""
        return self._stale or self._opened or now >= self._due

    def opened(self) -> None:
        """It is seen again: what changed meanwhile is in its place before anybody moves."""
        self._opened = True

    def refresh(
        self,
        items: Mapping[str, T],
        now: float,
        *,
        changed: set[str] | None = None,
        among: Collection[str] | None = None,
        wanted: Callable[[T], bool] | None = None,
    ) -> bool:
        """Bring rows and order up to date where that is due; returns whether it did.

        `changed` names the items that may differ from the last time, and is emptied; None: all may.
        `among`: only items with these keys.
        """
        self._items = items
        if not self.due(now):
            return False
        column = self._sorting()
        assert column.sort is not None
        if self._stale or changed is None:
            looked = self._all(items, column.sort, among, wanted)
        else:
            looked = self._some(items, column.sort, changed, wanted)
        if changed is not None:
            changed.clear()
        if self.marks:
            self.marks &= self._keys.keys()
        self._stale = self._opened = False
        self._due = now + max(REFRESH, looked / A_SECOND)
        self._find()
        return True

    def _all(
        self,
        items: Mapping[str, T],
        sort: Callable[[T], Any],
        among: Collection[str] | None,
        wanted: Callable[[T], bool] | None,
    ) -> int:
        """Look at every item; returns how many that were."""
        if among is not None:
            items = {key: items[key] for key in among if key in items}
        if wanted is None:
            self._keys = {key: sort(item) for key, item in items.items()}
        else:
            self._keys = {key: sort(item) for key, item in items.items() if wanted(item)}
        # Equal ones by key, so that the order is the same whatever came first.
        self.order = sorted(self._keys)
        self.order.sort(key=self._keys.__getitem__, reverse=self.reverse)
        return len(items)

    def _some(
        self,
        items: Mapping[str, T],
        sort: Callable[[T], Any],
        changed: set[str],
        wanted: Callable[[T], bool] | None,
    ) -> int:
        """Look at what changed."""
        keys = self._keys
        moved: list[str] = []
        gone: set[str] = set()
        for key in changed:
            item = items.get(key)
            if item is None or (wanted is not None and not wanted(item)):
                if keys.pop(key, None) is not None:
                    gone.add(key)
                continue
            value = sort(item)
            before = keys.get(key)
            if before is None or before != value:
                keys[key] = value
                moved.append(key)
                if before is not None:
                    gone.add(key)
        if gone:
            self.order = [key for key in self.order if key not in gone]
        if moved:
            moved.sort()
            moved.sort(key=keys.__getitem__, reverse=self.reverse)
            # Two runs, each in order: the sort sees that and only merges them.
            self.order += moved
            self.order.sort(key=keys.__getitem__, reverse=self.reverse)
        return len(changed)

    def _sorting(self) -> Column[T]:
        for each in self.columns:
            if each.key == self.sort and each.sort is not None:
                return each
        return next(each for each in self.columns if each.sort is not None)

    def _find(self) -> None:
        """Put the cursor's place where its row is now; a row that is gone leaves its place."""
        order = self.order
        if not order:
            self._place = self.top = 0
            return
        before = self._place
        if not self._placed:
            self._place = 0
        elif not (before < len(order) and order[before] == self.cursor):
            if self.cursor in self._keys:
                self._place = order.index(self.cursor)
                self.top = max(0, self.top + self._place - before)
            else:
                self._place = min(before, len(order) - 1)
        self.cursor = order[self._place]

    @property
    def place(self) -> int:
        """How many rows are above the cursor's."""
        return self._place

    # Moving.

    def move(self, rows: int, now: float) -> None:
        """Move the cursor; the order stays for a moment."""
        if self.order:
            self._place = min(len(self.order) - 1, max(0, self._place + rows))
            self.cursor = self.order[self._place]
            self._placed = True
        self._due = max(self._due, now + REFRESH)

    def to(self, key: str, now: float) -> None:
        """Move the cursor to a row."""
        if key in self._keys:
            self._place = self.order.index(key)
            self.cursor = key
            self._placed = True
            self._due = max(self._due, now + REFRESH)

    def sort_by(self, key: str) -> None:
        """Sort by another column, or the other way round by the same."""
        for each in self.columns:
            if each.key == key and each.sort is not None:
                self.reverse = not self.reverse if key == self.sort else each.falling
                self.sort = key
                self.invalidate()

    def next_sort(self, step: int = 1) -> str:
        """Sort by the next column that is shown and can be sorted by; returns its title."""
        sortable = [
            each
            for each in self.columns
            if each.sort is not None and (each.key not in self.hidden or each.key == self.sort)
        ]
        at = next((n for n, each in enumerate(sortable) if each.key == self.sort), 0)
        chosen = sortable[(at + step) % len(sortable)]
        self.sort, self.reverse = chosen.key, chosen.falling
        self.invalidate()
        return chosen.title

    def toggle(self, key: str) -> None:
        """Hide a column or show it again; the last one stays."""
        shown = [each.key for each in self.columns if each.key not in self.hidden]
        if key in self.hidden:
            self.hidden.discard(key)
        elif key in shown and len(shown) > 1:
            self.hidden.add(key)

    def habit(self) -> Habit:
        """How it is sorted and which columns it hides, to be kept."""
        return Habit(sort=self.sort, reverse=self.reverse, hidden=sorted(self.hidden))

    def adopt(self, habit: Habit) -> None:
        """Sort and hide as was kept; what it does not know (any more) it passes over."""
        known = {each.key for each in self.columns}
        if any(each.key == habit.sort and each.sort is not None for each in self.columns):
            self.sort, self.reverse = habit.sort, habit.reverse
        self.hidden = known & set(habit.hidden)
        if self.hidden == known:
            self.hidden = set()
        self.invalidate()

    # Marking.

    def mark(self) -> None:
        """Mark the row under the cursor, or unmark it."""
        if self.cursor in self._keys:
            self.marks ^= {self.cursor}

    def mark_all(self) -> None:
        """Mark all rows that the filter shows."""
        self.marks = set(self.order)

    def chosen(self) -> list[str]:
        """The marked rows in their order; without marks the one under the cursor."""
        if self.marks:
            return [key for key in self.order if key in self.marks]
        return [self.cursor] if self.cursor in self._keys else []

    def item(self) -> T | None:
        """What is under the cursor."""
        return self._items.get(self.cursor) if self.cursor in self._keys else None

    # Drawing.

    def grid(self, scene: Scene, first: int, number: int) -> Grid:
        """The rows from a place on as data, with all columns that are not hidden."""
        columns = [column for column in self.columns if column.key not in self.hidden]
        return Grid(
            headings=[
                Heading(
                    key=column.key,
                    title=column.title,
                    right=column.right,
                    sorts=column.sort is not None,
                    falling=column.falling,
                    width=column.width,
                    drop=column.drop,
                    grows=column.grows,
                    most=column.most,
                )
                for column in columns
            ],
            rows=list(self._grid_rows(columns, scene, first, number)),
            first=first,
            total=len(self.order),
            sort=self.sort,
            reverse=self.reverse,
        )

    def _grid_rows(
        self, columns: Sequence[Column[T]], scene: Scene, first: int, number: int
    ) -> Iterator[GridRow]:
        for key in self.order[first : first + number]:
            item = self._items.get(key)
            if item is None:
                continue  # gone since the order was made
            yield GridRow(
                key=key,
                cells=cells(columns, item, scene),
                cursor=key == self.cursor,
                marked=key in self.marks,
            )

    def lines(self, width: int, height: int, scene: Scene) -> list[Line]:
        """Heading and rows, exactly `height` lines of `width` columns."""
        shown = fit([each for each in self.columns if each.key not in self.hidden], width - 2)
        lines = [self._heading(shown, width)]
        self.height = max(1, height - 1)
        self._scroll()
        columns = [column for column, _ in shown]
        for row in self._grid_rows(columns, scene, self.top, self.height):
            lines.append(row_line(shown, row, width))
        if not self.order and height > 1:
            lines.append(clip(line(("  " + self.empty, "dim")), width))
        blank = clip(line(), width)
        return (lines + [blank] * height)[:height]

    def _scroll(self) -> None:
        last = max(0, len(self.order) - self.height)
        self.top = min(max(0, self.top), last)
        if self._place < self.top:
            self.top = self._place
        elif self._place >= self.top + self.height:
            self.top = self._place - self.height + 1

    def _heading(self, shown: Sequence[tuple[Column[T], int]], width: int) -> Line:
        titles: list[Run] = []
        hits = []
        at = 2
        for column, room in shown:
            arrow = ("▼" if self.reverse else "▲") if column.key == self.sort else ""
            title = cell(column.title[: max(0, room - len(arrow))] + arrow, room, column.right)
            titles.append((title, "heading.sorted" if arrow else "heading"))
            if column.sort is not None:
                hits.append(Hit(at, at + room, "sort_by", column.key))
            at += room + GAP
        return Line(spaced(("  ", "heading"), titles, width), "", tuple(hits))
