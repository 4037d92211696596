"""The overview: what needs you, what flows and what it costs, who works on what.

Panels stand from the top in the order of their importance. Where there is little room the charts
leave first, then the events, then the lines of single queues.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any, Final

from agentflow.dashboard.reader.changes import Changes
from agentflow.dashboard.reader.column import listed
from agentflow.dashboard.reader.effects import Copy, Effect, Fetch, Prompt
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.table import Table
from agentflow.dashboard.reader.view import View, Way
from agentflow.dashboard.render.amounts import money, rate, short, span
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
from agentflow.dashboard.rows.attention import attention
from agentflow.dashboard.rows.flow import Percentiles, lately
from agentflow.dashboard.rows.need import Item
from agentflow.dashboard.rows.workers import workers
from agentflow.dashboard.store.totals import series
from agentflow.dashboard.views.events import event_line
from agentflow.dashboard.views.fleet import SIGNS, grid, title
from agentflow.dashboard.views.flows import flow_columns, flows, tokens_a_second
from agentflow.dashboard.views.taskcolumns import columns
from agentflow.rules import presence
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
        lines += listed(flow_columns(scene, spark), rows, width, scene)
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

    def _workers(self, scene: Scene, width: int, most: int) -> list[Line]:
        if not scene.live:
            return [rule("workers", width, "not recorded")]
        rows = workers(scene)
        legend = "  ".join(f"{scene.glyph(state)} {state}" for state in SIGNS)
        lines = [rule(title(rows), width, legend if width >= 100 else "3 all")]
        return lines + grid(scene, rows, width, most)

    def _fleet(self, scene: Scene, width: int, rows: int) -> list[Line]:
        return scene.lately(("fleet", width, rows), lambda: self._workers(scene, width, rows))

    def _running(self, scene: Scene, width: int, height: int) -> list[Line]:
        store = scene.store
        if self._changes.watch(store):
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
                return [Copy(f"agentflow get {shlex.quote(task.id)}", "the command")]
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


def _calm(scene: Scene) -> str:
    """What may be said where nothing is known to need anybody."""
    store = scene.store
    if not scene.live:
        return "needs attention: of the past only failures are recorded"
    if store.link is None or not (store.link.up or store.items or store.actors):
        return "nothing is known yet"
    if not store.actors and not presence.is_settled(store.linked_at, scene.now):
        return "listening for workers"
    return "nothing needs you"


def _three(seconds: Percentiles) -> list[Run]:
    runs: list[Run] = []
    for name, value in (("p50", seconds.p50), ("p95", seconds.p95), ("p99", seconds.p99)):
        runs += [(f"{name} ", "dim"), (f"{span(value)} ", "text")]
    return runs


def _axis(value: float) -> str:
    return short(value) if value >= 10 or value == int(value) else f"{value:.1f}"


def _dollars(micro: float) -> str:
    return f"${micro / 1e6:.1f}" if micro % 1e6 else f"${micro / 1e6:.0f}"
