"""Batches as rows, from the tables in the bucket and what workers tell of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from agentflow.protocol.batches import Progress, Row, RowState, Table, parse_key

GATHERING = "gathering"


class BatchView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A batch, or what is gathered for the next one (state `gathering`).

    `state` is how far its create is: open (nobody was asked), sent (what came of it is unknown) or
    made. `status` is the API's word. `count` are its requests, `settled` those whose outcome is
    written; costs are in dollars, of those.
    """

    pool: str
    queue: str
    state: str
    id: str = ""
    nonce: str = ""
    status: str = ""
    count: int = 0
    settled: int = 0
    at: datetime | None = None
    made: datetime | None = None
    expires: datetime | None = None
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    cancel: bool = False
    twice: bool = False
    """It was created so late that it was paid beside another."""


def views(
    tables: Mapping[str, Table], waiting: Mapping[str, int], told: Iterable[Progress]
) -> list[BatchView]:
    """All of them. `tables` and `waiting` (entries in no row yet) are by key."""
    progress = {one.nonce: one for one in told}
    found: list[BatchView] = []
    for key, table in sorted(tables.items()):
        place = parse_key(key)
        if place is None:
            continue
        found += [view(*place, row, progress.get(row.nonce)) for row in table.rows]
        found += [
            BatchView(
                pool=place[0], queue=place[1], state="twice", id=one.batch, count=one.count,
                at=one.at, twice=True,
            )
            for one in table.twice
        ]  # fmt: skip
        if waiting.get(key):
            found.append(
                BatchView(pool=place[0], queue=place[1], state=GATHERING, count=waiting[key])
            )
    return found


def view(pool: str, queue: str, row: Row, told: Progress | None) -> BatchView:
    """A row of a table, with what its worker tells."""
    told = told or Progress(pool=pool, queue=queue, nonce=row.nonce, state=row.state)
    return BatchView(
        pool=pool,
        queue=queue,
        state=row.state,
        id=row.id,
        nonce=row.nonce,
        status=told.status,
        count=row.count or row.last - row.first + 1,
        settled=told.settled,
        at=row.at,
        made=told.made,
        expires=told.expires,
        cost_usd=told.cost_micro / 1_000_000,
        saved_usd=told.saved_micro / 1_000_000,
        cancel=row.cancel,
    )


def sentence(batch: BatchView, now: datetime) -> str:
    """Where a task stands that is in this batch, for a person."""
    match batch.state:
        case RowState.OPEN:
            return f"It is gathered with {batch.count:,} tasks, and its batch is being sent."
        case RowState.SENT:
            return (
                f"Its batch of {batch.count:,} was sent, and no answer came; the list of batches"
                " tells what became of it, at the latest when it has ended."
            )
        case RowState.MADE:
            left = ""
            if batch.expires is not None:
                left = f", expires in {_hours((batch.expires - now).total_seconds())}"
            done = f"{batch.settled:,} of {batch.count:,} done"
            status = f" ({batch.status})" if batch.status else ""
            return f"It is in batch {batch.id}{status}: {done}{left}."
    return (
        f"It waits for a batch of queue {batch.queue}, with {batch.count:,} tasks gathered so far."
    )


def _hours(seconds: float) -> str:
    if seconds >= 2 * 3_600:
        return f"{seconds / 3_600:.0f} h"
    return f"{max(0.0, seconds) / 60:.0f} min"
