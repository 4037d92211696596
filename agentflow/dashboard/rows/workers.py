"""The workers as rows: the last heartbeat of each, and what it means at the moment of the scene."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.rows.units import Instant, instant
from agentflow.dashboard.store.store import Actor


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker. `state` is busy, idle, draining or lost; `loads` is the percent of its slots that
    were used, the most of each 15 seconds, the newest last.
    """

    name: str
    actor: str
    state: str
    host: str
    pid: int
    version: str
    queues: list[str]
    kinds: list[str]
    slots: int
    running: int
    held: int
    done: int
    failed: int
    heard: Instant
    silent_s: float
    started: datetime
    rss_bytes: int | None
    loop_lag_ms: float | None
    notes: list[str]
    pools: dict[str, Any]
    tasks: list[str]
    simulated: bool
    loads: list[int]


def workers(scene: Scene) -> list[Worker]:
    """All of them, by name; made anew at most once a second."""
    store, now = scene.store, scene.now
    return scene.lately(
        "workers", lambda: [_worker(actor, now, store.heard_by(now)) for actor in store.workers()]
    )


def _worker(actor: Actor, now: float, heard_by: float) -> Worker:
    beat = actor.beat
    return Worker(
        name=beat.name,
        actor=beat.actor,
        state=worker_state(actor, heard_by),
        host=beat.host,
        pid=beat.pid,
        version=beat.version,
        queues=beat.queues,
        kinds=beat.kinds,
        slots=beat.slots,
        running=beat.running,
        held=beat.held,
        done=beat.done,
        failed=beat.failed,
        heard=instant(actor.at),
        silent_s=round(actor.age(now), 1),
        started=beat.started,
        rss_bytes=beat.rss_bytes,
        loop_lag_ms=beat.loop_lag_ms,
        notes=beat.notes,
        pools=beat.pools,
        tasks=[task.id for task in beat.tasks],
        simulated=beat.simulated,
        loads=list(actor.loads),
    )


def worker_state(actor: Actor, now: float) -> str:
    """One word for a worker."""
    if actor.lost(now):
        return "lost"
    if actor.beat.stopping:
        return "draining"
    return "busy" if actor.beat.running else "idle"
