"""A view as data: the same store and sums that the lines are made of. docs/dashboard.md lists it.

Instants are ISO 8601 in UTC, durations seconds, money US dollars. What is not known is null or left
out, never 0. Fields are added in later versions, and `v` grows when one changes its meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from agentflow.dashboard.reader.dashboard import Dashboard
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.store.store import Actor, Event
from agentflow.dashboard.store.totals import Spend, series, since
from agentflow.dashboard.views.attention import attention
from agentflow.dashboard.views.overview import worker_state
from agentflow.views.api import iso, row_json
from agentflow.views.row import Row

VERSION: Final = 1
ROWS: Final = 1000
"""Tasks that are listed at most, the newest first."""
WINDOW: Final = 600
DAY_MS: Final = 86_400_000

Facts = dict[str, Any]


def data(dash: Dashboard, now: float) -> str:
    """The open view, as JSON."""
    scene = dash.scene(now)
    found = _head(dash, scene) | _VIEWS.get(dash.view, _nothing)(scene)
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()


def _head(dash: Dashboard, scene: Scene) -> Facts:
    store = scene.store
    link = store.link
    states = {state: store.totals.state(state) for state in _STATES}
    states["queued"] = sum(store.waiting(queue) for queue in store.queues())
    return {
        "v": VERSION,
        "view": dash.view,
        "time": _iso(scene.now),
        "connected": bool(link and link.up),
        "server": link.url if link else None,
        "masters": [actor.beat.name for actor in store.masters() if not actor.lost(scene.now)],
        "simulated": any(actor.beat.simulated for actor in store.workers()),
        "complete": store.known.complete,
        "older": store.known.older + store.known.evicted,
        "states": states,
        "dead_letters": store.dead,
    }


_STATES: Final = (
    "queued",
    "running",
    "scheduled",
    "retrying",
    "succeeded",
    "failed",
    "cancelled",
)


def _overview(scene: Scene) -> Facts:
    totals, now = scene.store.totals, int(scene.now)
    since_ms = (now - WINDOW) * 1000
    minute = now // 60
    return {
        "attention": [
            {
                "level": item.level,
                "text": item.text,
                "evidence": item.evidence,
                "hint": item.hint,
            }
            for item in attention(scene)
        ],
        "flow": {
            "window_s": WINDOW,
            "done": since(totals.ends, now - WINDOW, now),
            "failed": since(totals.failures, now - WINDOW, now),
            "done_per_s": sum(series(totals.ends, now, 10)) / 10,
            "wait_s": _percentiles(totals.waits.percentiles(since_ms, now * 1000, *_SHARES)),
            "run_s": _percentiles(totals.runs.percentiles(since_ms, now * 1000, *_SHARES)),
            "cost_usd_per_min": _usd(totals.costs.get(minute - 1, 0)),
        },
        **_queues(scene),
        **_workers(scene),
        "running": [_task(scene, row) for row in _oldest_running(scene)],
    }


_SHARES: Final = (0.5, 0.95, 0.99)


def _percentiles(found: list[float | None]) -> Facts:
    return {
        name: None if value is None else round(value, 3)
        for name, value in zip(("p50", "p95", "p99"), found, strict=True)
    }


def _oldest_running(scene: Scene) -> list[Row]:
    rows = (scene.store.rows[task_id] for task_id in scene.store.totals.running)
    return sorted(rows, key=lambda row: row.started or 0)[:ROWS]


def _tasks(scene: Scene) -> Facts:
    newest = sorted(
        scene.store.rows.values(), key=lambda row: row.submitted or row.updated, reverse=True
    )
    return {
        "total": len(newest),
        "tasks": [_task(scene, row) for row in newest[:ROWS]],
    }


def _task(scene: Scene, row: Row) -> Facts:
    return row_json(row, scene.store.name_of(row.actor) if row.actor else None)


def _workers(scene: Scene) -> Facts:
    return {"workers": [_worker(scene, actor) for actor in scene.store.workers()]}


def _worker(scene: Scene, actor: Actor) -> Facts:
    beat = actor.beat
    return {
        "name": beat.name,
        "actor": beat.actor,
        "state": worker_state(actor, scene.now),
        "host": beat.host,
        "pid": beat.pid,
        "version": beat.version,
        "queues": beat.queues,
        "kinds": beat.kinds,
        "slots": beat.slots,
        "running": beat.running,
        "held": beat.held,
        "done": beat.done,
        "failed": beat.failed,
        "heard": _iso(actor.at),
        "silent_s": round(actor.age(scene.now), 1),
        "started": beat.started,
        "rss_bytes": beat.rss_bytes,
        "loop_lag_ms": beat.loop_lag_ms,
        "notes": beat.notes,
        "pools": beat.pools,
        "tasks": [task.id for task in beat.tasks],
        "simulated": beat.simulated,
    }


def _queues(scene: Scene) -> Facts:
    store = scene.store
    paused = {gate.name: gate for gate in store.gates if gate.what == "queue"}
    found = []
    for name in store.queues():
        depth = store.depths.get(name)
        # An unknown queue must not come into being by being asked for.
        states = dict(store.totals.states.get(name, {}))
        states["queued"] = store.waiting(name)
        found.append(
            {
                "queue": name,
                "states": states,
                "waiting": depth.waiting if depth else {},
                "oldest_s": round(scene.now - depth.oldest, 1) if depth and depth.oldest else None,
                "paused": name in paused,
                "paused_by": paused[name].actor or None if name in paused else None,
                "workers": sum(
                    name in actor.beat.queues and not actor.lost(scene.now)
                    for actor in store.workers()
                ),
            }
        )
    return {"queues": found, "gates": [msgspec.to_builtins(gate) for gate in store.gates]}


def _costs(scene: Scene) -> Facts:
    totals, now_ms = scene.store.totals, int(scene.now * 1000)
    accounts: dict[tuple[str, str, str], Spend] = {}
    for _, account, spend in totals.booked(now_ms - now_ms % DAY_MS):
        accounts.setdefault(account, Spend()).include(spend)
    minute = int(scene.now) // 60
    return {
        "since": iso(now_ms - now_ms % DAY_MS),
        "cost_usd": {
            "today": _usd(since(totals.costs, minute - minute % 1440, minute + 1)),
            "hour": _usd(since(totals.costs, minute - 60, minute + 1)),
        },
        "accounts": [
            {
                "model": model or None,
                "queue": queue,
                "kind": kind,
                "tasks": spend.tasks,
                "cost_usd": _usd(spend.cost),
                "wasted_usd": _usd(spend.wasted),
                "without_price": spend.unknown,
                "input_tokens": spend.input,
                "output_tokens": spend.output,
                "cache_read_tokens": spend.cache_read,
                "cache_write_tokens": spend.cache_write,
            }
            for (model, queue, kind), spend in sorted(
                accounts.items(), key=lambda pair: -pair[1].cost
            )
        ],
    }


def _dead(scene: Scene) -> Facts:
    """By what went wrong; from the rows of failed tasks, so the newest that are known."""
    groups: dict[str, list[Row]] = {}
    for task_id in scene.store.totals.failed:
        row = scene.store.rows.get(task_id)
        if row is not None:
            groups.setdefault(row.fingerprint, []).append(row)
    return {
        "groups": [
            {
                "group": group or None,
                "tasks": len(rows),
                "reason": rows[0].reason,
                "error": rows[0].error,
                "first": iso(min(row.updated for row in rows)),
                "last": iso(max(row.updated for row in rows)),
                "wasted_usd": _usd(sum(row.cost or 0 for row in rows)),
                "ids": [row.id for row in rows][:ROWS],
            }
            for group, rows in sorted(groups.items(), key=lambda pair: -len(pair[1]))
        ]
    }


def _events(scene: Scene) -> Facts:
    return {"events": list(_told(scene.store.events))}


def _told(events: Any) -> Iterator[Facts]:
    event: Event
    for event in events:
        row = event.row
        if row is None:
            yield {"time": _iso(event.at), "subject": event.subject, "text": event.text}
        else:
            yield {
                "time": _iso(event.at),
                "task": row.id,
                "state": row.state,
                "queue": row.queue,
                "attempt": row.attempt,
                "reason": row.reason,
                "error": row.error,
            }


def _nothing(scene: Scene) -> Facts:
    return {}


_VIEWS: Final[dict[str, Callable[[Scene], Facts]]] = {
    "overview": _overview,
    "tasks": _tasks,
    "workers": _workers,
    "queues": _queues,
    "costs": _costs,
    "dead": _dead,
    "events": _events,
}


def _usd(micro: int) -> float:
    return micro / 1_000_000


def _iso(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
