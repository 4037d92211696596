"""The workers: who is there, how loaded, since when silent; below, what the chosen one works on."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentflow.dashboard.reader.column import Column, listed
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.table import Table
from agentflow.dashboard.reader.view import Way
from agentflow.dashboard.render.amounts import bar, count, short, size, span, sparks
from agentflow.dashboard.render.lines import EMPTY, Line, clip, line, rule
from agentflow.dashboard.rows.workers import Worker, worker_state, workers
from agentflow.dashboard.store.store import LOADS, Actor
from agentflow.dashboard.views.fleet import grid, title
from agentflow.dashboard.views.listing import Listing
from agentflow.protocol.record import State
from agentflow.views import query
from agentflow.views.row import Row

STATES: Final = ("lost", "draining", "busy", "idle")
"""What is worst comes first."""
LAG_MS: Final = 100.0
"""How late a loop may be before it is worth a colour."""
MASTERS: Final = 3


def _load(worker: Worker, scene: Scene) -> str:
    slots = worker.slots
    if worker.state == "lost":
        return ""
    return bar(worker.running / slots if slots else 0.0, 8, ascii=scene.ascii)


def _history(worker: Worker, scene: Scene) -> str:
    return sparks([float(each) for each in worker.loads], top=100.0).rjust(LOADS)


def _slots(worker: Worker, scene: Scene) -> str:
    text = f"{worker.running:,}/{worker.slots:,}"
    return f"{text}?" if worker.state == "lost" else text


def _state(worker: Worker, scene: Scene) -> str:
    return f"{scene.glyph(worker.state)} {worker.state}"


def _rank(worker: Worker) -> tuple[int, str]:
    return (STATES.index(worker.state), worker.name)


def _lag(worker: Worker, scene: Scene) -> str:
    late = worker.loop_lag_ms
    return "-" if late is None else f"{late:.0f}ms" if late < 1000 else span(late / 1000)


def _lag_token(worker: Worker, scene: Scene) -> str:
    return "warn" if (worker.loop_lag_ms or 0) > LAG_MS else "text"


def _beat_token(worker: Worker, scene: Scene) -> str:
    return "crit" if worker.state == "lost" else "text"


def _failed_token(worker: Worker, scene: Scene) -> str:
    return "state.failed" if worker.failed else "dim"


COLUMNS: Final[tuple[Column[Worker], ...]] = (
    Column(
        "worker",
        "WORKER",
        12,
        lambda worker, scene: worker.name,
        lambda worker: worker.name,
        grows=True,
        most=24,
    ),
    Column(
        "state",
        "STATE",
        10,
        _state,
        _rank,
        lambda worker, scene: f"worker.{worker.state}",
    ),
    Column("slots", "SLOTS", 7, _slots, lambda worker: worker.running, right=True, falling=True),
    Column(
        "load",
        "LOAD",
        8,
        _load,
        lambda worker: worker.running / worker.slots if worker.slots else 0.0,
        token=lambda worker, scene: "spark",
        drop=3,
        falling=True,
    ),
    Column(
        "history",
        "LOAD, 4 MIN",
        LOADS,
        _history,
        token=lambda worker, scene: "spark",
        drop=9,
    ),
    Column(
        "held",
        "HELD",
        4,
        lambda worker, scene: count(worker.held) if worker.held else "",
        lambda worker: worker.held,
        right=True,
        drop=5,
        falling=True,
    ),
    Column(
        "done",
        "DONE",
        7,
        lambda worker, scene: count(worker.done),
        lambda worker: worker.done,
        right=True,
        drop=2,
        falling=True,
    ),
    Column(
        "failed",
        "FAILED",
        6,
        lambda worker, scene: count(worker.failed),
        lambda worker: worker.failed,
        _failed_token,
        right=True,
        drop=2,
        falling=True,
    ),
    Column(
        "beat",
        "BEAT",
        5,
        lambda worker, scene: span(worker.silent_s),
        lambda worker: worker.silent_s,
        _beat_token,
        right=True,
        falling=True,
    ),
    Column(
        "lag",
        "LAG",
        5,
        _lag,
        lambda worker: worker.loop_lag_ms or 0.0,
        _lag_token,
        right=True,
        drop=6,
        falling=True,
    ),
    Column(
        "rss",
        "RSS",
        5,
        lambda worker, scene: size(worker.rss_bytes),
        lambda worker: worker.rss_bytes or 0,
        right=True,
        drop=7,
        falling=True,
    ),
    Column(
        "version",
        "VERSION",
        7,
        lambda worker, scene: worker.version,
        lambda worker: worker.version,
        drop=8,
    ),
    Column(
        "queues",
        "QUEUES",
        12,
        lambda worker, scene: ",".join(worker.queues),
        lambda worker: ",".join(worker.queues),
        drop=4,
        grows=True,
    ),
)


@dataclass(frozen=True, slots=True)
class _Work:
    """A task of a worker, as the worker or the log says."""

    id: str
    kind: str
    queue: str
    attempt: int
    since: float
    row: Row | None
    said: bool
    """Whether the worker's last heartbeat names it."""


