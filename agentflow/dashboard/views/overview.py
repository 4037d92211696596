"""The overview: what needs you, what flows and what it costs, who works on what.

Panels stand from the top in the order of their importance. Where there is little room the charts
leave first, then the events, then the lines of single queues.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from agentflow.dashboard.reader.changes import Changes
from agentflow.dashboard.reader.effects import Copy, Effect, Fetch, Prompt
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.table import Column, Table, listed
from agentflow.dashboard.reader.view import View, Way
from agentflow.dashboard.render.amounts import count, money, rate, short, span, sparks
from agentflow.dashboard.render.lines import (
    EMPTY,
    Hit,
    Line,
    Run,
    cell,
    clip,
    columns_of,
    fitted,
    line,
    rule,
)
from agentflow.dashboard.render.plots import chart
from agentflow.dashboard.rows.attention import SETTLED, Item, attention
from agentflow.dashboard.rows.flow import WINDOW, Percentiles, lately
from agentflow.dashboard.rows.workers import worker_state
from agentflow.dashboard.store.store import Actor
from agentflow.dashboard.store.totals import SLOT, series, slots
from agentflow.dashboard.views.events import event_line
from agentflow.dashboard.views.taskcolumns import columns
from agentflow.views.row import Row

MOST_ATTENTION: Final = 5
QUEUES: Final = 3
GRID_ROWS: Final = 3
CHART_ROWS: Final = 3
CHART_MINUTES: Final = 60


_DROPS: Final = {
    "id": 0,
    "queue": 6,
    "kind": 7,
    "worker": 4,
    "attempt": 8,
    "run": 0,
    "progress": 3,
    "rate": 5,
    "out": 2,
    "last": 1,
}
RUNNING: Final = [
    replace(column, drop=_DROPS[column.key], most=20 if column.key == "id" else column.most)
    for column in columns(*_DROPS)
]
"""The columns of what runs: how far it is matters more here than where it waited."""


@dataclass(frozen=True, slots=True)
class _Flow:
    """What flows through a queue, or through all of them (`name` "all")."""

    name: str
    states: dict[str, int]
    dead: int | None
    oldest: float | None
    per_second: float
    ends: list[int]


def _count(state: str, title: str, width: int, drop: int, key: str | None = None) -> Column[_Flow]:
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


def _flow_columns(scene: Scene, spark: int) -> list[Column[_Flow]]:
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


class Overview(View):
    """The view."""

    name = "overview"
    title = "Overview"

    def __init__(self) -> None:
        self._rows: Table[Row] = Table(
            RUNNING,
            sort="run",
            reverse=True,
            empty="nothing runs",
        )
        self._changes = Changes()
        self._needs: list[Item] = []
        self._chosen = -1
        """The attention item that is chosen; -1: the table of tasks is where the keys go."""

    @property
    def table(self) -> Table[Any]:
        """The tasks that run."""
        return self._rows

    def show(self, argument: str) -> None:
        """Go to the attention list."""
        if argument == "attention":
            self._chosen = 0

    def close(self) -> None:
        """Watch no store any more."""
        self._changes.close()

    # Drawing.

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """Panels from the top; where there is little room the lower ones get less."""
        tall = height >= 30
        small = height < 20
        lines = self._attention(scene, width, MOST_ATTENTION if tall else 2 if small else 3)
        queues = QUEUES if tall else 0
        lines += self._client(scene, width, queues=queues, latency=not small)
        if tall and width >= 80:
            lines += self._charts(scene, width)
        lines += self._fleet(scene, width, GRID_ROWS if tall else 1)
        rest = height - len(lines)
        news = 0 if rest < 10 or not tall else min(8, max(4, rest // 4))
        lines += self._running(scene, width, rest - news)
        if news:
            lines += self._events(scene, width, news)
        return lines

    def _attention(self, scene: Scene, width: int, most: int) -> list[Line]:
        self._needs = attention(scene)
        if not self._needs:
            self._chosen = -1
            return [rule(_calm(scene), width)]
        worst = sum(item.level == "crit" for item in self._needs)
        title = f"needs attention ({len(self._needs)})"
        more = len(self._needs) - most
        right = f"{more} more   ! goes there" if more > 0 else "! goes there   enter opens"
        lines = [rule(title, width, right, token="crit" if worst else "rule")]
        self._chosen = min(self._chosen, len(self._needs) - 1)
        first = max(0, self._chosen - most + 1)
        hints = max((len(item.hint) for item in self._needs[first : first + most]), default=0)
        hints = min(hints, 34, width // 3 if width >= 100 else width // 4)
        for at, item in enumerate(self._needs[first : first + most], first):
            token = "crit" if item.level == "crit" else "warn"
            level = f"{scene.glyph(item.level)} {item.level.upper()} "
            here = "▌" if at == self._chosen else " "
            text = line(
                (here, "mark"),
                (f"{level if width >= 80 else level[:2]} ", token),
                (item.text, token if item.level == "crit" else "text"),
                (f"   {item.evidence}" if item.evidence else "", "dim"),
            )
            room = width - hints - 3
            made = columns_of([clip(text, room), line((cell(item.hint, hints), "key"))], width)
            base = "cursor" if at == self._chosen else ""
            lines.append(made._replace(base=base, hits=(Hit(0, width, "need", str(at)),)))
        return lines

    def _client(self, scene: Scene, width: int, *, queues: int, latency: bool) -> list[Line]:
        spark = 30 if width >= 110 else 15
        rows = scene.lately("flow", lambda: flows(scene, QUEUES))[: 1 + queues]
        lines = [rule("flow", width, "ended and failed: last 10 min")]
        if len(rows) == 2:
            del rows[1]  # the only queue is all of them
        lines += listed(_flow_columns(scene, spark), rows, width, scene)
        if latency:
            lines.append(scene.lately(("latency", width), lambda: self._latency(scene, width)))
        return lines

    def _latency(self, scene: Scene, width: int) -> Line:
        store, now = scene.store, int(scene.now)
        wait, run = lately(store.totals.waits, now), lately(store.totals.runs, now)
        arrived = sum(series(store.totals.arrivals, now, 60)) / 60
        parts = [
            line(("  wait ", "dim"), *_three(wait)),
            line(("run ", "dim"), *_three(run)),
            line(("submitted ", "dim"), (f"{rate(arrived)}/s", "text")),
            line(("generated ", "dim"), (f"{short(tokens_a_second(scene))} tok/s", "text")),
        ]
        return fitted(parts, width)

    def _charts(self, scene: Scene, width: int) -> list[Line]:
        return scene.lately(("charts", width), lambda: self._drawn_charts(scene, width))

    def _drawn_charts(self, scene: Scene, width: int) -> list[Line]:
        now = int(scene.now)
        each = (width - 4) // 3
        done = [number / 10 for number in series(scene.store.totals.ends, now, 60, 10)]
        minutes = scene.store.totals.minutes(now // 60 - 1, CHART_MINUTES)
        panels = [
            chart("done/s, 10 min", rate(done[-1]), done, each, CHART_ROWS, label=_axis),
            chart(
                "tokens/min, 1 h",
                f"in {short(minutes[-1].all_input)} out {short(minutes[-1].output)}",
                [float(spend.output + spend.all_input) for spend in minutes],
                each,
                CHART_ROWS,
                label=_axis,
            ),
            chart(
                "$/min, 1 h",
                money(minutes[-1].cost),
                [float(spend.cost) for spend in minutes],
                each,
                CHART_ROWS,
                label=_dollars,
                token="spark.money",
            ),
        ]
        return [columns_of(parts, width) for parts in zip(*panels, strict=True)]

    def _workers(self, scene: Scene, width: int, rows: int) -> list[Line]:
        if not scene.live:
            return [rule("workers", width, "not recorded")]
        workers = scene.store.workers()
        states = [worker_state(each, scene.now) for each in workers]
        up = [each for each, state in zip(workers, states, strict=True) if state != "lost"]
        title = f"workers {len(up)} up"
        for state in ("lost", "draining"):
            if number := states.count(state):
                title += f"  {number} {state}"
        busy = sum(each.beat.running for each in up)
        title += f"  slots {busy:,}/{sum(each.beat.slots for each in up):,}"
        legend = "  ".join(f"{scene.glyph(state)} {state}" for state in GRID)
        lines = [rule(title, width, legend if width >= 100 else "3 all")]
        return lines + grid(scene, workers, width, rows)

    def _fleet(self, scene: Scene, width: int, rows: int) -> list[Line]:
        return scene.lately(("fleet", width, rows), lambda: self._workers(scene, width, rows))

    def _running(self, scene: Scene, width: int, height: int) -> list[Line]:
        store = scene.store
        if self._changes.of(store):
            self._rows.invalidate()
        self._rows.refresh(
            store.rows,
            scene.now,
            changed=self._changes.ids,
            among=store.totals.running,
            wanted=_runs,
        )
        number = len(store.totals.running)
        lines = [rule("running now, oldest first", width, f"{number:,}   2 all tasks")]
        if self._rows.sort != "run" or not self._rows.reverse:
            lines = [rule(f"running now, by {self._rows.sort}", width, f"{number:,}   2 all tasks")]
        return lines + self._rows.lines(width, max(2, height - 1), scene)

    def _events(self, scene: Scene, width: int, height: int) -> list[Line]:
        lines = [rule("events, newest first", width, "7 all")]
        events = list(scene.store.events)[-(height - 1) :]
        lines += [event_line(scene, event, width) for event in reversed(events)]
        return (lines + [clip(EMPTY, width)] * height)[:height]

    # Commands.

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Move within the attention list, open what is chosen."""
        if command == "pane":
            self._chosen = 0 if self._chosen < 0 and self._needs else -1
            return []
        if self._chosen >= 0:
            if command in ("move", "half", "page", "end"):
                by = int(argument) * (1 if command == "move" else len(self._needs))
                self._chosen = min(len(self._needs) - 1, max(0, self._chosen + by))
                return []
            if command in ("back", "row"):
                self._chosen = -1
                return [] if command == "back" else None
        task = self._rows.item()
        match command:
            case "need":
                self._chosen = int(argument)
                return []
            case "filter" if not argument:
                return [
                    Prompt("/", "show_tasks", hint="tasks: state:failed  label:team=x  any text")
                ]
            case "filter":
                return [Prompt("/", "show_tasks", argument)]
            case "why" if task is not None:
                return [Fetch("why", task.id)]
            case "copy_command" if (item := self._item()) is not None:
                text = item.hint if item.hint.startswith("agentflow ") else "agentflow stats"
                return [Copy(text, "the command")]
            case "copy_command" if task is not None:
                return [Copy(f"agentflow get {task.id}", "the command")]
        return None

    def chosen(self) -> Way | None:
        """Where the attention item leads that is chosen."""
        item = self._item()
        return Way(item.command, item.argument) if item is not None else None

    def _item(self) -> Item | None:
        return self._needs[self._chosen] if 0 <= self._chosen < len(self._needs) else None

    def targets(self, scene: Scene, act: str) -> list[str]:
        """The task under the cursor; of queues the paused ones."""
        if act in ("pause", "resume"):
            return [gate.name for gate in scene.store.gates if gate.what == "queue"]
        return self._rows.chosen()


