"""A row of a task as columns of SQL, for the master's index.

Words that repeat (queue, kind, model, actor, ...) are stored as numbers, which whoever keeps the
table gives and takes back; instants as offsets from `updated`, which need fewer bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final

from agentflow.protocol.record import Usage
from agentflow.views.row import Row

COLUMNS: Final = (
    *("id", "sequence", "state", "queue", "updated", "priority", "kind", "model", "labels"),
    *("attempt", "failures", "actor", "submitted", "started", "ended", "resume_at", "reason"),
    *("stop_reason", "input", "output", "cache_creation", "cache_read", "cost", "simulated"),
    *("message", "title", "by", "dropped"),
)
Values = tuple[Any, ...]
"""Of a row, in the order of `COLUMNS`."""


COUNTED: Final = (
    *("state", "queue", "input", "output", "cache_creation", "cache_read", "cost", "simulated"),
)
"""The columns that are summed up, after the numbers of the words that say in which sums."""
Counted = tuple[int, int, int, int, int, int, int | None, int]
"""Of a row, in the order of `COUNTED`; the cost is micro-USD, None where a price is unknown."""

counted: Final[Callable[[Values], Counted]] = itemgetter(*map(COLUMNS.index, COUNTED))
"""What is counted of a row."""


def values(row: Row, number: Callable[[str | None], int | None]) -> Values:
    """A row as it is stored; `number` gives that of a word, None for None."""
    updated, usage = row.updated, row.usage
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
        row.title or None,
        number(row.by or None),
        int(row.dropped),
    )


def row_of_values(
    stored: Values, text: Callable[[int], str], word: Callable[[int | None], str | None]
) -> Row:
    """The row; `text` gives the word of a number, `word` that of one that may be None."""
    (task_id, sequence, state, queue, updated, priority, kind, model, labels) = stored[:9]
    (attempt, failures, actor, submitted, started, ended, resume_at) = stored[9:16]
    (reason, stop_reason, *tokens, cost, simulated, message, title, by, dropped) = stored[16:]
    return Row(
        id=task_id,
        sequence=sequence,
        state=text(state),
        queue=text(queue),
        updated=updated,
        priority=text(priority),
        kind=text(kind),
        model=word(model),
        labels=labels or "",
        attempt=attempt,
        failures=failures,
        actor=text(actor),
        submitted=None if submitted is None else updated + submitted,
        started=None if started is None else updated + started,
        ended=None if ended is None else updated + ended,
        resume_at=None if resume_at is None else updated + resume_at,
        reason=word(reason),
        stop_reason=word(stop_reason),
        usage=Usage(*tokens),
        cost=cost,
        simulated=bool(simulated),
        message=message or "",
        title=title or "",
        by=word(by) or "",
        dropped=bool(dropped),
    )
