"""A view as one document, for scripts and pages: `agentflow tui --once --format json`.

Instants are ISO 8601 in UTC, durations seconds, money US dollars. What is not known is null or left
out, never 0. Fields are added in later versions, and `v` grows when one changes its meaning.
docs/dashboard.md lists them, and docs/dashboard.schema.json is made from the types here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.rows.attention import attention
from agentflow.dashboard.rows.batches import Batch, batches
from agentflow.dashboard.rows.costs import DAY_MS, Account, Recent, accounts, recent
from agentflow.dashboard.rows.dead import Group, groups
from agentflow.dashboard.rows.flow import Flow, flow
from agentflow.dashboard.rows.limits import Route, routes
from agentflow.dashboard.rows.need import Item
from agentflow.dashboard.rows.queues import Queue, queues
from agentflow.dashboard.rows.tasks import Task, task
from agentflow.dashboard.rows.units import Instant, dollars, instant
from agentflow.dashboard.rows.workers import Worker, workers
from agentflow.dashboard.store.store import Event
from agentflow.protocol.api import GateView

VERSION: Final = 1
ROWS: Final = 1000
"""Tasks that are listed at most, the newest first."""
STATES: Final = (
    "queued",
    "running",
    "scheduled",
    "retrying",
    "waiting",
    "succeeded",
    "failed",
    "cancelled",
)


class Document(msgspec.Struct, frozen=True, kw_only=True, tag_field="view"):
    """What every view has. `older` counts what is known to exist and is not listed."""

    v: int
    time: Instant
    connected: bool
    server: str | None
    masters: list[str]
    simulated: bool
    complete: bool
    older: int
    states: dict[str, int]
    dead_letters: int


class Overview(Document, frozen=True, kw_only=True, tag="overview"):
    """What needs a person, what flows, who works, and what runs, the oldest first."""

    attention: list[Item]
    flow: Flow
    queues: list[Queue]
    gates: list[GateView]
    workers: list[Worker]
    running: list[Task]


class Tasks(Document, frozen=True, kw_only=True, tag="tasks"):
    """The newest tasks, and how many are known."""

    total: int
    tasks: list[Task]


class Workers(Document, frozen=True, kw_only=True, tag="workers"):
    """The workers."""

    workers: list[Worker]


class Queues(Document, frozen=True, kw_only=True, tag="queues"):
    """The queues, and all that is paused or closed."""

    queues: list[Queue]
    gates: list[GateView]


class Costs(Document, frozen=True, kw_only=True, tag="costs"):
    """What was spent since `since`, midnight UTC; the limits of each route, and the batches."""

    since: Instant
    cost_usd: Recent
    accounts: list[Account]
    routes: list[Route]
    batches: list[Batch]


class Dead(Document, frozen=True, kw_only=True, tag="dead"):
    """The failed tasks by cause."""

    groups: list[Group]


class Happened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened: to a task, or to what `subject` names.

    Of a task it has `task`, `state`, `queue`, `attempt`, `reason` and `error`; else `subject` and
    `text`.
    """

    time: Instant
    task: str | msgspec.UnsetType = msgspec.UNSET
    state: str | msgspec.UnsetType = msgspec.UNSET
    queue: str | msgspec.UnsetType = msgspec.UNSET
    attempt: int | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType | None = msgspec.UNSET
    error: str | msgspec.UnsetType | None = msgspec.UNSET
    subject: str | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET


class Events(Document, frozen=True, kw_only=True, tag="events"):
    """What happened, the newest last."""

    events: list[Happened]


AnyDocument = Overview | Tasks | Workers | Queues | Costs | Dead | Events


def document(view: str, scene: Scene) -> AnyDocument:
    """A view of the scene, whole. Raises KeyError for one that is about a single thing."""
    return DOCUMENTS[view](scene)


def encode(written: AnyDocument) -> str:
    """A document as JSON, for people too."""
    return msgspec.json.format(msgspec.json.encode(written), indent=2).decode()


def schema() -> dict[str, Any]:
    """The JSON schema of all documents."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "agentflow tui --once --format json",
        **msgspec.json.schema(AnyDocument),
    }


def head(scene: Scene) -> dict[str, Any]:
    """What every document has, whatever its view: the fields of `Document`."""
    store = scene.store
    link = store.link
    states = {state: store.totals.state(state) for state in STATES}
    states["queued"] = sum(store.waiting(queue) for queue in store.queues())
    return {
        "v": VERSION,
        "time": instant(scene.now),
        "connected": bool(link and link.up),
        "server": link.url if link else None,
        "masters": [
            actor.beat.name
            for actor in store.masters()
            if not actor.lost(store.heard_by(scene.now))
        ],
        "simulated": any(actor.beat.simulated for actor in store.workers()),
        "complete": store.whole(),
        "older": store.known.older + store.known.evicted,
        "states": states,
        "dead_letters": store.dead,
    }


def _overview(scene: Scene) -> Overview:
    rows = [scene.store.rows[task_id] for task_id in scene.store.totals.running]
    oldest = sorted(rows, key=lambda row: row.started or 0)[:ROWS]
    return Overview(
        **head(scene),
        attention=attention(scene),
        flow=flow(scene),
        queues=queues(scene),
        gates=scene.store.gates,
        workers=workers(scene),
        running=[task(scene, row) for row in oldest],
    )


def _tasks(scene: Scene) -> Tasks:
    rows = scene.store.rows.values()
    newest = sorted(rows, key=lambda row: row.submitted or row.updated, reverse=True)[:ROWS]
    return Tasks(**head(scene), total=len(rows), tasks=[task(scene, row) for row in newest])


def _workers(scene: Scene) -> Workers:
    return Workers(**head(scene), workers=workers(scene))


def _queues(scene: Scene) -> Queues:
    return Queues(**head(scene), queues=queues(scene), gates=scene.store.gates)


def _costs(scene: Scene) -> Costs:
    now_ms = int(scene.now * 1000)
    today, hour = recent(scene.store.totals, scene.now)
    return Costs(
        **head(scene),
        since=instant((now_ms - now_ms % DAY_MS) / 1000),
        cost_usd=Recent(today=dollars(today), hour=dollars(hour)),
        accounts=accounts(scene),
        routes=routes(scene),
        batches=batches(scene),
    )


def _dead(scene: Scene) -> Dead:
    return Dead(**head(scene), groups=groups(scene))


def _events(scene: Scene) -> Events:
    return Events(**head(scene), events=[_happened(event) for event in scene.store.events])


def _happened(event: Event) -> Happened:
    row = event.row
    if row is None:
        return Happened(time=instant(event.at), subject=event.subject, text=event.text)
    return Happened(
        time=instant(event.at),
        task=row.id,
        state=row.state,
        queue=row.queue,
        attempt=row.attempt,
        reason=row.reason,
        error=row.error,
    )


DOCUMENTS: Final[dict[str, Callable[[Scene], AnyDocument]]] = {
    "overview": _overview,
    "tasks": _tasks,
    "workers": _workers,
    "queues": _queues,
    "costs": _costs,
    "dead": _dead,
    "events": _events,
}
