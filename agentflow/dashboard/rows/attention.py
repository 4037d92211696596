"""What needs a person, the worst first, each with its evidence and what mends it. Pure.

A rule is a generator over the facts; `_RULES` has them in the order in which their items are shown.
What one rule says no other says again: of a paused queue nobody need hear that it has no workers.
"""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.amounts import short, span
from agentflow.dashboard.rows import tasktrouble
from agentflow.dashboard.rows.headroom import headroom
from agentflow.dashboard.rows.need import Item
from agentflow.dashboard.store.store import Actor
from agentflow.protocol.record import State
from agentflow.rules import presence
from agentflow.views import gates as gateviews
from agentflow.views import query

LATELY: Final = 15
"""Minutes that failures are looked at for."""
BURST: Final = 3
"""Failures of one sort within `LATELY` that are worth a line."""
OLD: Final = 600.0
"""Seconds a task may wait in a served queue before it is worth a line."""
TIGHT: Final = 0.15
"""Share of a rate limit that is left when it is worth a line."""
LAG_MS: Final = 500.0
"""How late an event loop may be: leases are renewed every five seconds."""
ORPHANED: Final = 30.0
"""Seconds after which a task of an actor that nobody has heard is worth a line."""
NAMED: Final = 3
"""Workers that have a line of their own; more share one."""


@dataclass(slots=True)
class _Facts:
    scene: Scene
    up: list[Actor] = field(default_factory=list)
    lost: list[Actor] = field(default_factory=list)

    def __post_init__(self) -> None:
        store = self.scene.store
        for actor in store.workers():
            (
                self.lost if actor.lost(self.scene.store.heard_by(self.scene.now)) else self.up
            ).append(actor)

    @property
    def heard(self) -> bool:
        """Whether everybody who lives has been heard, so that silence means something."""
        link = self.scene.store.link
        return (
            self.scene.live
            and link is not None
            and link.up
            and presence.is_settled(self.scene.store.linked_at, self.scene.now)
        )

    def paused(self) -> set[str]:
        """The queues that are paused."""
        return {gate.name for gate in self.scene.store.gates if gate.what == gateviews.QUEUE}


def attention(scene: Scene) -> list[Item]:
    """All of it, worst first; made anew at most once a second."""
    return scene.lately("attention", lambda: _attention(scene))


def _attention(scene: Scene) -> list[Item]:
    facts = _Facts(scene)
    items: dict[tuple[str, str], Item] = {}
    for rule in _RULES:
        for item in rule(facts):
            items.setdefault((item.text, item.evidence), item)
    return sorted(items.values(), key=lambda item: item.level != "crit")


def _closed_pools(facts: _Facts) -> Iterator[Item]:
    scene = facts.scene
    for gate in scene.store.gates:
        if gate.what != gateviews.POOL:
            continue
        if gate.until is not None and gate.until.timestamp() <= scene.now:
            continue
        until = f"until {scene.clock(gate.until.timestamp())}" if gate.until else "until resumed"
        why = gate.message or gate.error_code or ""
        yield Item(
            "crit" if gateviews.alerting(gate) else "warn",
            f"pool {gate.name} is closed {until} ({gate.reason or 'no reason'})",
            why,
            gateviews.remedy(gate) if gate.until is None else "key 4: queues",
            "view",
            "queues",
        )


def _no_worker(facts: _Facts) -> Iterator[Item]:
    if not facts.heard or facts.up:
        return
    waiting = facts.scene.store.totals.state(State.QUEUED)
    verb = "waits" if waiting == 1 else "wait"
    evidence = f"{_tasks(waiting)} {verb}" if waiting else "a task would wait"
    yield Item("crit" if waiting else "warn", "there is no worker", evidence, "agentflow worker")


def _lost_workers(facts: _Facts) -> Iterator[Item]:
    if not facts.heard:
        return
    scene = facts.scene
    holding = []
    for actor in facts.lost:
        # What its tasks' logs say counts; before they are read, what it said itself.
        logged = scene.store.totals.running_by[actor.beat.actor]
        known = scene.store.known.complete
        holding.append((logged if known else max(logged, actor.beat.running), actor))
    holding.sort(key=lambda each: -each[0])
    for number, actor in holding[:NAMED]:
        yield Item(
            "crit" if number else "warn",
            f"worker {actor.beat.name} is lost" + (f" with {_tasks(number)}" if number else ""),
            f"silent for {span(actor.age(scene.now))}"
            + ("; others take them over" if number else ""),
            "key 3: workers",
            "view",
            "workers",
        )
    if rest := holding[NAMED:]:
        number = sum(each[0] for each in rest)
        yield Item(
            "crit" if number else "warn",
            f"{len(rest):,} more workers are lost with {_tasks(number)}",
            ", ".join(actor.beat.name for _, actor in rest[:5]),
            "key 3: workers",
            "view",
            "workers",
        )