def _runs(row: Row) -> bool:
    return row.state == "running"


GRID: Final = ("busy", "idle", "draining", "lost")


def _calm(scene: Scene) -> str:
    """What may be said where nothing is known to need anybody."""
    store = scene.store
    if not scene.live:
        return "needs attention: of the past only failures are recorded"
    if store.link is None or not (store.link.up or store.items or store.actors):
        return "nothing is known yet"
    if not store.actors and scene.now - store.linked_at < SETTLED:
        return "listening for workers"
    return "nothing needs you"


def flows(scene: Scene, most: int) -> list[_Flow]:
    """All that flows, and the queues with the most of it."""
    store, now = scene.store, int(scene.now)
    totals = store.totals
    names = store.queues()

    def flow(name: str) -> _Flow:
        states = dict(totals.states.get(name, {}))
        states["queued"] = store.waiting(name)
        ends = slots(totals.queue_ends.get(name), now, WINDOW // SLOT)
        failed = slots(totals.queue_failures.get(name), now, WINDOW // SLOT)
        states["ended"], states["lately failed"] = sum(ends), sum(failed)
        depth = store.depths.get(name)
        oldest = scene.now - depth.oldest if depth is not None and depth.oldest else None
        return _Flow(name, states, None, oldest, sum(ends[-6:]) / 60, _halves(ends))

    each = [flow(name) for name in names]
    counted = ("queued", "running", "retrying", "scheduled")
    whole = {
        key: sum(one.states.get(key, 0) for one in each)
        for key in (*counted, "ended", "lately failed")
    }
    ends = [sum(parts) for parts in zip(*(one.ends for one in each), strict=True)]
    all_of_it = _Flow(
        "all",
        whole,
        store.dead,
        max((one.oldest for one in each if one.oldest is not None), default=None),
        sum(one.per_second for one in each),
        ends or [0] * (WINDOW // SLOT // 2),
    )
    each.sort(key=lambda one: -sum(one.states.get(key, 0) for key in (*counted, "ended")))
    return [all_of_it, *each[:most]]


def _halves(ends: list[int]) -> list[int]:
    return [ends[at] + ends[at + 1] for at in range(0, len(ends) - 1, 2)]


def _three(seconds: Percentiles) -> list[Run]:
    runs: list[Run] = []
    for name, value in (("p50", seconds.p50), ("p95", seconds.p95), ("p99", seconds.p99)):
        runs += [(f"{name} ", "dim"), (f"{span(value)} ", "text")]
    return runs


def _axis(value: float) -> str:
    return short(value) if value >= 10 or value == int(value) else f"{value:.1f}"


def _dollars(micro: float) -> str:
    return f"${micro / 1e6:.1f}" if micro % 1e6 else f"${micro / 1e6:.0f}"


def tokens_a_second(scene: Scene) -> float:
    """Tokens that the running tasks generate a second, as the last heartbeats say."""
    return sum(
        flow.rate
        for actor in scene.store.actors.values()
        if not actor.lost(scene.now)
        for flow in actor.flows.values()
    )


def grid(scene: Scene, workers: list[Actor], width: int, rows: int) -> list[Line]:
    """A sign for each worker, those of a host beside each other, as many as find room."""
    hosts: dict[str, list[Actor]] = {}
    for each in workers:
        hosts.setdefault(each.beat.host, []).append(each)
    named = 1 < len(hosts) <= 12
    cells: list[tuple[str, str]] = []
    for host in sorted(hosts):
        if named:
            cells += [(char, "dim") for char in f"{cell(host, min(12, len(host)))} "]
        cells += [
            (scene.glyph(state), f"worker.{state}")
            for state in (worker_state(each, scene.now) for each in hosts[host])
        ]
        if named:
            cells += [(" ", "text")] * 2
    room = width - 2
    lines = []
    for start in range(0, min(len(cells), rows * room), room):
        part = cells[start : start + room]
        lines.append(clip(Line(((" ", "text"), *joined(part))), width))
    if len(cells) > rows * room and lines:
        more = f" +{len(cells) - rows * room:,} "
        cut = clip(lines[-1], width - len(more))
        lines[-1] = Line((*cut.runs, (more, "dim")))
    return lines


def joined(cells: list[Run]) -> list[Run]:
    """Neighbours of one token as one run."""
    runs: list[Run] = []
    for text, token in cells:
        if runs and runs[-1][1] == token:
            runs[-1] = (runs[-1][0] + text, token)
        else:
            runs.append((text, token))
    return runs
