"""What may become of a table of batches, and what a list of batches says of a create. Pure.

Each step takes the table as it was read and gives the next one, or None where it does not apply any
more: another worker was there first. A row goes

    (none)  --reserve-->  open  --commit-->  sent  --made-->  made  --remove-->  (none)

and back: `reopen` where a create was not done (or that was concluded), under a new nonce, so that
whatever is still under way by the old one is refused; `split` where its body was too large;
`recognized` where a create that was given up turns up after all. No entry is ever in two rows.

`judge` decides about a row that is `sent` by the batches that the API lists. A batch that has ended
tells whose it is: its requests are named by the create. One that has not cannot be told from a
stranger's of the same size, so it is remembered (`seen`) and waited for. That a create was not done
is concluded only when the API had `X` seconds to show it, counted by the judge's own clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from agentflow.protocol.batches import (
    ROWS,
    TRIED,
    Row,
    RowState,
    Table,
    Tried,
    Twice,
)
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task

LATE_FOR: Final = timedelta(hours=48)
LIVE_WITHIN: Final = 25 * 3_600.0
"""A task whose deadline is nearer runs live: a batch may take 24 hours."""

# --- whether a task goes into a batch


def wanted(task: Task, *, attempts: int, failures: int, waited: float, now: datetime) -> bool:
    """Whether a task that may start now is to go into a batch instead.

    `attempts` it has had and `failures` that counted, `waited` seconds since it could have started.
    What a limit refused has not started: nothing was counted.
    """
    if task.deadline is not None and (task.deadline - now).total_seconds() < LIVE_WITHIN:
        return False
    if task.batch == "once":
        return not attempts
    if task.batch:
        return True
    return task.batch_after is not None and not failures and waited >= task.batch_after


# --- when they are gathered


class Gather(msgspec.Struct, frozen=True, kw_only=True):
    """When a batch is made: of `enough` entries, or when one has waited so many seconds.

    `most` entries and `most_bytes` of them are the largest batch.
    """

    high: float = 10.0
    normal: float = 300.0
    low: float = 1_800.0
    enough: int = 10_000
    most: int = 100_000
    most_bytes: int = 200 * 1024 * 1024

    def patience(self, priority: str) -> float:
        """Seconds that an entry of this priority waits for others."""
        match priority:
            case Priority.HIGH:
                return self.high
            case Priority.LOW:
                return self.low
            case _:
                return self.normal


class Waiting(msgspec.Struct, frozen=True):
    """What of the entries behind `next` was looked at: how many, and what fits into one batch.

    `fits` is the last entry that fits and `due` the Unix time at which the first of them has waited
    long enough. `over`: there is more than fits.
    """

    count: int = 0
    size: int = 0
    fits: int = 0
    due: float = 0.0
    over: bool = False

    def plus(self, sequence: int, size: int, stored: float, priority: str, rule: Gather) -> Waiting:
        """With one more entry."""
        full = self.count >= rule.most or self.size + size > rule.most_bytes
        if self.over or (self.count and full):
            return msgspec.structs.replace(self, over=True)
        due = stored + rule.patience(priority)
        return Waiting(self.count + 1, self.size + size, sequence, min(self.due or due, due))

    def ripe(self, now: float, rule: Gather) -> bool:
        """Whether to make a batch of them."""
        if not self.count:
            return False
        return self.over or self.count >= rule.enough or now >= self.due


# --- the steps of a table


def _with(table: Table, nonce: str, *rows: Row) -> Table:
    kept: list[Row] = []
    for row in table.rows:
        kept.extend(rows if row.nonce == nonce else (row,))
    return msgspec.structs.replace(table, rows=tuple(kept))


def _in(table: Table, nonce: str, *states: RowState) -> Row | None:
    row = table.row(nonce)
    return row if row is not None and row.state in states else None


def reserve(table: Table, first: int, last: int, nonce: str, now: datetime) -> Table | None:
    """A new row of the entries from `first`, which must be `next`, to `last`."""
    if table.next != first or last < first or len(table.rows) >= ROWS:
        return None
    row = Row(nonce=nonce, first=first, last=last, at=now)
    return msgspec.structs.replace(table, next=last + 1, rows=(*table.rows, row))


def commit(
    table: Table, nonce: str, count: int, since: datetime, workspace: str, now: datetime
) -> Table | None:
    """The last byte of this create may go from now on."""
    row = _in(table, nonce, RowState.OPEN)
    if row is None:
        return None
    sent = msgspec.structs.replace(
        row, state=RowState.SENT, count=count, since=since, workspace=workspace, at=now, seen=()
    )
    return _with(table, nonce, sent)


def made(table: Table, nonce: str, batch: str, now: datetime) -> Table | None:
    """The create is done: this is its batch."""
    row = _in(table, nonce, RowState.SENT)
    if row is None:
        return None
    return _with(
        table, nonce, msgspec.structs.replace(row, state=RowState.MADE, id=batch, at=now, seen=())
    )


def reopen(
    table: Table,
    nonce: str,
    new: str,
    now: datetime,
    *,
    late: bool = False,
    seen: tuple[str, ...] | None = None,
) -> Table | None:
    """The create is not done; the row may be tried again, as `new`.

    `late`: that was concluded and not told. `seen`: only where the row still has seen just these.
    """
    row = _in(table, nonce, RowState.SENT, RowState.OPEN)
    if row is None or (seen is not None and (row.seen != seen or row.state != RowState.SENT)):
        return None
    gone: tuple[Tried, ...] = ()
    if row.state is RowState.SENT and row.since is not None:
        gone = (Tried(nonce, row.count, row.since),)
    opened = Row(
        nonce=new, first=row.first, last=row.last, at=now, tried=(*row.tried, *gone)[-TRIED:]
    )
    table = _with(table, nonce, opened)
    return msgspec.structs.replace(table, late=(*table.late, *gone)) if late else table


def split(table: Table, nonce: str, at: int, new: tuple[str, str], now: datetime) -> Table | None:
    """The body was too large: two rows instead, the second from the entry behind `at`."""
    row = _in(table, nonce, RowState.SENT, RowState.OPEN)
    if row is None or not row.first <= at < row.last or len(table.rows) >= ROWS:
        return None
    left = Row(nonce=new[0], first=row.first, last=at, at=now, tried=row.tried)
    right = Row(nonce=new[1], first=at + 1, last=row.last, at=now, tried=row.tried)
    return _with(table, nonce, left, right)


def saw(table: Table, nonce: str, batches: Collection[str]) -> Table | None:
    """Remember batches that may be this create's and cannot be read yet."""
    row = _in(table, nonce, RowState.SENT)
    if row is None:
        return None
    seen = (*row.seen, *(batch for batch in batches if batch not in row.seen))
    return _with(table, nonce, msgspec.structs.replace(row, seen=seen))