def _tokens(work: _Work, scene: Scene) -> str:
    flow = scene.store.flow(work.row) if work.row is not None else None
    return short(flow.tokens) if flow is not None else ""


def _rate(work: _Work, scene: Scene) -> str:
    flow = scene.store.flow(work.row) if work.row is not None else None
    return f"{flow.rate:,.0f}" if flow is not None else ""


def _told(work: _Work, scene: Scene) -> str:
    if not work.said:
        return "in its log only: its worker does not name it"
    return (work.row.note or "") if work.row is not None else ""


WORK: Final[tuple[Column[_Work], ...]] = (
    Column("id", "TASK", 14, lambda work, scene: work.id, grows=True, most=26),
    Column("kind", "KIND", 8, lambda work, scene: work.kind, drop=2),
    Column("queue", "QUEUE", 9, lambda work, scene: work.queue, drop=3),
    Column("attempt", "ATT", 3, lambda work, scene: str(work.attempt), right=True, drop=4),
    Column("run", "RUN", 5, lambda work, scene: span(scene.now - work.since), right=True),
    Column("tokens", "OUT", 6, _tokens, right=True, drop=5),
    Column("rate", "TOK/S", 5, _rate, right=True, drop=6),
    Column("note", "", 10, _told, token=lambda work, scene: "dim", drop=1, grows=True),
)


