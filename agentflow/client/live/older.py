"""Unfinished tasks that a master knows, as rows: for who did not read records so old."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Final

import msgspec

from agentflow.client.asking import Asking
from agentflow.protocol.api import LIST_MOST, ListRequest, TaskView
from agentflow.protocol.record import State
from agentflow.views.failures import fingerprint
from agentflow.views.row import NOTE_CHARS, Row, encode_labels

STATES: Final = (State.RUNNING, State.RETRYING, State.SCHEDULED, State.QUEUED)
MOST: Final = 20_000
"""Tasks of one state; nobody looks at more, and a master has others to answer."""


async def older_rows(asking: Asking) -> AsyncGenerator[list[Row]]:
    """The unfinished tasks, newest first in each state. Raises MasterAbsent."""
    for state in STATES:
        request = ListRequest(state=state, limit=LIST_MOST)
        left = MOST
        while left > 0:
            answer = await asking.page(request)
            yield [row_of(view) for view in answer.tasks]
            left -= len(answer.tasks)
            if answer.next is None or not answer.tasks:
                break
            request = msgspec.structs.replace(request, after=answer.next)


def row_of(view: TaskView) -> Row:
    """A task of a list as a row."""
    error = view.error
    return Row(
        id=view.id,
        sequence=view.sequence,
        state=view.state,
        queue=view.queue,
        updated=_ms(view.updated) or 0,
        priority=view.priority,
        kind=view.kind,
        model=view.model,
        labels=encode_labels(view.labels),
        attempt=view.attempt,
        failures=view.failures,
        actor=view.actor,
        submitted=_ms(view.submitted),
        started=_ms(view.started),
        ended=_ms(view.ended),
        resume_at=_ms(view.resume_at),
        reason=view.reason,
        stop_reason=view.stop_reason,
        usage=view.usage,
        cost=None if view.cost_usd is None else round(view.cost_usd * 1_000_000),
        simulated=view.simulated,
        message=view.message,
        error=f"{error.type}: {error.message}"[:NOTE_CHARS] if error else None,
        fingerprint=fingerprint(view.reason or "failed", error).key if error else "",
    )


def _ms(instant: datetime | None) -> int | None:
    return None if instant is None else round(instant.timestamp() * 1000)
