"""The index: every known task as one compact row, in SQLite in memory.

SQLite, because a row is some 130 bytes there against 600 as a Python object, and because lists in
order of change need its b-trees. Words that repeat (queue, kind, model, actor, ...) are stored as
numbers of `Words`, instants as offsets from `updated`.

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
from collections.abc import Iterable, Iterator
from heapq import merge
from typing import Any, Final, NamedTuple

from agentflow.master.totals import Totals, Words
from agentflow.protocol.record import State, Usage
from agentflow.views.row import FINISHED, Row, label_text, supersedes

LIMIT: Final = 200_000
SCANNED: Final = 2_000
"""Rows looked at by one query of a selection: some 2 ms."""
EVICTED: Final = 500
DAY_MS: Final = 86_400_000

_COLUMNS: Final = (
    "id, sequence, state, queue, updated, priority, kind, model, labels, attempt, failures, actor,"
    " submitted, started, ended, resume_at, reason, stop_reason, input, output, cache_creation,"
    " cache_read, cost, simulated, message"
)
_SCHEMA: Final = f"""
    PRAGMA journal_mode = OFF;
    CREATE TABLE task (n INTEGER PRIMARY KEY, {_COLUMNS});
    CREATE UNIQUE INDEX by_id ON task (id);
    CREATE INDEX by_state ON task (state, updated);
