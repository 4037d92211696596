"""The index: every known task as one compact row, in SQLite in memory.

SQLite, because a row is some 130 bytes there against 600 as a Python object, and because lists in
order of change need its b-trees. What the columns are is in views/columns.py; the numbers of words
are those of `Words`.

The index is bounded. Finished tasks beyond `limit` leave it, the oldest first; they stay counted,
by the day they ended, until they are older than the streams keep records. Then, and that is the
meaning of every count here, both rows and counts go: *the tasks of the last `retention` seconds*.
A task that left and is retried by hand is counted twice.

All is synchronous and quick; whoever puts many rows, or selects by label among many, gives the
event loop its turn between slices.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from heapq import merge
from typing import Any, Final, NamedTuple

from agentflow.master.totals import Totals, Words
from agentflow.protocol.record import State
from agentflow.views.columns import (
    COLUMNS,
    COUNTED,
    Counted,
    Values,
    counted,
    row_of_values,
    values,
)
from agentflow.views.row import FINISHED, Row, label_text, supersedes

LIMIT: Final = 200_000
SCANNED: Final = 2_000
"""Rows looked at by one query of a selection: some 2 ms."""
EVICTED: Final = 500
DAY_MS: Final = 86_400_000

_COLUMNS: Final = ", ".join(COLUMNS)
_SCHEMA: Final = f"""
    PRAGMA journal_mode = OFF;
    CREATE TABLE task (n INTEGER PRIMARY KEY, {_COLUMNS});
    CREATE UNIQUE INDEX by_id ON task (id);
    CREATE INDEX by_state ON task (state, updated);