class Workers(Listing[Worker]):
    """The view."""

    name = "workers"
    title = "Workers"
    looks_at = "name, host, queue, kind, version"
    drawn = frozenset({"load", "history"})

    def __init__(self) -> None:
        super().__init__(
            Table(COLUMNS, sort="state", empty="no worker: agentflow worker starts one")
        )

    # Drawing.

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """The fleet as signs, the table, and the tasks of the worker under the cursor."""
        if not scene.live:
            text = "  heartbeats are not recorded: L goes back to now"
            return [rule("workers", width), clip(line((text, "dim")), width)]
        rows = workers(scene)
        shown = {worker.actor: worker for worker in rows if self.wanted(_words(worker))}
        self._table.refresh(shown, scene.now)
        lines = self._fleet(scene, rows, width, height)
        chosen = self._chosen(scene)
        room = height - len(lines)
        below = 0
        if chosen is not None:
            below = min(max(4, self._wanted(scene, chosen)), room // 2)
        lines += self._table.lines(width, room - below, scene)
        if chosen is not None:
            lines += self._about(scene, chosen, width, below)
        return lines

    def _chosen(self, scene: Scene) -> Actor | None:
        worker = self._table.item()
        return scene.store.actors.get(worker.actor) if worker is not None else None

    def _fleet(self, scene: Scene, rows: list[Worker], width: int, height: int) -> list[Line]:
        text = title(rows)
        if self._filter:
            text += f"  /{self._filter}"
        masters = scene.store.masters()
        heard_by = scene.store.heard_by(scene.now)
        shown = ", ".join(
            f"{master.beat.name} {'lost' if master.lost(heard_by) else span(master.age(scene.now))}"
            for master in masters[:MASTERS]
        )
        lines = [rule(text, width, f"master {shown}" if masters else "no master")]
        if height >= 30 and len(rows) > 4:
            lines += grid(scene, rows, width, 2)
        return lines

    def _wanted(self, scene: Scene, actor: Actor) -> int:
        return 4 + len(actor.beat.notes) + max(1, len(self._work(scene, actor)))

    def _about(self, scene: Scene, actor: Actor, width: int, height: int) -> list[Line]:
        beat = actor.beat
        state = worker_state(actor, scene.store.heard_by(scene.now))
        title = f"{beat.name}  {state}"
        if state == "lost":
            title += f" for {span(actor.age(scene.now))}"
        up = span(scene.now - beat.started.timestamp())
        lease = f"   lease {span(beat.lease_s)}" if beat.lease_s is not None else ""
        facts = f" {beat.host} pid {beat.pid}   up {up}{lease}   kinds {', '.join(beat.kinds)}"
        facts += f"   queues {', '.join(beat.queues)}   {beat.actor}"
        lines = [
            rule(title, width, "enter its tasks"),
            clip(line((facts, "dim")), width),
        ]
        lines += [clip(line(("  ", "text"), (note, "warn")), width) for note in beat.notes]
        work = self._work(scene, actor)
        room = height - len(lines) - 1
        if not work:
            lines.append(clip(line(("  it runs nothing", "dim")), width))
        elif room > 0:
            if len(work) > room:
                room -= 1
            lines += listed(WORK, work[:room], width, scene, command="open_task")
            more = beat.running - room
            if len(work) > room and more > 0:
                lines.append(clip(line((f"  and {more:,} more: enter shows all", "dim")), width))
        return (lines + [clip(EMPTY, width)] * height)[:height]

    def _work(self, scene: Scene, actor: Actor) -> list[_Work]:
        """Its tasks, the oldest first: those it names, then those that only their logs give it."""
        return scene.lately(("work", actor.beat.actor), lambda: _work_of(scene, actor))

    # Commands.

    def command(self, row: Worker) -> str:
        """What lets it finish and exit."""
        return f"agentflow drain {shlex.quote(row.name)}"

    def exported(self, scene: Scene) -> list[Worker]:
        """Those that are shown, as they are sorted."""
        known = {worker.actor: worker for worker in workers(scene)}
        return [known[name] for name in self._table.order if name in known]

    def chosen(self) -> Way | None:
        """The tasks of the worker under the cursor."""
        worker = self._table.item()
        if worker is None:
            return None
        return Way("show_tasks", query.term("worker", worker.actor))


def _words(worker: Worker) -> str:
    words = (worker.name, worker.host, worker.version, worker.actor, *worker.queues, *worker.kinds)
    return " ".join(words).lower()


def _work_of(scene: Scene, actor: Actor) -> list[_Work]:
    store = scene.store
    named = {task.id: task for task in actor.beat.tasks}
    works = [
        _Work(
            task.id,
            task.kind,
            task.queue,
            task.attempt,
            _seconds(task.since),
            store.rows.get(task.id),
            True,
        )
        for task in named.values()
    ]
    if store.totals.running_by[actor.beat.actor] == 0:
        return sorted(works, key=lambda work: (work.since, work.id))
    whole = len(named) >= actor.beat.running
    for task_id in store.totals.running:
        row = store.rows.get(task_id)
        if row is None or row.actor != actor.beat.actor or task_id in named:
            continue
        if row.state == State.RUNNING:
            # A claim since the last heartbeat is not missing there.
            known = not whole or row.updated / 1000 > actor.at - 1
            since = (row.started or row.updated) / 1000
            works.append(_Work(row.id, row.kind, row.queue, row.attempt, since, row, known))
    return sorted(works, key=lambda work: (work.since, work.id))


def _seconds(instant: datetime) -> float:
    return instant.timestamp()


__all__ = ["COLUMNS", "Workers"]
