"""Batches of the Message Batches API: where tasks wait for one, and what is known of each.

A **pool and queue** gather together. What waits lies in AGENTFLOW_BATCH, one entry a task, on
`agentflow.batch.<pool>.<queue>.<id>.<s>`, where `s` is the sequence of the task's `waiting` record.
All that is known of creates is one value, the table, under one key of the bucket,
`batches.<pool>.<queue>`: so every step is one compare-and-set. A row of it is a range of entries.

Each request is named `<nonce>-<q>`: the create that it was part of, and its entry's sequence.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from agentflow.protocol import subjects

ROWS: Final = 200
"""Rows of a table: more than are ever under way, and a value of the bucket stays small."""
TRIED: Final = 8
"""Creates of a row that are remembered although they came to nothing."""
KEYS: Final = "batches."
ROUTE: Final = "batch"
"""Stands for a model family in `closed.<pool>.batch`."""
REASON: Final = "batch"
"""The reason of a `waiting` record."""

NONCE: Final = re.compile(r"af[0-9a-f]{12}")
_CUSTOM_ID: Final = re.compile(r"(af[0-9a-f]{12})-([0-9]{1,19})")


class RowState(StrEnum):
    """How far a row is; once its results are written it is gone."""

    OPEN = "open"  # nobody was asked
    SENT = "sent"  # the last byte may have gone; what came of it is unknown
    MADE = "made"  # the batch's id is known


class Tried(msgspec.Struct, frozen=True):
    """A create that is taken for not done, and would be known again by its nonce."""

    nonce: str
    count: int
    since: datetime


class Row(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"first": "from", "last": "to"},
):
    """A range of entries, `first` to `last`, and the create that they are in.

    `nonce` is new whenever a row becomes open. `at` is when it came to this state; `since` the
    instant, by the API's clock, from which on its batch must be listed; `workspace` whose list that
    is. `seen` are batches that may be this one and could not be read yet. `cancel`: a person wants
    it to be cancelled.
    """

    nonce: str
    first: int
    last: int
    state: RowState = RowState.OPEN
    at: datetime
    count: int = 0
    since: datetime | None = None
    workspace: str = ""
    id: str = ""
    tried: tuple[Tried, ...] = ()
    seen: tuple[str, ...] = ()
    cancel: bool = False


class Twice(msgspec.Struct, frozen=True):
    """A batch that was made although it was taken for not made: it was paid beside another."""

    nonce: str
    batch: str
    count: int
    at: datetime


class Table(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that is known of a pool and queue. `next` is the first entry that is in no row yet.

    `by` names the write, so that a writer whose answer was lost knows its own again. `late` are
    creates that were given up for not done within the last days.
    """

    v: int = 1
    next: int = 1
    by: str = ""
    rows: tuple[Row, ...] = ()
    late: tuple[Tried, ...] = ()
    twice: tuple[Twice, ...] = ()

    def row(self, nonce: str) -> Row | None:
        """The row of a create."""
        return next((row for row in self.rows if row.nonce == nonce), None)

    def holding(self, sequence: int) -> Row | None:
        """The row that an entry is in."""
        return next((row for row in self.rows if row.first <= sequence <= row.last), None)

    @property
    def low(self) -> int:
        """The first entry that is still needed."""
        return min([self.next, *(row.first for row in self.rows)])


class Progress(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A batch as its worker tells it with its heartbeats. Costs are micro-USD.

    `settled` counts requests whose outcome is written; `saved_micro` is what the same tokens would
    have cost more by live requests.
    """

    pool: str
    queue: str
    nonce: str
    state: str
    count: int = 0
    id: str = ""
    status: str = ""
    made: datetime | None = None
    expires: datetime | None = None
    settled: int = 0
    cost_micro: int = 0
    saved_micro: int = 0


_table = msgspec.json.Decoder(Table)


def key(pool: str, queue: str) -> str:
    """Key of a table in the bucket."""
    return f"{KEYS}{pool}.{queue}"


def parse_key(name: str) -> tuple[str, str] | None:
    """Pool and queue of a table's key; None for other keys."""
    tokens = name.split(".")
    return (tokens[1], tokens[2]) if len(tokens) == 3 and name.startswith(KEYS) else None


def lease_key(pool: str, queue: str) -> str:
    """Key that says which worker bothers."""
    return f"lease.{key(pool, queue)}"


def read(value: bytes | None) -> Table:
    """The table in a key's value; an empty one where there is none.

    Raises msgspec.DecodeError: what cannot be read must not be written over.
    """
    return Table() if not value else _table.decode(value)


def encode(table: Table) -> bytes:
    """A table as JSON."""
    return msgspec.json.encode(table)


def custom_id(nonce: str, sequence: int) -> str:
    """What a request is called in its batch; 35 characters at most, of the 64 that may be."""
    return f"{nonce}-{sequence}"


def parse_custom_id(text: str) -> tuple[str, int] | None:
    """Nonce and entry of a request; None for somebody else's."""
    ours = _CUSTOM_ID.fullmatch(text)
    return (ours[1], int(ours[2])) if ours else None


def entry(pool: str, queue: str, task_id: str, sequence: int) -> str:
    """Subject of what waits; `sequence` is that of its `waiting` record."""
    return f"agentflow.batch.{pool}.{queue}.{task_id}.{sequence}"


def entries(pool: str, queue: str) -> str:
    """Filter of all that waits together."""
    return f"agentflow.batch.{pool}.{queue}.>"


def entry_of(task_id: str, sequence: int) -> str:
    """Filter of the one entry of a `waiting` record, wherever it lies."""
    return f"agentflow.batch.*.*.{task_id}.{sequence}"


class Entry(msgspec.Struct, frozen=True):
    """What the subject of an entry says."""

    pool: str
    queue: str
    id: str
    waiting: int


def parse_entry(subject: str) -> Entry | None:
    """What a subject says; None where somebody else gave the stream another."""
    tokens = subject.split(".")
    if len(tokens) < 6 or tokens[:2] != ["agentflow", "batch"] or not tokens[-1].isdecimal():
        return None
    return Entry(tokens[2], tokens[3], ".".join(tokens[4:-1]), int(tokens[-1]))


STREAM: Final = subjects.BATCH