"""
_KEPT: Final = ", ".join(("n", "sequence", "updated", *COUNTED))
_INSERT: Final = f"INSERT INTO task ({_COLUMNS}) VALUES ({', '.join('?' for _ in COLUMNS)})"
_UPDATE: Final = f"UPDATE task SET {', '.join(f'{name} = ?' for name in COLUMNS)} WHERE n = ?"
_RANGE: Final = "state = ? AND updated >= ? AND updated < ?"
_NEWEST: Final = "ORDER BY updated DESC, id DESC"


class Cursor(NamedTuple):
    """Where a list goes on: behind this change of this task."""

    updated: int = 1 << 62
    id: str = ""


class Selection(NamedTuple):
    """Rows of a list, newest change first, and how many match in all."""

    rows: list[Row]
    total: int
    next: Cursor | None


class _Kept(NamedTuple):
    """What is looked at of a row that is there, before it is replaced or dropped."""

    n: int
    sequence: int
    updated: int
    counted: Counted

    @property
    def state(self) -> int:
        """The number of its state."""
        return self.counted[0]


class Index:
    """Rows by id and by state, and their sums."""

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._limit = limit
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._words = Words()
        self._totals = Totals()
        self._gone: dict[int, Totals] = {}
        self._finished = [self._number(state) for state in sorted(FINISHED)]
        self._rows = 0
        self._rows_finished = 0
        self._db.executescript(_SCHEMA)

    # Changing.

    def put(self, rows: Iterable[Row]) -> int:
        """Take rows in, at most some hundreds; how many were news. 100 take about a millisecond."""
        newest: dict[str, Row] = {}
        for row in rows:
            before = newest.get(row.id)
            if supersedes(row, before.sequence if before else None):
                newest[row.id] = row
        if not newest:
            return 0
        known = self._known(list(newest))
        inserted: list[Values] = []
        updated: list[Values] = []
        for row in newest.values():
            old = known.get(row.id)
            if old is None:
                inserted.append(values(row, self._words.number))
                self._rows_finished += row.finished
            elif supersedes(row, old.sequence):
                updated.append((*values(row, self._words.number), old.n))
                self._totals.add(old.counted, -1)
                self._rows_finished += row.finished - (old.state in self._finished)
        self._db.execute("BEGIN")
        try:
            self._db.executemany(_INSERT, inserted)
            self._db.executemany(_UPDATE, updated)
        except BaseException:
            self._db.execute("ROLLBACK")  # or no later row would ever be taken
            raise
        self._db.execute("COMMIT")
        self._rows += len(inserted)
        for stored in (*inserted, *updated):
            self._totals.add(counted(stored))
        return len(inserted) + len(updated)

    def _known(self, ids: list[str]) -> dict[str, _Kept]:
        """The rows that are there, by id."""
        stored = self._db.execute(
            f"SELECT id, {_KEPT} FROM task WHERE id IN ({', '.join('?' * len(ids))})", ids
        )
        return {row[0]: _Kept(row[1], row[2], row[3], row[4:]) for row in stored}

    def forget(self, task_id: str, *, sequence: int) -> bool:
        """Drop a row that still stands at `sequence`, and its counts."""
        kept = self._keeping("WHERE id = ? AND sequence = ?", (task_id, sequence))
        for row in kept:
            self._drop(row)
        return bool(kept)

    def forget_unseen(self) -> None:
        """Drop all rows without a record: AGENTFLOW_TASKS was made anew."""
        for row in self._keeping("WHERE sequence = 0"):
            self._drop(row)

    def clear(self) -> None:
        """Forget everything: the streams were made anew."""
        self._db.execute("DELETE FROM task")
        self._totals, self._gone = Totals(), {}
        self._rows = self._rows_finished = 0

    def evict(self) -> int:
        """Let the oldest finished rows beyond the limit go, some at a time; they stay counted."""
        excess = min(self._rows_finished - self._limit, EVICTED)
        if excess <= 0:
            return 0
        oldest = merge(
            *(self._oldest(state, excess) for state in self._finished), key=lambda row: row.updated
        )
        for row in list(oldest)[:excess]:
            self._gone.setdefault(row.updated // DAY_MS, Totals()).add(row.counted)
            self._drop(row, counted=True)
        return excess

    def expire(self, before: int) -> int:
        """Drop what changed last before `before`: its log is gone; some at a time.

        A task without a record waits in AGENTFLOW_TASKS, which keeps it as long as it takes.
        """
        for day in [day for day in self._gone if (day + 1) * DAY_MS <= before]:
            self._totals.subtract(self._gone.pop(day))
        dropped = 0
        for state in self._states():
            for row in self._oldest(state, EVICTED):
                if row.updated >= before:
                    break
                if row.sequence:
                    self._drop(row)
                    dropped += 1
        return dropped

    def _oldest(self, state: int, limit: int) -> list[_Kept]:
        return self._keeping("WHERE state = ? ORDER BY updated LIMIT ?", (state, limit))

    def _keeping(self, clauses: str, operands: tuple[Any, ...] = ()) -> list[_Kept]:
        stored = self._db.execute(f"SELECT {_KEPT} FROM task {clauses}", operands)
        return [_kept(columns) for columns in stored]

    def _drop(self, row: _Kept, *, counted: bool = False) -> None:
        """Delete a row; one that stays `counted` leaves the sums as they are."""
        self._db.execute("DELETE FROM task WHERE n = ?", (row.n,))
        self._rows -= 1
        self._rows_finished -= row.state in self._finished
        if not counted:
            self._totals.add(row.counted, -1)

    # Asking.

    def __len__(self) -> int:
        return self._rows

    @property
    def totals(self) -> Totals:
        """Sums over all counted tasks."""
        return self._totals

    def counts(self) -> dict[str, int]:
        """Tasks by state; every state is named."""
        counts = dict.fromkeys(map(str, State), 0)
        for (_, state), count in self._totals.counts.items():
            if count:
                name = self._words.text(state)
                counts[name] = counts.get(name, 0) + count
        return counts

    def by_queue(self) -> dict[str, dict[str, int]]:
        """Tasks by queue and state."""
        queues: dict[str, dict[str, int]] = {}
        for (queue, state), count in self._totals.counts.items():
            if count:
                queues.setdefault(self._words.text(queue), {})[self._words.text(state)] = count
        return queues

    def get(self, task_id: str) -> Row | None:
        """The row of exactly this id."""
        return next(self._select("WHERE id = ?", (task_id,)), None)

    def starting(self, prefix: str, limit: int) -> tuple[list[Row], int]:
        """Tasks whose id begins so: at most `limit` rows, and how many there are."""
        if not prefix:
            return [], 0
        # Ids are ASCII, so this is behind all that begin with the prefix.
        span = (prefix, prefix + "\x7f")
        where = "WHERE id >= ? AND id < ?"
        (total,) = self._db.execute(f"SELECT count(*) FROM task {where}", span).fetchone()
        return list(self._select(f"{where} ORDER BY id LIMIT ?", (*span, limit))), total

    def oldest(
        self, state: str, *, after: tuple[int, str] = (-1, ""), limit: int = 100
    ) -> list[Row]:
        """Rows in a state whose last change is longest ago, behind `after`."""
        where = "state = ? AND updated >= ? AND (updated > ? OR id > ?)"
        operands = (self._number(state), after[0], *after, limit)
        return list(self._select(f"WHERE {where} ORDER BY updated, id LIMIT ?", operands))

    async def select(
        self,
        *,
        states: Sequence[str] = (),
        queue: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        wants: Callable[[Row], bool] | None = None,
        labels: Iterable[tuple[str, str]] = (),
        limit: int = 50,
        after: Cursor | None = None,
    ) -> Selection:
        """A page of the tasks that match all conditions; without states those of any."""
        named = [self._number(state) for state in states] or self._states()
        where, operands = ["1"], list[Any]()
        if kind is not None:
            where.append("kind = ?")
            operands.append(self._number(kind))
        if since is not None:
            where.append("updated >= ?")
            operands.append(round(since.timestamp() * 1000))
        if queue is not None:
            where.append("queue = ?")
            operands.append(self._number(queue))
        wanted = [label_text(name, value) for name, value in labels]
        where += ["instr(labels, ?)"] * len(wanted)
        operands += wanted
        condition = " AND ".join(where)
        rows: list[Row] = []
        for number in named:
            rows += await self._page(number, condition, operands, limit + 1, after, wants)
        rows.sort(key=lambda row: (row.updated, row.id), reverse=True)
        if wanted or kind is not None or since is not None or wants is not None:
            total = 0
            for number in named:
                total += await self._count(number, condition, operands, wants)
        else:
            total = sum(
                count
                for name, counts in self.by_queue().items()
                if queue in (None, name)
                for counted_state, count in counts.items()
                if not states or counted_state in states
            )
        if len(rows) <= limit:
            return Selection(rows, total, None)
        last = rows[limit - 1]
        return Selection(rows[:limit], total, Cursor(last.updated, last.id))

    async def _page(
        self,
        state: int,
        condition: str,
        operands: list[Any],
        limit: int,
        after: Cursor | None,
        wants: Callable[[Row], bool] | None,
    ) -> list[Row]:
        rows: list[Row] = []
        after = after or Cursor()
        for lower, upper in self._ranges(state, after.updated + 1):
            # What only a test can tell is looked at row by row.
            most = -1 if wants is not None else limit - len(rows)
            span = (state, lower, upper, *after, *operands, most)
            found = self._select(
                f"WHERE {_RANGE} AND (updated, id) < (?, ?) AND {condition} {_NEWEST} LIMIT ?", span
            )
            rows += found if wants is None else filter(wants, found)
            if len(rows) >= limit:
                break
            await asyncio.sleep(0)
        return rows[:limit]

    async def _count(
        self,
        state: int,
        condition: str,
        operands: list[Any],
        wants: Callable[[Row], bool] | None,
    ) -> int:
        total = 0
        for lower, upper in self._ranges(state, Cursor().updated):
            if wants is not None:
                span = (state, lower, upper, *operands)
                total += sum(map(wants, self._select(f"WHERE {_RANGE} AND {condition}", span)))
                await asyncio.sleep(0)
                continue
            query = f"SELECT count(*) FROM task WHERE {_RANGE} AND {condition}"
            total += self._db.execute(query, (state, lower, upper, *operands)).fetchone()[0]
            await asyncio.sleep(0)
        return total

    def _ranges(self, state: int, upper: int) -> Iterator[tuple[int, int]]:
        """Times of change between which some `SCANNED` rows of a state lie, the latest first."""
        query = (
            "SELECT updated FROM task WHERE state = ? AND updated < ? "
            f"ORDER BY updated DESC LIMIT 1 OFFSET {SCANNED - 1}"
        )
        while row := self._db.execute(query, (state, upper)).fetchone():
            yield row[0], upper
            upper = row[0]
        yield -1, upper

    # Rows and their values.

    def _number(self, word: str) -> int:
        number = self._words.number(word)
        assert number is not None
        return number

    def _states(self) -> list[int]:
        return sorted({state for (_, state), count in self._totals.counts.items() if count > 0})

    def _select(self, clauses: str, operands: tuple[Any, ...]) -> Iterator[Row]:
        for stored in self._db.execute(f"SELECT {_COLUMNS} FROM task {clauses}", operands):
            yield row_of_values(stored, self._words.text, self._words.word)


def _kept(columns: tuple[Any, ...]) -> _Kept:
    return _Kept(columns[0], columns[1], columns[2], columns[3:])