"""
_COUNTED: Final = (
    "n, sequence, queue, state, input, output, cache_creation, cache_read, cost, simulated, updated"
)
_INSERT: Final = f"INSERT INTO task ({_COLUMNS}) VALUES ({', '.join('?' * 25)})"
_UPDATE: Final = (
    f"UPDATE task SET {', '.join(f'{name.strip()} = ?' for name in _COLUMNS.split(','))}"
    " WHERE n = ?"
)
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
        known = self._counted(list(newest))
        inserted: list[tuple[Any, ...]] = []
        updated: list[tuple[Any, ...]] = []
        for row in newest.values():
            old = known.get(row.id)
            if old is None:
                inserted.append(self._values(row))
                self._rows_finished += row.finished
            elif supersedes(row, old[1]):
                updated.append((*self._values(row), old[0]))
                self._totals.add(old, -1)
                self._rows_finished += row.finished - (old[3] in self._finished)
        self._db.execute("BEGIN")
        self._db.executemany(_INSERT, inserted)
        self._db.executemany(_UPDATE, updated)
        self._db.execute("COMMIT")
        self._rows += len(inserted)
        for values in (*inserted, *updated):
            self._totals.add((0, 0, values[3], values[2], *values[18:24], 0))
        return len(inserted) + len(updated)

    def _counted(self, ids: list[str]) -> dict[str, tuple[Any, ...]]:
        """What is counted of the rows that are there, by id."""
        found = self._db.execute(
            f"SELECT {_COUNTED}, id FROM task WHERE id IN ({', '.join('?' * len(ids))})", ids
        )
        return {row[-1]: row[:-1] for row in found}

    def forget(self, task_id: str, *, sequence: int) -> bool:
        """Drop a row that still stands at `sequence`, and its counts."""
        where = "id = ? AND sequence = ?"
        old = self._db.execute(
            f"SELECT {_COUNTED} FROM task WHERE {where}", (task_id, sequence)
        ).fetchone()
        if old:
            self._drop(old)
        return old is not None

    def forget_unseen(self) -> None:
        """Drop all rows without a record: AGENTFLOW_TASKS was made anew."""
        for row in self._db.execute(f"SELECT {_COUNTED} FROM task WHERE sequence = 0").fetchall():
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
        oldest = merge(*(self._oldest(state, excess) for state in self._finished), key=_updated)
        for _, row in zip(range(excess), list(oldest), strict=False):
            self._gone.setdefault(_updated(row) // DAY_MS, Totals()).add(row)
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
                if _updated(row) >= before:
                    break
                if row[1]:
                    self._drop(row)
                    dropped += 1
        return dropped

    def _oldest(self, state: int, limit: int) -> list[tuple[Any, ...]]:
        return self._db.execute(
            f"SELECT {_COUNTED} FROM task WHERE state = ? ORDER BY updated LIMIT ?", (state, limit)
        ).fetchall()

    def _drop(self, row: tuple[Any, ...], *, counted: bool = False) -> None:
        self._db.execute("DELETE FROM task WHERE n = ?", (row[0],))
        self._rows -= 1
        self._rows_finished -= row[3] in self._finished
        if not counted:
            self._totals.add(row, -1)

    # Asking.

    def __len__(self) -> int:
        return self._rows

    @property
    def totals(self) -> Totals:
        """Sums over all counted tasks."""
        return self._totals

    def counts(self) -> dict[str, int]:
        """Tasks by state; every state is named."""
        found = dict.fromkeys(map(str, State), 0)
        for (_, state), count in self._totals.counts.items():
            if count:
                name = self._words.text(state)
                found[name] = found.get(name, 0) + count
        return found

    def by_queue(self) -> dict[str, dict[str, int]]:
        """Tasks by queue and state."""
        found: dict[str, dict[str, int]] = {}
        for (queue, state), count in self._totals.counts.items():
            if count:
                found.setdefault(self._words.text(queue), {})[self._words.text(state)] = count
        return found

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
        values = (self._number(state), after[0], *after, limit)
        return list(self._select(f"WHERE {where} ORDER BY updated, id LIMIT ?", values))

    async def select(
        self,
        *,
        state: str | None = None,
        queue: str | None = None,
        labels: Iterable[tuple[str, str]] = (),
        limit: int = 50,
        after: Cursor | None = None,
    ) -> Selection:
        """A page of the tasks that match all conditions."""
        states = self._states() if state is None else [self._number(state)]
        where, values = ["1"], list[Any]()
        if queue is not None:
            where.append("queue = ?")
            values.append(self._number(queue))
        wanted = [label_text(name, value) for name, value in labels]
        where += ["instr(labels, ?)"] * len(wanted)
        values += wanted
        condition = " AND ".join(where)
        found: list[Row] = []
        for number in states:
            found += await self._page(number, condition, values, limit + 1, after or Cursor())
        found.sort(key=lambda row: (row.updated, row.id), reverse=True)
        if wanted:
            total = 0
            for number in states:
                total += await self._count(number, condition, values)
        else:
            total = sum(
                count
                for name, counts in self.by_queue().items()
                if queue in (None, name)
                for found_state, count in counts.items()
                if state in (None, found_state)
            )
        rows = found[:limit]
        more = len(found) > limit
        return Selection(rows, total, Cursor(rows[-1].updated, rows[-1].id) if more else None)

    async def _page(
        self, state: int, condition: str, values: list[Any], limit: int, after: Cursor
    ) -> list[Row]:
        found: list[Row] = []
        behind = (after.updated, after.id)
        for lower, upper in self._ranges(state, after.updated + 1):
            span = (state, lower, upper, *behind, *values, limit - len(found))
            found += self._select(
                f"WHERE {_RANGE} AND (updated, id) < (?, ?) AND {condition} {_NEWEST} LIMIT ?", span
            )
            if len(found) >= limit:
                break
            await asyncio.sleep(0)
        return found

    async def _count(self, state: int, condition: str, values: list[Any]) -> int:
        total = 0
        for lower, upper in self._ranges(state, Cursor().updated):
            query = f"SELECT count(*) FROM task WHERE {_RANGE} AND {condition}"
            total += self._db.execute(query, (state, lower, upper, *values)).fetchone()[0]
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

    def _values(self, row: Row) -> tuple[Any, ...]:
        number, updated, usage = self._words.number, row.updated, row.usage
        return (
            row.id,
            row.sequence,
            number(row.state),
            number(row.queue),
            updated,
            number(row.priority),
            number(row.kind),
            number(row.model),
            row.labels or None,
            row.attempt,
            row.failures,
            number(row.actor),
            None if row.submitted is None else row.submitted - updated,
            None if row.started is None else row.started - updated,
            None if row.ended is None else row.ended - updated,
            None if row.resume_at is None else row.resume_at - updated,
            number(row.reason),
            number(row.stop_reason),
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_creation_input_tokens,
            usage.cache_read_input_tokens,
            row.cost,
            int(row.simulated),
            row.message or None,
        )

    def _select(self, clauses: str, values: tuple[Any, ...]) -> Iterator[Row]:
        for found in self._db.execute(f"SELECT {_COLUMNS} FROM task {clauses}", values):
            yield self._row(found)

    def _row(self, found: tuple[Any, ...]) -> Row:
        text, updated = self._words.text, found[4]
        submitted, started, ended, resume_at = (
            None if offset is None else updated + offset for offset in found[12:16]
        )
        return Row(
            id=found[0],
            sequence=found[1],
            state=text(found[2]),
            queue=text(found[3]),
            updated=updated,
            priority=text(found[5]),
            kind=text(found[6]),
            model=self._words.word(found[7]),
            labels=found[8] or "",
            attempt=found[9],
            failures=found[10],
            actor=text(found[11]),
            submitted=submitted,
            started=started,
            ended=ended,
            resume_at=resume_at,
            reason=self._words.word(found[16]),
            stop_reason=self._words.word(found[17]),
            usage=Usage(*found[18:22]),
            cost=found[22],
            simulated=bool(found[23]),
            message=found[24] or "",
        )


def _updated(row: tuple[Any, ...]) -> int:
    return int(row[10])