def _orphans(facts: _Facts) -> Iterator[Item]:
    """Tasks that run where nobody is: their worker said goodbye, or was lost long ago."""
    if not facts.heard:
        return
    store, now = facts.scene.store, facts.scene.now
    gone = {actor for actor in store.totals.running_by if actor not in store.actors}
    if not gone:
        return
    orphans = []
    for task_id in store.totals.running:
        row = store.rows.get(task_id)
        # Between a claim and the first heartbeat of a new worker lie two seconds.
        if row is not None and row.actor in gone and now - row.updated / 1000 > ORPHANED:
            orphans.append(task_id)
    if orphans:
        orphans.sort()
        verb = "runs" if len(orphans) == 1 else "run"
        yield Item(
            "crit",
            f"{_tasks(len(orphans))} {verb} on workers that are gone",
            ", ".join(orphans[:3]) + ("" if len(orphans) < 4 else ", ..."),
            "key 2: tasks",
            "show_tasks",
            "state:running " + query.term("worker", sorted(gone)[0])
            if len(gone) == 1
            else "state:running",
        )


def _unserved(facts: _Facts) -> Iterator[Item]:
    if not facts.heard or not facts.up:
        return
    serving = presence.by_queue(actor.beat for actor in facts.up)
    paused = facts.paused()
    for name, depth in sorted(facts.scene.store.depths.items()):
        workers = serving[name].workers if name in serving else 0
        if name not in paused and presence.is_unserved(
            messages=depth.messages, workers=workers, pulls=depth.pulls
        ):
            yield Item(
                "crit",
                f"no worker serves queue {name}",
                f"{_tasks(depth.messages)} wait",
                f"agentflow worker --queues {shlex.quote(name)}",
                "view",
                "queues",
            )


def _failures(facts: _Facts) -> Iterator[Item]:
    store = facts.scene.store
    minute = int(facts.scene.now) // 60
    groups: Counter[str] = Counter()
    for cause, minutes in store.totals.causes.items():
        if number := sum(minutes.get(at, 0) for at in range(minute - LATELY, minute + 1)):
            groups[cause] = number
    many = [each for each in groups.most_common(NAMED) if each[1] >= BURST]
    if not many:
        return
    wanted = {cause for cause, _ in many}
    example: dict[str, str] = {}
    for task_id in reversed(store.totals.failed):
        row = store.rows.get(task_id)
        if row is not None and row.fingerprint in wanted and row.fingerprint not in example:
            example[row.fingerprint] = row.error or row.reason or ""
            if len(example) == len(wanted):
                break
    for cause, number in many:
        yield Item(
            "crit",
            f"{number:,} tasks failed of one cause in {LATELY}m",
            example.get(cause, cause),
            "key 6: dead letters",
            "view",
            "dead",
        )


def _paused(facts: _Facts) -> Iterator[Item]:
    scene = facts.scene
    for gate in scene.store.gates:
        if gate.what == gateviews.POOL:
            continue
        depth = scene.store.depths.get(gate.name) if gate.what == gateviews.QUEUE else None
        waiting = f", {_tasks(sum(depth.waiting.values()))} wait" if depth is not None else ""
        since = span(scene.now - gate.since.timestamp())
        by = f"by {gate.actor}" if gate.actor else ""
        why = gate.reason if gate.reason != "operator" else ""
        yield Item(
            "warn",
            f"{gate.what} {gate.name} is {gateviews.word(gate)}{waiting}",
            f"for {since}" + (f" {by}" if by else "") + (f": {why}" if why else ""),
            gateviews.remedy(gate),
            "view",
            "queues",
        )


