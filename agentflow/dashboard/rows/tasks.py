"""A task as a row of a document."""

from __future__ import annotations

import msgspec

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.rows.units import Instant
from agentflow.protocol.record import Usage
from agentflow.views.api import row_json
from agentflow.views.row import Row


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task. `group` is the fingerprint of its error; `cost_usd` None: the price is unknown.

    `by` is who cancelled it, or dropped (`dropped`) its dead letter.
    """

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
    title: str | None
    by: str | None
    dropped: bool
    simulated: bool


def task(scene: Scene, row: Row) -> Task:
    """The row of a task that the store has."""
    return Task(**row_json(row, scene.store.name_of(row.actor) if row.actor else None))
