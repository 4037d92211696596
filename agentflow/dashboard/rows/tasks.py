"""A task as a row of a document."""

from __future__ import annotations

import msgspec

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.rows.units import Instant, dollars, instant_of_ms
from agentflow.protocol.record import Usage
from agentflow.views.row import Row, decode_labels


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task. `group` is the fingerprint of its error; `cost_usd` None: the price is unknown."""

    id: str
    state: str
    queue: str
    priority: str
    kind: str
    model: str | None
    labels: dict[str, str]
    attempt: int
    failures: int
    worker: str | None
    submitted: Instant | None
    started: Instant | None
    ended: Instant | None
    updated: Instant | None
    resume_at: Instant | None
    reason: str | None
    stop_reason: str | None
    error: str | None
    group: str | None
    usage: Usage
    cost_usd: float | None
    progress: float | None
    note: str | None
    simulated: bool


def task(scene: Scene, row: Row) -> Task:
    """The row of a task that the store has."""
    return Task(
        id=row.id,
        state=row.state,
        queue=row.queue,
        priority=row.priority,
        kind=row.kind,
        model=row.model,
        labels=decode_labels(row.labels) if row.labels else {},
        attempt=row.attempt,
        failures=row.failures,
        worker=scene.store.name_of(row.actor) if row.actor else None,
        submitted=instant_of_ms(row.submitted),
        started=instant_of_ms(row.started),
        ended=instant_of_ms(row.ended),
        updated=instant_of_ms(row.updated),
        resume_at=instant_of_ms(row.resume_at),
        reason=row.reason,
        stop_reason=row.stop_reason,
        error=row.error,
        group=row.fingerprint or None,
        usage=row.usage,
        cost_usd=None if row.cost is None else dollars(row.cost),
        progress=row.progress,
        note=row.note,
        simulated=row.simulated,
    )
