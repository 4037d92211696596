"""The overview: what needs you, what flows and what it costs, who works on what."""

from __future__ import annotations

from typing import Any, Final

from agentflow.protocol.record import State
from agentflow.rules.projection import Row
from tui.model.amounts import count, money, rate, short, span, sparks
from tui.model.attention import Item, attention
from tui.model.effects import Copy, Effect, Fetch
from tui.model.lines import Hit, Line, Run, cell, clip, columns_of, line, rule
from tui.model.scene import GLYPHS, Scene
from tui.model.store import Actor
from tui.model.table import Table
from tui.model.totals import MINUTE_MS, series, since
from tui.model.views.events import event_line
from tui.model.views.tasks import columns

WINDOW: Final = 600
STATES: Final = ("queued", "running", "retrying", "scheduled")
MOST_ATTENTION: Final = 5
GRID_ROWS: Final = 3


class Overview:
    """The view."""

    name: str = "overview"
    title: str = "Overview"

    def __init__(self) -> None:
        self._glyph = GLYPHS.__getitem__
        self._scene: Scene | None = None
        self._rows: Table[Row] = Table(
            [
                column
                for column in columns(self._sign, self._worker)
                if column.key not in ("state", "age", "priority", "wait", "model")
            ],
            sort="run",
            empty="nothing runs",
        )
        self._needs: list[Item] = []
        self._chosen = -1
        """The attention item that is chosen; -1: the table of tasks is where the keys go."""

    def _sign(self, state: str) -> str:
        assert self._scene is not None
        return self._scene.glyph(state)

    def _worker(self, actor: str) -> str:
        assert self._scene is not None
        return self._scene.store.name_of(actor)

    @property
    def table(self) -> Table[Any]:
        """The tasks that run."""
        return self._rows

    def show(self, argument: str) -> None:
        """Go to the attention list."""
        if argument == "attention":
            self._chosen = 0

    # Drawing.

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """Panels from the top; where there is little room the lower ones get less."""
        self._scene = scene
        small = height < 26
        found = self._attention(scene, width, 3 if small else MOST_ATTENTION)
        found += self._flow(scene, width, small=small)
        found += self._workers(scene, width, 1 if small else GRID_ROWS)
        rest = height - len(found)
        news = 0 if rest < 12 else min(6, rest // 4)
        found += self._running(scene, width, rest - news)
        if news:
            found += self._events(scene, width, news)
        return found

    def _attention(self, scene: Scene, width: int, most: int) -> list[Line]:
        self._needs = attention(scene)
        found = [rule(f"needs attention ({len(self._needs)})", width, "! jump  enter open")]
        if not self._needs:
            self._chosen = -1
            return [rule("nothing needs you", width)]
        self._chosen = min(self._chosen, len(self._needs) - 1)
        first = max(0, self._chosen - most + 1)
        for at, item in enumerate(self._needs[first : first + most], first):
            token = "crit" if item.level == "crit" else "warn"
            hint = cell(item.hint, min(34, width // 3))
            room = width - len(hint) - 3
            text = line(
                (f" {scene.glyph(item.level)} ", token),
                (item.text, token),
                (f"  {item.evidence}" if item.evidence else "", "dim"),
            )
            made = columns_of([clip(text, room), line((hint, "key"))], width)
            base = "cursor" if at == self._chosen else ""
            found.append(made._replace(base=base, hits=(Hit(0, width, "need", str(at)),)))
        return found

    def _flow(self, scene: Scene, width: int, *, small: bool) -> list[Line]:
        store, now = scene.store, int(scene.now)
        totals = store.totals
        since_ms = (now - WINDOW) * 1000
        ends = since(totals.ends, now - WINDOW, now)
        failures = since(totals.failures, now - WINDOW, now)
        waiting = sum(store.waiting(queue) for queue in store.queues())
        counts: list[Run] = [(" ", "text")]
        numbers = {
            "queued": max(waiting, 0),
            **{state: totals.state(state) for state in STATES[1:]},
        }
        for state in STATES:
            counts += [
                (f"{scene.glyph(state)} {state} ", f"state.{state}"),
                (f"{count(numbers[state])}   ", "bold"),
            ]
        counts += [
            (f"{scene.glyph('succeeded')} done/10m ", "state.succeeded"),
            (f"{count(ends)}   ", "bold"),
            (f"{scene.glyph('failed')} failed/10m ", "state.failed"),
            (f"{count(failures)}   ", "bold"),
            ("dead ", "dim"),
            (count(store.dead), "bold"),
        ]
        found = [rule("flow", width, "last 10m"), clip(line(*counts), width)]
        done = series(totals.ends, now, 60)
        spent = self._per_minute(scene)
        wait = totals.waits.percentiles(since_ms, 0.5, 0.95, 0.99)
        run = totals.runs.percentiles(since_ms, 0.5, 0.95, 0.99)
        per_second = sum(done[-10:]) / 10
        spark = 30 if width >= 110 else 16
        parts = [
            line(
                (" done/s ", "dim"),
                (f"{rate(per_second):>6} ", "bold"),
                (sparks([float(each) for each in done[-spark:]], ascii=scene.ascii), "spark"),
            ),
            line(
                (" $/min ", "dim"),
                (f"{money(round(spent[-1])):>8} ", "bold"),
                (sparks(spent[-spark:], ascii=scene.ascii), "spark.money"),
            ),
        ]
        found.append(columns_of(parts, width))
        latency = line(
            (" wait p50/p95/p99 ", "dim"),
            ("/".join(span(each) for each in wait), "text"),
            ("   run ", "dim"),
            ("/".join(span(each) for each in run), "text"),
            ("   tokens/min ", "dim"),
            (short(self._tokens_per_minute(scene)), "text"),
        )
        found.append(clip(latency, width))
        if not small:
            found += self._by_queue(scene, width)
        return found

    def _per_minute(self, scene: Scene) -> list[float]:
        minutes = self._minutes(scene, 31)
        return [float(minutes.get(minute, (0, 0))[0]) for minute in sorted(minutes)]

    def _minutes(self, scene: Scene, number: int) -> dict[int, tuple[int, int]]:
        last = int(scene.now * 1000) // MINUTE_MS
        found = dict.fromkeys(range(last - number, last), (0, 0))
        for minute in found:
            for spend in scene.store.totals.spend.get(minute, {}).values():
                cost, out = found[minute]
                found[minute] = (cost + spend.cost, out + spend.output)
        return found

    def _tokens_per_minute(self, scene: Scene) -> float:
        minutes = self._minutes(scene, 3)
        return sum(out for _, out in minutes.values()) / 3

    def _by_queue(self, scene: Scene, width: int) -> list[Line]:
        store = scene.store
        names = sorted(store.queues(), key=lambda name: -store.waiting(name))[:3]
        found = []
        for name in names:
            states = dict(store.totals.states.get(name, {}))
            states[State.QUEUED] = store.waiting(name)
            texts: list[Run] = [(f" {cell(name, 16)}", "text")]
            texts += [
                (f"{state} {states.get(state, 0):,}  ", f"state.{state}")
                for state in (*STATES, "succeeded", "failed", "cancelled")
                if states.get(state) or state in ("queued", "running")
            ]
            found.append(clip(line(*texts), width))
        return found

    def _workers(self, scene: Scene, width: int, rows: int) -> list[Line]:
        workers = scene.store.workers()
        if not scene.live:
            return [rule("workers", width, "not recorded")]
        lost = sum(each.lost(scene.now) for each in workers)
        draining = sum(each.beat.stopping and not each.lost(scene.now) for each in workers)
        slots = sum(each.beat.slots for each in workers if not each.lost(scene.now))
        running = sum(each.beat.running for each in workers if not each.lost(scene.now))
        title = f"workers {len(workers) - lost} up"
        title += f"  {lost} lost" if lost else ""
        title += f"  {draining} draining" if draining else ""
        title += f"  slots {running:,}/{slots:,}"
        legend = "  ".join(
            f"{scene.glyph(state)} {state}" for state in ("busy", "idle", "draining", "lost")
        )
        found = [rule(title, width, legend if width >= 100 else "")]
        for start in range(0, min(len(workers), rows * (width - 2)), width - 2):
            part = workers[start : start + width - 2]
            runs: list[Run] = [(" ", "text")]
            for each in part:
                state = worker_state(each, scene.now)
                runs.append((scene.glyph(state), f"worker.{state}"))
            found.append(clip(line(*runs), width))
        return found

    def _running(self, scene: Scene, width: int, height: int) -> list[Line]:
        store = scene.store
        rows = {task_id: store.rows[task_id] for task_id in store.totals.running}
        self._rows.refresh(rows, scene.now)
        found = [rule("running, oldest first", width, f"{len(rows):,} running")]
        return found + self._rows.lines(width, max(2, height - 1), scene.now)

    def _events(self, scene: Scene, width: int, height: int) -> list[Line]:
        found = [rule("events", width, "7 all")]
        events = list(scene.store.events)[-(height - 1) :]
        return found + [event_line(scene, event, width) for event in reversed(events)]

    # Commands.

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Move within the attention list, open what is chosen."""
        if command == "pane":
            self._chosen = 0 if self._chosen < 0 and self._needs else -1
            return []
        if self._chosen >= 0:
            if command == "move":
                self._chosen = min(len(self._needs) - 1, max(0, self._chosen + int(argument)))
                return []
            if command == "back":
                self._chosen = -1
                return []
        match command:
            case "need":
                self._chosen = int(argument)
                return []
            case "why" if self._rows.cursor:
                return [Fetch("why", self._rows.cursor)]
            case "copy_command" if self._rows.cursor:
                return [Copy(f"agentflow get {self._rows.cursor}", "the command")]
        return None

    def chosen(self) -> Item | None:
        """The attention item that is chosen."""
        return self._needs[self._chosen] if 0 <= self._chosen < len(self._needs) else None

    def targets(self, scene: Scene, act: str) -> list[str]:
        """The task under the cursor; of queues the paused ones."""
        if act in ("pause", "resume"):
            return [gate.name for gate in scene.store.gates if gate.what == "queue"]
        return self._rows.chosen()


def worker_state(actor: Actor, now: float) -> str:
    """One word for a worker."""
    if actor.lost(now):
        return "lost"
    if actor.beat.stopping:
        return "draining"
    return "busy" if actor.beat.running else "idle"


__all__ = ["Overview", "worker_state"]
