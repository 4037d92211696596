"""The tasks of a store in the order of their submission, kept while it changes."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from agentflow.dashboard.store.store import Store
from agentflow.views.row import Row

Place = tuple[int, str]
"""Milliseconds since 1970, and the id."""


def place(row: Row) -> Place:
    """Where a task stands."""
    return (row.submitted or row.updated, row.id)


class Newest:
    """An order over the rows; `catch_up` takes in what has changed since."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = store.watch()
        self._order: list[Place] = []
        self._places: dict[str, Place] = {}
        self._gone = 0
        """Entries of the order that stand for nothing any more."""

    def catch_up(self) -> None:
        """Take in what changed; costs what that is, not what there is."""
        changed, rows, places = self._changed, self._store.rows, self._places
        if not changed:
            return
        ids = list(changed)
        changed.clear()
        for task_id in ids:
            row = rows.get(task_id)
            new = place(row) if row is not None else None
            old = places.get(task_id)
            if new == old:
                continue
            if old is not None:
                del places[task_id]
                self._gone += 1
            if new is not None:
                places[task_id] = new
                if not self._order or new > self._order[-1]:
                    self._order.append(new)
                else:
                    insort(self._order, new)
        if self._gone > len(self._order) // 4:
            self._order, self._gone = sorted(places.values()), 0

    def before(self, at: Place | None) -> Iterator[Row]:
        """The rows, newest first, from behind a place on."""
        self.catch_up()
        order, rows, places = self._order, self._store.rows, self._places
        index = len(order) if at is None else bisect_left(order, at)
        last: Place | None = None
        while index > 0:
            index -= 1
            where = order[index]
            if where == last or places.get(where[1]) != where:
                continue
            last = where
            if (row := rows.get(where[1])) is not None:
                yield row
