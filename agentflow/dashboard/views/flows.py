"""What flows through the queues, a line each and one for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agentflow.dashboard.reader.column import Column
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.amounts import count, rate, span, sparks
from agentflow.dashboard.rows.queues import SPARK, Queue, queues

COUNTED: Final = ("queued", "running", "retrying", "scheduled", "ended")
FAILED: Final = "lately failed"


@dataclass(frozen=True, slots=True)
class Flow:
    """What flows through a queue, or through all of them (`name` "all")."""

    name: str
    states: dict[str, int]
    dead: int | None
    oldest: float | None
    per_second: float
    ends: list[int]


def _count(state: str, title: str, width: int, drop: int, key: str | None = None) -> Column[Flow]:
    key = key or state
    return Column(
        key,
        title,
        width,
        lambda flow, scene: (
            # A task that no worker has seen has no record.
            count(flow.states.get(key, 0)) if scene.live or key != "queued" else "-"
        ),
        token=lambda flow, scene: f"state.{state}" if flow.states.get(key) else "dim",
        right=True,
        drop=drop,
    )


def flow_columns(scene: Scene, spark: int) -> list[Column[Flow]]:
    sign = scene.glyph
    return [
        Column(
            "queue",
            "QUEUE",
            9,
            lambda flow, scene: flow.name,
            token=lambda flow, scene: "bold" if flow.name == "all" else "text",
            grows=True,
            most=24,
        ),
        _count("queued", f"{sign('queued')} QUEUED", 8, 0),
        _count("running", f"{sign('running')} RUNNING", 9, 0),
        _count("retrying", f"{sign('retrying')} RETRY", 7, 1),
        _count("scheduled", f"{sign('scheduled')} SCHED", 7, 6),
        _count("succeeded", "ENDED", 8, 0, "ended"),
        _count("failed", f"{sign('failed')} FAILED", 8, 0, "lately failed"),
        Column(
            "dead",
            "DEAD",
            6,
            lambda flow, scene: (
                "" if flow.dead is None else count(flow.dead) if scene.live else "-"
            ),
            token=lambda flow, scene: "state.failed" if flow.dead else "dim",
            right=True,
            drop=3,
        ),
        Column(
            "oldest",
            "OLDEST",
            6,
            lambda flow, scene: span(flow.oldest),
            right=True,
            drop=5,
        ),
        Column("rate", "/S", 5, lambda flow, scene: rate(flow.per_second), right=True, drop=2),
        Column(
            "spark",
            "ENDED, 10 MIN",
            spark,
            lambda flow, scene: sparks([float(each) for each in flow.ends[-spark:]]),
            token=lambda flow, scene: "spark",
            drop=4,
        ),
    ]


def flows(scene: Scene, most: int) -> list[Flow]:
    """All that flows, and the queues with the most of it."""
    single = [_flow(queue) for queue in queues(scene)]
    ends = [sum(parts) for parts in zip(*(flow.ends for flow in single), strict=True)]
    whole = Flow(
        "all",
        {key: sum(flow.states.get(key, 0) for flow in single) for key in (*COUNTED, FAILED)},
        scene.store.dead,
        max((flow.oldest for flow in single if flow.oldest is not None), default=None),
        sum(flow.per_second for flow in single),
        ends or [0] * SPARK,
    )
    single.sort(key=lambda flow: -sum(flow.states.get(key, 0) for key in COUNTED))
    return [whole, *single[:most]]


def _flow(queue: Queue) -> Flow:
    states = queue.states | {"ended": sum(queue.ended), FAILED: queue.failed}
    return Flow(queue.queue, states, None, queue.oldest_s, queue.ended_per_s, queue.ended)


def tokens_a_second(scene: Scene) -> float:
    """Tokens that the running tasks generate a second, as the last heartbeats say."""
    return sum(
        flow.rate
        for actor in scene.store.actors.values()
        if not actor.lost(scene.store.heard_by(scene.now))
        for flow in actor.flows.values()
    )
