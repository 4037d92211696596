"""What is asked of the master on `agentflow.api.*`, and what it answers. JSON both ways.

    get      {"id": "..."}       -> Tasks: the task, or those whose id begins so (at most 10)
    list     ListRequest         -> Tasks: newest first; `total` counts all that match
    stats    {}                  -> StatsView
    workers  {}                  -> Workers
    submit   a task              -> Submitted; headers Agentflow-Queue and Agentflow-Priority
    run      a task              -> its final record, once it has ended, whatever its state

`get` takes a bare id too, and an empty payload is `{}`. A task is what a task message is: JSON or
plain text, with the same headers.

A failure is answered as NATS services do: header `Nats-Service-Error-Code` (400: the request is
wrong), body {"error": {"type": ..., "message": ...}}.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from agentflow.protocol.batches import Progress
from agentflow.protocol.record import Usage

LIST: Final = "list"
GET: Final = "get"
STATS: Final = "stats"
WORKERS: Final = "workers"
SUBMIT: Final = "submit"
RUN: Final = "run"

QUEUE: Final = "Agentflow-Queue"
"""Header of submit and run; a task message has its queue in the subject."""

TEXT_HEAD: Final = 200
"""Characters of a result's text in an answer; the whole is in the record."""
PREFIX_MATCHES: Final = 10
LIST_DEFAULT: Final = 50
LIST_MOST: Final = 1000
"""Tasks in one answer; `after` gives the next."""

ERROR_CODE: Final = "Nats-Service-Error-Code"
ERROR_TEXT: Final = "Nats-Service-Error"


class ListRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which tasks; all conditions must hold. `after` is the `next` of the answer before.

    `states` are several instead of one `state`, `since` the earliest last change, `query` is in
    the language of views/query.py.
    """

    state: str | None = None
    states: list[str] = []
    kind: str | None = None
    since: datetime | None = None
    query: str | None = None
    queue: str | None = None
    label: dict[str, str] = {}
    limit: int = LIST_DEFAULT
    after: str | None = None


class GetRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An id, or how it begins."""

    id: str


class Tasks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to list and get; `next` is the cursor for the following page, if there is one.

    A task in it is what views/api.py makes of it, and reads again.
    """

    tasks: list[dict[str, Any]] = []
    total: int = 0
    next: str | None = None


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """A queue: what waits in it, and who serves it.

    `depth` counts waiting messages by priority; `oldest_s` is how long the oldest has waited.
    """

    queue: str
    queued: int = 0
    unserved: bool = False
    running: int = 0
    parked: int = 0
    depth: dict[str, int] = {}
    workers: int = 0
    slots: int = 0
    oldest_s: float | None = None


class GateView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something paused or closed: a `queue`, a `kind`, or a `pool` with the family after a dot.

    `until` None: until a person resumes it. `key` is its key in the bucket.
    """

    key: str
    what: str
    name: str
    since: datetime
    until: datetime | None = None
    reason: str = ""
    actor: str = ""
    error_code: str | None = None
    request_id: str | None = None
    message: str | None = None


class StatsView(msgspec.Struct, frozen=True, kw_only=True):
    """The whole at a glance. `counts` has a number for every state, `queued` included.

    `cost_usd` sums what is known; `cost_unknown` counts tasks whose model has no price.
    """

    counts: dict[str, int] = {}
    queues: list[QueueView] = []
    gates: list[GateView] = []
    workers: int = 0
    lost_workers: int = 0
    usage: Usage = Usage()
    cost_usd: float = 0.0
    cost_unknown: int = 0
    simulated: int = 0
    notes: list[str] = []
    tasks_known: int = 0
    ready: bool = True
    """False while the index is still being rebuilt from the streams."""
    master: str = ""
    version: str = ""
    since: datetime | None = None


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as its heartbeats show it; `age_s` is the time since the last one."""

    actor: str
    name: str
    pid: int
    host: str
    role: str = "worker"
    queues: list[str] = []
    kinds: list[str] = []
    slots: int = 0
    running: int = 0
    held: int = 0
    done: int = 0
    failed: int = 0
    lost: bool = False
    stopping: bool = False
    last_heartbeat: datetime | None = None
    age_s: float = 0.0
    version: str = ""
    rss_bytes: int | None = None
    loop_lag_ms: float | None = None
    simulated: bool = False
    notes: list[str] = []
    batches: list[Progress] = []


class Workers(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to workers: the living first, then the lost; `total` of all that are known."""

    workers: list[WorkerView] = []
    total: int = 0


class Submitted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to submit: the task is stored as this message; `unserved`: nobody takes it now."""

    id: str
    queue: str
    priority: str
    sequence: int
    unserved: bool = False


class ServiceError(msgspec.Struct, frozen=True):
    """What went wrong with a request."""

    type: str = ""
    message: str = ""


class ErrorBody(msgspec.Struct, frozen=True):
    """Body of an answer that is an error."""

    error: ServiceError = ServiceError()
