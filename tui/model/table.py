"""The table: which rows, in which order, where the cursor is, and the lines that are seen.

Only what is seen is formatted, so a hundred thousand rows cost no more than thirty. The order is
made anew at most once a second and not while the cursor moves: nothing jumps away from under it.
The cursor is a key, not a place: it stays on its row wherever that goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from agentflow.rules import display
from tui.model.lines import Hit, Line, cell, clip, line

T = TypeVar("T")

REFRESH: Final = 1.0
"""Seconds between two orders at least."""
GAP: Final = 1


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column. `text` gets an item and the time; `sort` what to order by (None: cannot).

    Columns of the highest `drop` leave first where the table is too narrow; those of 0 never do.
    One that `grows` takes what is left over.
    """

    key: str
    title: str
    width: int
    text: Callable[[T, float], str]
    sort: Callable[[T], Any] | None = None
    token: Callable[[T, float], str] | None = None
    right: bool = False
    drop: int = 0
    grows: bool = False


def fit(columns: Sequence[Column[T]], width: int) -> list[tuple[Column[T], int]]:
    """The columns that find room in `width`, with the width of each."""
    shown = list(columns)
    while len(shown) > 1 and sum(each.width + GAP for each in shown) > width:
        worst = max(shown, key=lambda each: each.drop)
        if worst.drop == 0:
            break
        # Of several with the same rank the rightmost goes.
        shown.remove(next(each for each in reversed(shown) if each.drop == worst.drop))
    spare = max(0, width - sum(each.width + GAP for each in shown))
    growing = [each for each in shown if each.grows]
    extra = spare // len(growing) if growing else 0
    return [(each, each.width + (extra if each.grows else 0)) for each in shown]


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
        self._due = 0.0
        self._stale = True
        self._items: Mapping[str, T] = {}

    # Which rows.

    def invalidate(self) -> None:
        """Make the order anew at the next refresh: another filter, another sort, other columns."""
        self._stale = True
        self._due = 0.0

    def due(self, now: float) -> bool:
        """Whether a refresh would do anything."""
        return self._stale or now >= self._due

    def refresh(
        self,
        items: Mapping[str, T],
        now: float,
        *,
        changed: set[str] | None = None,
        wanted: Callable[[T], bool] = lambda _: True,
    ) -> bool:
        """Bring rows and order up to date where that is due; returns whether it did.

        `changed` names the items that may differ from the last time, and is emptied; None: all may.
        """
        self._items = items
        if not self.due(now):
            return False
        column = self._sorting()
        assert column.sort is not None
        if self._stale or changed is None:
            self._keys = {key: column.sort(item) for key, item in items.items() if wanted(item)}
            self.order = list(self._keys)
        else:
            self._change(changed, items, column.sort, wanted)
        if changed is not None:
            changed.clear()
        # What is in order but for a few costs the sort a tenth of what a heap of rows does.
        self.order.sort(key=self._keys.__getitem__, reverse=self.reverse)
        self.marks &= self._keys.keys()
        self._stale = False
        self._due = now + REFRESH
        self._find()
        return True

    def _change(
        self,
        changed: Iterable[str],
        items: Mapping[str, T],
        sort: Callable[[T], Any],
        wanted: Callable[[T], bool],
    ) -> None:
        keys, order, gone = self._keys, self.order, False
        for key in changed:
            item = items.get(key)
            if item is not None and wanted(item):
                if key not in keys:
                    order.append(key)
                keys[key] = sort(item)
            else:
                gone = keys.pop(key, None) is not None or gone
        if gone:
            self.order = [key for key in order if key in keys]

    def _sorting(self) -> Column[T]:
        for each in self.columns:
            if each.key == self.sort and each.sort is not None:
                return each
        return next(each for each in self.columns if each.sort is not None)

    def _find(self) -> None:
        """Put the cursor's place where its row is now; a row that is gone leaves its place."""
        if not self.order:
            self._place = 0
            return
        if not (self._place < len(self.order) and self.order[self._place] == self.cursor):
            try:
                self._place = self.order.index(self.cursor) if self.cursor in self._keys else -1
            except ValueError:
                self._place = -1
            if self._place < 0:
                self._place = 0 if not self.cursor else min(self.top, len(self.order) - 1)
        self.cursor = self.order[self._place]

    # Moving.

    def move(self, rows: int, now: float) -> None:
        """Move the cursor; the order stays for a moment."""
        if self.order:
            self._place = min(len(self.order) - 1, max(0, self._place + rows))
            self.cursor = self.order[self._place]
        self._due = max(self._due, now + REFRESH)

    def to(self, key: str, now: float) -> None:
        """Move the cursor to a row."""
        if key in self._keys:
            self.cursor = key
            self._find()
            self._due = max(self._due, now + REFRESH)

    def sort_by(self, key: str) -> None:
        """Sort by another column, or the other way round by the same."""
        if not any(each.key == key and each.sort is not None for each in self.columns):
            return
        self.reverse = not self.reverse if key == self.sort else False
        self.sort = key
        self.invalidate()

    def next_sort(self, step: int = 1) -> str:
        """Sort by the next column that can be sorted by; returns its title."""
        sortable = [each for each in self.columns if each.sort is not None]
        at = next((n for n, each in enumerate(sortable) if each.key == self.sort), 0)
        chosen = sortable[(at + step) % len(sortable)]
        self.sort, self.reverse = chosen.key, False
        self.invalidate()
        return chosen.title

    # Marking.

    def mark(self) -> None:
        """Mark the row under the cursor, or unmark it."""
        if self.cursor:
            self.marks ^= {self.cursor}

    def mark_all(self) -> None:
        """Mark all rows that the filter shows."""
        self.marks = set(self.order)

    def chosen(self) -> list[str]:
        """The marked rows in their order; without marks the one under the cursor."""
        if self.marks:
            return [key for key in self.order if key in self.marks]
        return [self.cursor] if self.cursor else []

    def item(self) -> T | None:
        """What is under the cursor."""
        return self._items.get(self.cursor)

    # Drawing.

    def lines(self, width: int, height: int, now: float) -> list[Line]:
        """Heading and rows, exactly `height` lines of `width` columns."""
        shown = fit(self.columns, width - 2)
        found = [self._heading(shown, width)]
        self.height = max(1, height - 1)
        self._scroll()
        for key in self.order[self.top : self.top + self.height]:
            item = self._items.get(key)
            if item is None:
                continue  # gone since the order was made
            found.append(self._row(shown, key, item, width, now))
        if not self.order and height > 1:
            found.append(clip(line(("  " + self.empty, "dim")), width))
        blank = clip(line(), width)
        return (found + [blank] * height)[:height]

    def _scroll(self) -> None:
        last = max(0, len(self.order) - self.height)
        self.top = min(max(0, self.top), last)
        if self._place < self.top:
            self.top = self._place
        elif self._place >= self.top + self.height:
            self.top = self._place - self.height + 1

    def _heading(self, shown: Iterable[tuple[Column[T], int]], width: int) -> Line:
        runs = [("  ", "heading")]
        hits = []
        at = 2
        for column, room in shown:
            arrow = ("▼" if self.reverse else "▲") if column.key == self.sort else ""
            title = cell(column.title + arrow, room, column.right)
            runs.append((title + " " * GAP, "heading.sorted" if arrow else "heading"))
            if column.sort is not None:
                hits.append(Hit(at, at + room, "sort_by", column.key))
            at += room + GAP
        return clip(Line(tuple(runs), "", tuple(hits)), width)

    def _row(
        self, shown: Iterable[tuple[Column[T], int]], key: str, item: T, width: int, now: float
    ) -> Line:
        here = key == self.cursor
        marked = key in self.marks
        runs = [(("▌" if here else " ") + ("*" if marked else " "), "mark")]
        for column, room in shown:
            token = column.token(item, now) if column.token is not None else "text"
            runs.append((cell(column.text(item, now), room, column.right) + " " * GAP, token))
        base = "cursor" if here else "marked" if marked else ""
        made = clip(Line(tuple(runs), base), width)
        return made._replace(hits=(Hit(0, width, "row", key),))


def gauge(part: float, whole: float, width: int) -> str:
    """`part/whole`, cut to a column."""
    return display.fit(f"{part:,.0f}/{whole:,.0f}", width)