def recognized(table: Table, nonce: str, tried: str, batch: str, now: datetime) -> Table | None:
    """A create that the row was given up for is done after all: the row is that one again."""
    row = _in(table, nonce, RowState.OPEN)
    before = next((one for one in row.tried if one.nonce == tried), None) if row else None
    if row is None or before is None:
        return None
    known = msgspec.structs.replace(
        row, nonce=tried, state=RowState.MADE, id=batch, count=before.count, at=now
    )
    late = tuple(one for one in table.late if one.nonce != tried)
    return msgspec.structs.replace(_with(table, nonce, known), late=late)


def remove(table: Table, nonce: str, *states: RowState) -> Table | None:
    """The row is done with, where it is in one of these states."""
    return None if _in(table, nonce, *states) is None else _with(table, nonce)


def cancelled(table: Table, batch: str) -> Table | None:
    """A person wants this batch to be cancelled."""
    row = next((row for row in table.rows if row.id == batch), None)
    if row is None or row.cancel:
        return None
    return _with(table, row.nonce, msgspec.structs.replace(row, cancel=True))


def audited(table: Table, found: Mapping[str, str], now: datetime) -> Table | None:
    """Tell of creates that were given up and are done, `found` by nonce; forget old ones."""
    late = tuple(one for one in table.late if one.nonce not in found and now - one.since < LATE_FOR)
    told = tuple(
        Twice(one.nonce, found[one.nonce], one.count, now)
        for one in table.late
        if one.nonce in found
    )
    if late == table.late:
        return None
    return msgspec.structs.replace(table, late=late, twice=(*table.twice, *told))


# --- what became of a create


class Listed(msgspec.Struct, frozen=True):
    """A batch as the API lists it."""

    id: str
    count: int
    ended: bool


class Says(StrEnum):
    """What the list says of a row that is `sent`."""

    MADE = "made"  # by the batch named
    REMEMBER = "remember"  # the batches named may be it
    WAIT = "wait"
    NOT_MADE = "not made"
    VANISHED = "vanished"  # what may have been it is gone


class Word(msgspec.Struct, frozen=True):
    """The verdict, and the batches that it is about."""

    says: Says
    batches: tuple[str, ...] = ()


def candidates(table: Table, count: int, listed: Sequence[Listed]) -> list[Listed]:
    """Batches that a create of so many requests may have made."""
    known = {row.id for row in table.rows if row.id}
    return [batch for batch in listed if batch.count == count and batch.id not in known]


def judge(row: Row, found: Sequence[Listed], whose: Mapping[str, str], *, waited: bool) -> Word:
    """What is to be thought of a create. `found` are its candidates, `whose` the nonces of batches
    that were read (of a stranger's: ""), `waited` whether the API had its time to show it."""
    mine = [batch.id for batch in found if whose.get(batch.id) == row.nonce]
    if mine:
        return Word(Says.MADE, (mine[0],))
    unread = tuple(batch.id for batch in found if batch.id not in whose)
    if news := tuple(batch for batch in unread if batch not in row.seen):
        return Word(Says.REMEMBER, news)
    if unread:
        return Word(Says.WAIT)
    there = {batch.id for batch in found}
    gone = tuple(batch for batch in row.seen if batch not in whose and batch not in there)
    if gone:
        return Word(Says.VANISHED, gone)
    return Word(Says.NOT_MADE if waited else Says.WAIT)
