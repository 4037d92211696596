"""What needs a person, the worst first, each with the command that looks into it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from agentflow.protocol.record import State
from agentflow.rules import gateviews
from tui.model.amounts import clock, span
from tui.model.scene import Scene

LATELY: Final = 15 * 60
BURST: Final = 3
"""Failures of one sort within `LATELY` that are worth a line."""
OLD: Final = 600.0
"""Seconds a task may wait in a served queue before it is worth a line."""
TIGHT: Final = 0.15
"""Share of a rate limit that is left when it is worth a line."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that needs a person: what, the evidence, and the command that leads there."""

    level: str
    text: str
    evidence: str
    hint: str
    command: str = ""
    argument: str = ""


def attention(scene: Scene) -> list[Item]:
    """All of it, worst first."""
    found = [item for rule in _RULES for item in rule(scene)]
    return sorted(found, key=lambda item: item.level != "crit")


def _lost_workers(scene: Scene) -> Iterator[Item]:
    for actor in scene.store.workers():
        if scene.live and actor.lost(scene.now):
            beat = actor.beat
            holds = beat.running + beat.held
            yield Item(
                "crit" if holds else "warn",
                f"worker {beat.name} is lost, silent for {span(actor.age(scene.now))}",
                f"it had {holds:,} tasks; they are taken over after its lease",
                "3 workers",
                "view",
                "workers",
            )


def _closed_gates(scene: Scene) -> Iterator[Item]:
    for gate in scene.store.gates:
        if gate.until is not None and gate.until.timestamp() <= scene.now:
            continue
        if gate.what == gateviews.POOL:
            until = f"until {clock(gate.until.timestamp())}" if gate.until else "until resumed"
            yield Item(
                "crit" if gateviews.alerting(gate) else "warn",
                f"{gate.name} is closed ({gate.reason}) {until}",
                gate.message or gate.error_code or "",
                gateviews.remedy(gate),
                "view",
                "queues",
            )
        else:
            yield Item(
                "warn",
                f"{gate.what} {gate.name} is paused since {clock(gate.since.timestamp())}",
                f"by {gate.actor}: {gate.reason}" if gate.actor else gate.reason,
                "4 queues",
                "view",
                "queues",
            )


def _unserved_queues(scene: Scene) -> Iterator[Item]:
    if not scene.live:
        return
    served = {
        queue
        for actor in scene.store.workers()
        if not actor.lost(scene.now) and not actor.beat.stopping
        for queue in actor.beat.queues
    }
    for name, depth in sorted(scene.store.depths.items()):
        if depth.messages and name not in served and not depth.pulls:
            yield Item(
                "crit",
                f"no worker serves queue {name}",
                f"{depth.messages:,} tasks wait",
                f"agentflow worker --queues {name}",
                "view",
                "queues",
            )
        elif depth.oldest is not None and scene.now - depth.oldest > OLD:
            yield Item(
                "warn",
                f"queue {name}: the oldest task waits for {span(scene.now - depth.oldest)}",
                f"{sum(depth.waiting.values()):,} wait",
                "4 queues",
                "view",
                "queues",
            )


def _failures(scene: Scene) -> Iterator[Item]:
    since = (scene.now - LATELY) * 1000
    groups: Counter[str] = Counter()
    example: dict[str, str] = {}
    for task_id, at in scene.store.totals.failed.items():
        row = scene.store.rows.get(task_id)
        if row is not None and since <= at <= scene.now * 1000:
            groups[row.fingerprint] += 1
            example.setdefault(row.fingerprint, row.error or row.reason or "failed")
    for group, number in groups.most_common(3):
        if number >= BURST:
            yield Item(
                "crit",
                f"{number:,} failed of one cause in {span(LATELY)}",
                example[group],
                "6 dead letters",
                "view",
                "dead",
            )


def _no_master(scene: Scene) -> Iterator[Item]:
    link = scene.store.link
    if not scene.live or link is None or not link.up:
        return
    if scene.now - scene.store.linked_at < 5:
        return  # it may not have said anything yet
    if not any(not each.lost(scene.now) for each in scene.store.masters()):
        yield Item(
            "warn",
            "no master answers",
            "tasks flow on, lost ones wait",
            "agentflow master",
        )
    if not scene.store.workers() and scene.store.totals.state(State.QUEUED):
        yield Item("crit", "there is no worker", "nothing starts", "agentflow worker")


def _limits(scene: Scene) -> Iterator[Item]:
    for actor in scene.store.workers():
        if actor.lost(scene.now):
            continue
        for note in actor.beat.notes:
            if "lag" in note or "blocks" in note:
                yield Item(
                    "warn", f"worker {actor.beat.name}: {note}", "", "3 workers", "view", "workers"
                )


_RULES: Final[tuple[Callable[[Scene], Iterator[Item]], ...]] = (
    _lost_workers,
    _closed_gates,
    _unserved_queues,
    _failures,
    _no_master,
    _limits,
)