def _old_queues(facts: _Facts) -> Iterator[Item]:
    scene = facts.scene
    if not scene.live:
        return
    paused = facts.paused()
    for name, depth in sorted(scene.store.depths.items()):
        if depth.oldest is not None and scene.now - depth.oldest > OLD and name not in paused:
            served = any(name in actor.beat.queues for actor in facts.up)
            if served or depth.pulls:
                yield Item(
                    "warn",
                    f"queue {name}: the oldest task waits for {span(scene.now - depth.oldest)}",
                    f"{_tasks(sum(depth.waiting.values()))} wait",
                    "key 4: queues",
                    "view",
                    "queues",
                )


def _limits(facts: _Facts) -> Iterator[Item]:
    scene = facts.scene
    if not scene.live:
        return
    for family in headroom(facts.up, scene.now):
        tightest = family.tightest(scene.now)
        if tightest is None or tightest[1].left >= TIGHT:
            continue
        name, room = tightest
        reset = f", full again in {span(room.reset - scene.now)}" if room.reset else ""
        yield Item(
            "warn",
            f"{family.name}: {100 * room.left:.0f} % of {name.replace('-', ' ')} left",
            f"{short(room.remaining)} of {short(room.limit)} in pool {family.pool}{reset}"
            f"; {family.held:,} held, {family.refused:,} refused",
            "key 5: costs",
            "view",
            "costs",
        )


def _blocked(facts: _Facts) -> Iterator[Item]:
    if not facts.scene.live:
        return
    late = [each for each in facts.up if (each.beat.loop_lag_ms or 0) > LAG_MS]
    for actor in sorted(late, key=lambda each: -(each.beat.loop_lag_ms or 0))[:NAMED]:
        lag = (actor.beat.loop_lag_ms or 0) / 1000
        yield Item(
            "warn",
            f"worker {actor.beat.name}: its event loop stood still for {span(lag)}",
            "its log names the task that does not await",
            "key 3: workers",
            "view",
            "workers",
        )


def _notes(facts: _Facts) -> Iterator[Item]:
    """What workers and masters say themselves; what many say is said once."""
    if not facts.scene.live:
        return
    saying: dict[str, list[str]] = defaultdict(list)
    closed = {gate.name for gate in facts.scene.store.gates}
    for actor in [*facts.up, *facts.scene.store.masters()]:
        for note in actor.beat.notes:
            # A closed pool has its own line.
            if note.split(" ", 1)[0] not in closed and not actor.lost(
                facts.scene.store.heard_by(facts.scene.now)
            ):
                saying[note].append(actor.beat.name)
    for note, names in sorted(saying.items()):
        who = names[0] if len(names) == 1 else f"{len(names):,} actors"
        yield Item("warn", f"{who}: {note}", "", "key 3: workers", "view", "workers")


def _unread(facts: _Facts) -> Iterator[Item]:
    for part, text in sorted(facts.scene.store.notes.items()):
        yield Item("warn", f"{part}: not all is known", text, "key 7: events", "view", "events")


def _no_master(facts: _Facts) -> Iterator[Item]:
    if not facts.heard:
        return
    if not any(
        not each.lost(facts.scene.store.heard_by(facts.scene.now))
        for each in facts.scene.store.masters()
    ):
        yield Item(
            "warn",
            "no master answers",
            "tasks flow on; those of lost workers wait",
            "agentflow master",
        )


def _versions(facts: _Facts) -> Iterator[Item]:
    if not facts.scene.live:
        return
    versions = Counter(actor.beat.version for actor in facts.up)
    if len(versions) > 1:
        parts = [f"{number:,} with {version}" for version, number in versions.most_common(NAMED)]
        yield Item(
            "warn",
            f"workers of {len(versions)} versions",
            ", ".join(parts),
            "key 3: workers",
            "view",
            "workers",
        )


def _tasks(number: int) -> str:
    return f"{number:,} task" + ("" if number == 1 else "s")


_RULES: Final[tuple[Callable[[_Facts], Iterator[Item]], ...]] = (
    _closed_pools,
    _no_worker,
    _lost_workers,
    _orphans,
    _unserved,
    lambda facts: tasktrouble.unknown_kinds(facts.scene, facts.up if facts.heard else ()),
    _failures,
    lambda facts: tasktrouble.retry_storm(facts.scene),
    _limits,
    _paused,
    _old_queues,
    lambda facts: tasktrouble.long_runs(facts.scene),
    lambda facts: tasktrouble.backlog(facts.scene),
    _unread,
    _no_master,
    _blocked,
    _notes,
    _versions,
)
