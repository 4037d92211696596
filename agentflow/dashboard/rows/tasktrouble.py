"""What needs a person about the tasks themselves: kinds, retries, dead letters, long runs. Pure."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import Final

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.amounts import span
from agentflow.dashboard.rows.need import Item
from agentflow.dashboard.store.store import Actor
from agentflow.protocol.record import State
from agentflow.rules import presence
from agentflow.views import query

UNKNOWN_KIND: Final = "unknown_kind"
STORM: Final = 20
"""Tasks that wait for another try, as many as run at least, that are worth a line."""
BACKLOG: Final = 100
"""Dead letters that are worth a line."""
SAMPLES: Final = 50
"""Runs of a kind that must have ended before another one is called long."""
FAR: Final = 3.0
"""Times the 99th percentile of its kind."""
LONG: Final = 60.0
"""Seconds below which no run is called long."""
LEARNED_EVERY: Final = 30.0
SHOWN: Final = 3


def unknown_kinds(scene: Scene, up: Collection[Actor]) -> Iterator[Item]:
    """Tasks of a kind that no worker has, which nothing but another worker can run."""
    if not up:
        return  # that there is none is said already
    store = scene.store
    waiting: Counter[str] = Counter()
    for task_id in store.totals.parked:
        row = store.rows.get(task_id)
        if row is not None and row.reason == UNKNOWN_KIND:
            waiting[row.kind] += 1
    for kind, number in waiting.most_common(SHOWN):
        if any(presence.knows(actor.beat, kind) for actor in up):
            continue  # somebody has come meanwhile; they are tried again
        yield Item(
            "crit",
            f"no worker has kind {kind}",
            f"{number:,} task{'s' * (number != 1)} wait{'s' * (number == 1)} for one",
            "agentflow worker with it",
            "show_tasks",
            query.term("kind", kind),
        )


def retry_storm(scene: Scene) -> Iterator[Item]:
    """As much is tried again as runs: something is broken for all of them."""
    store = scene.store
    reasons: Counter[str] = Counter()
    for task_id in store.totals.parked:
        row = store.rows.get(task_id)
        if row is not None and row.state == State.RETRYING and row.reason != UNKNOWN_KIND:
            reasons[row.reason or "failed"] += 1
    number = reasons.total()
    if number < STORM or number < len(store.totals.running):
        return
    told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(SHOWN))
    yield Item(
        "warn",
        f"{number:,} tasks wait for another try",
        told,
        "key 2: tasks",
        "show_tasks",
        "state:retrying",
    )


def backlog(scene: Scene) -> Iterator[Item]:
    """Letters that nobody has looked at."""
    if scene.live and scene.store.dead >= BACKLOG:
        yield Item(
            "warn",
            f"{scene.store.dead:,} dead letters",
            "kept for 30 days, then gone",
            "key 6: dead letters",
            "view",
            "dead",
        )


def long_runs(scene: Scene) -> Iterator[Item]:
    """Runs far above what their kind takes."""
    usual = scene.lately("usual runs", lambda: _usual(scene), LEARNED_EVERY)
    for task_id in sorted(scene.store.totals.running):
        row = scene.store.rows.get(task_id)
        if row is None or (most := usual.get(row.kind)) is None:
            continue
        seconds = query.run(row, scene.now) or 0.0
        if seconds > max(LONG, FAR * most):
            yield Item(
                "warn",
                f"task {row.id} runs for {span(seconds)}",
                f"99 of 100 of kind {row.kind} took less than {span(most)}",
                f"agentflow why {shlex.quote(row.id)}",
                "open_task",
                row.id,
            )
            return  # one is enough to look; the table has the others


def _usual(scene: Scene) -> dict[str, float]:
    """By kind: the seconds that 99 of 100 runs took no longer than."""
    runs: defaultdict[str, list[int]] = defaultdict(list)
    for row in scene.store.rows.values():
        if row.state == State.SUCCEEDED and row.started is not None:
            runs[row.kind].append((row.ended or row.updated) - row.started)
    return {
        kind: sorted(each)[int(0.99 * (len(each) - 1))] / 1000
        for kind, each in runs.items()
        if len(each) >= SAMPLES
    }
