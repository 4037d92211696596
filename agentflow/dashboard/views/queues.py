"""The queues: what waits, for how long, who serves them, and when they will be empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agentflow.dashboard.reader.column import Column
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.table import Table
from agentflow.dashboard.reader.view import Way
from agentflow.dashboard.render.amounts import count, rate, short, span, sparks
from agentflow.dashboard.render.lines import EMPTY, Line, clip, columns_of, line, rule
from agentflow.dashboard.render.plots import chart
from agentflow.dashboard.rows.queues import SPARK, Queue, queues
from agentflow.dashboard.store.totals import SLOT
from agentflow.dashboard.views.listing import Listing
from agentflow.protocol.api import GateView
from agentflow.rules import presence
from agentflow.views import gates as gateviews
from agentflow.views import query

STATES: Final = ("unserved", "paused", "open")
"""What is worst comes first."""


def _now(text: Callable[[Queue, Scene], str]) -> Callable[[Queue, Scene], str]:
    """What is told live and not recorded: of another time it is not known."""
    return lambda queue, scene: text(queue, scene) if scene.live else "-"


def _state(queue: Queue, scene: Scene) -> str:
    if not scene.live:
        return "-"
    return f"{scene.glyph(queue.state)} {queue.state}"


def _state_token(queue: Queue, scene: Scene) -> str:
    return {"unserved": "crit", "paused": "warn"}.get(queue.state, "ok")


def _drained(queue: Queue, scene: Scene) -> str:
    if not queue.queued:
        return "-"
    return span(queue.drained_s) if queue.drained_s is not None else "never"


def _drained_key(queue: Queue) -> float:
    return 0.0 if not queue.queued else queue.drained_s if queue.drained_s is not None else 1e12


COLUMNS: Final[tuple[Column[Queue], ...]] = (
    Column(
        "queue",
        "QUEUE",
        10,
        lambda queue, scene: queue.queue,
        lambda queue: queue.queue,
        grows=True,
        most=24,
    ),
    Column(
        "state",
        "STATE",
        10,
        _state,
        lambda queue: (STATES.index(queue.state), -queue.queued, queue.queue),
        _state_token,
    ),
    Column(
        "waiting",
        "WAITING",
        8,
        _now(lambda queue, scene: count(queue.queued)),
        lambda queue: queue.queued,
        lambda queue, scene: "bold" if queue.queued else "dim",
        right=True,
        falling=True,
    ),
    Column(
        "high",
        "HIGH",
        5,
        _now(lambda queue, scene: count(queue.high) if queue.high else ""),
        lambda queue: queue.high,
        right=True,
        drop=6,
        falling=True,
    ),
    Column(
        "low",
        "LOW",
        5,
        _now(lambda queue, scene: count(queue.low) if queue.low else ""),
        lambda queue: queue.low,
        right=True,
        drop=6,
        falling=True,
    ),
    Column(
        "oldest",
        "OLDEST",
        6,
        _now(lambda queue, scene: span(queue.oldest_s)),
        lambda queue: queue.oldest_s or 0.0,
        right=True,
        falling=True,
    ),
    Column(
        "taken",
        "TAKEN",
        6,
        _now(lambda queue, scene: count(queue.taken)),
        lambda queue: queue.taken,
        right=True,
        drop=5,
        falling=True,
    ),
    Column(
        "running",
        "RUNNING",
        7,
        lambda queue, scene: count(queue.running),
        lambda queue: queue.running,
        right=True,
        drop=1,
        falling=True,
    ),
    Column(
        "parked",
        "PARKED",
        6,
        lambda queue, scene: count(queue.parked),
        lambda queue: queue.parked,
        right=True,
        drop=4,
        falling=True,
    ),
    Column(
        "rate",
        "/S",
        5,
        lambda queue, scene: rate(queue.ended_per_s),
        lambda queue: queue.ended_per_s,
        right=True,
        drop=2,
        falling=True,
    ),
    Column(
        "drained",
        "DRAINED",
        7,
        _now(_drained),
        _drained_key,
        right=True,
        drop=2,
        falling=True,
    ),
    Column(
        "workers",
        "WORKERS",
        7,
        _now(lambda queue, scene: count(queue.serving)),
        lambda queue: queue.serving,
        right=True,
        drop=3,
        falling=True,
    ),
    Column(
        "slots",
        "SLOTS",
        6,
        _now(lambda queue, scene: count(queue.slots)),
        lambda queue: queue.slots,
        right=True,
        drop=7,
        falling=True,
    ),
    Column(
        "ends",
        "ENDED, 10 MIN",
        SPARK,
        lambda queue, scene: sparks([float(each) for each in queue.ended]),
        token=lambda queue, scene: "spark",
        drop=9,
    ),
    Column(
        "ends-short",
        "ENDED, 5 M",
        SPARK // 2,
        lambda queue, scene: sparks([float(each) for each in queue.ended[SPARK // 2 :]]),
        token=lambda queue, scene: "spark",
        drop=8,
    ),
)
WIDE: Final = 134
"""Columns from which on the longer spark has room."""
ABOUT: Final = 7
"""Lines about the queue under the cursor, where there is room for them."""


class Queues(Listing[Queue]):
    """The view."""

    name = "queues"
    title = "Queues"
    looks_at = "a part of the name"
    drawn = frozenset({"ends", "ends-short"})

    def __init__(self) -> None:
        super().__init__(
            Table(COLUMNS, sort="state", empty="no queue yet: the first task makes one")
        )

    # Drawing.

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """The table, and below it all that is paused or closed."""
        rows = queues(scene)
        items = {queue.queue: queue for queue in rows if self.wanted(queue.queue)}
        self._table.hidden = {"ends-short" if width >= WIDE else "ends"}
        self._table.refresh(items, scene.now)
        waiting = sum(queue.queued for queue in rows)
        title = f"queues {len(rows)}   {waiting:,} waiting"
        if not scene.live:
            title = f"queues {len(rows)}   what waited, pauses and workers are not recorded"
        for state in ("paused", "unserved"):
            if number := sum(queue.state == state for queue in rows):
                title += f"   {number} {state}"
        if self._filter:
            title += f"   /{self._filter}"
        per_second = sum(queue.ended_per_s for queue in rows)
        below = self._gates(scene, width, height // 2)
        queue = self._table.item()
        if queue is not None and height - len(below) - len(items) - 3 >= ABOUT and height >= 24:
            below = [*self._about(scene, queue, width), *below]
        room = height - 1 - len(below)
        return [
            rule(title, width, f"{rate(per_second)}/s over the last minute"),
            *self._table.lines(width, max(2, room), scene),
            *below,
        ]

    def _about(self, scene: Scene, queue: Queue, width: int) -> list[Line]:
        half = width // 2 - 2
        serving = [
            actor.beat.name
            for actor in scene.store.workers()
            if presence.serves(actor.beat, queue.queue)
            and not actor.lost(scene.store.heard_by(scene.now))
        ]
        facts = [
            (
                "waiting",
                f"{queue.queued:,}   the oldest for {span(queue.oldest_s)}"
                if scene.live
                else "not recorded",
            ),
            ("in hand", f"{queue.taken:,} messages   {queue.states.get('running', 0):,} tasks run"),
            ("parked", f"{queue.parked:,} wait for their time"),
            ("ended", f"{sum(queue.ended):,} in 10 min, {queue.failed:,} failed"),
            (
                "served by",
                f"{len(serving):,}: {', '.join(serving)}"
                if serving
                else "nobody"
                if scene.live
                else "not recorded",
            ),
        ]
        left = [clip(line((f" {name:<10}", "dim"), text), half) for name, text in facts]
        ends = [number / SLOT / 2 for number in queue.ended]
        right = chart("ended/s, 10 min", rate(ends[-1]), ends, width - half - 2, 4, label=short)
        return [
            rule(
                f"{queue.queue}  {queue.state}" if scene.live else queue.queue,
                width,
                "enter its tasks",
            ),
            *(columns_of(pair, width) for pair in zip(left, right, strict=True)),
            clip(EMPTY, width),
        ]

    def _gates(self, scene: Scene, width: int, most: int) -> list[Line]:
        gates = scene.store.gates
        if not scene.live:
            return [rule("paused and closed: not recorded", width)]
        if not gates:
            return [rule("nothing is paused or closed", width)]
        lines = [rule(f"paused and closed ({len(gates)})", width, "what lifts it")]
        room = most - 1
        for gate in gates[: room if len(gates) <= room else room - 1]:
            lines.append(gate_line(scene, gate, width))
        if len(gates) > room:
            text = f"  and {len(gates) - room + 1:,} more"
            lines.append(clip(line((text, "dim")), width))
        return [*lines, clip(EMPTY, width)] if len(lines) < most else lines

    # Commands.

    def command(self, row: Queue) -> str:
        """What pauses it, or lets it go on."""
        return f"agentflow {'resume' if row.state == 'paused' else 'pause'} {row.queue}"

    def exported(self, scene: Scene) -> list[Queue]:
        """All of them."""
        return queues(scene)

    def chosen(self) -> Way | None:
        """The tasks of the queue under the cursor."""
        queue = self._table.item()
        return Way("show_tasks", query.term("queue", queue.queue)) if queue is not None else None


def gate_line(scene: Scene, gate: GateView, width: int) -> Line:
    """What is paused or closed, why, since when, and what lifts it."""
    crit = gateviews.alerting(gate)
    sign = scene.glyph("crit" if crit else "paused")
    since = span(scene.now - gate.since.timestamp())
    until = f" until {scene.clock(gate.until.timestamp())}" if gate.until is not None else ""
    by = f" by {gate.actor}" if gate.actor else ""
    why = ", ".join(each for each in (gate.reason, gate.error_code, gate.message) if each)
    remedy = clip(line((gateviews.remedy(gate), "key")), min(40, width // 3))
    text = line(
        (f" {sign} ", "crit" if crit else "warn"),
        (f"{gate.what} {gate.name}  ", "bold"),
        (f"{gateviews.word(gate)}{until}, for {since}{by}  ", "warn"),
        (why, "dim"),
    )
    return columns_of([clip(text, width - min(40, width // 3) - 2), remedy], width)


__all__ = ["Queues"]
