"""What it costs: by model, queue, kind or label; how fast; what was wasted; which limits are near.

Money is booked in the minute of a task's last record, and days are UTC's, as bills are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agentflow.dashboard.reader.column import Column, listed
from agentflow.dashboard.reader.effects import Choose, Copy, Effect, Export
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.table import Table
from agentflow.dashboard.reader.view import View, Way
from agentflow.dashboard.render.amounts import bar, count, money, percent, short, sparks
from agentflow.dashboard.render.lines import EMPTY, Line, clip, fitted, line, rule
from agentflow.dashboard.render.separated import separated
from agentflow.dashboard.rows.batches import batches
from agentflow.dashboard.rows.costs import (
    BY,
    DAY,
    HOUR,
    Share,
    burn,
    dearest,
    least,
    recent,
    shares,
)
from agentflow.dashboard.rows.headroom import headroom
from agentflow.dashboard.rows.limits import routes
from agentflow.dashboard.rows.taskgroups import label_names
from agentflow.dashboard.store.totals import Spend
from agentflow.dashboard.views.limitcolumns import BATCHES, CLOCKS, LIMITS, tightness
from agentflow.dashboard.views.taskcolumns import columns
from agentflow.views import query
from agentflow.views.row import Row

PERIODS: Final[dict[str, int]] = {"minute": 60, "hour": 3600, "day": 86_400, "all": 0}
"""Seconds that each looks back; 0: over all that is known."""
BY_LABEL: Final = 3.0
"""Seconds between two sums by label: each looks at every task."""
SPARK: Final = 20


def _per_task(share: Share) -> float:
    priced = share.spend.tasks - share.spend.unknown
    return share.spend.cost / priced if priced > 0 else 0.0


def _part(share: Share, scene: Scene) -> str:
    if share.whole <= 0:
        return ""
    part = share.spend.cost / share.whole
    return f"{bar(part, 12, ascii=scene.ascii)} {100 * part:3.0f}%"


def _cost(share: Share, scene: Scene) -> str:
    spend = share.spend
    if spend.unknown and spend.unknown == spend.tasks:
        return "-"
    return money(spend.cost) + ("?" if spend.unknown else "")


COLUMNS: Final[tuple[Column[Share], ...]] = (
    Column(
        "name",
        "MODEL",
        16,
        lambda share, scene: share.name or "(none)",
        lambda share: share.name,
        grows=True,
        most=30,
    ),
    Column(
        "tasks",
        "TASKS",
        8,
        lambda share, scene: count(share.spend.tasks),
        lambda share: share.spend.tasks,
        right=True,
        drop=2,
        falling=True,
    ),
    Column(
        "input",
        "IN",
        6,
        lambda share, scene: short(share.spend.all_input),
        lambda share: share.spend.all_input,
        right=True,
        drop=4,
        falling=True,
    ),
    Column(
        "cached",
        "CACHED",
        6,
        lambda share, scene: percent(share.spend.cache_read, share.spend.all_input),
        lambda share: share.spend.cache_read / max(1, share.spend.all_input),
        right=True,
        drop=5,
        falling=True,
    ),
    Column(
        "written",
        "WRITTEN",
        7,
        lambda share, scene: short(share.spend.cache_write),
        lambda share: share.spend.cache_write,
        right=True,
        drop=8,
        falling=True,
    ),
    Column(
        "output",
        "OUT",
        6,
        lambda share, scene: short(share.spend.output),
        lambda share: share.spend.output,
        right=True,
        drop=3,
        falling=True,
    ),
    Column(
        "cost",
        "COST",
        9,
        _cost,
        lambda share: share.spend.cost,
        lambda share, scene: "bold",
        right=True,
        falling=True,
    ),
    Column(
        "each",
        "$/TASK",
        8,
        lambda share, scene: money(round(_per_task(share))),
        _per_task,
        right=True,
        drop=6,
        falling=True,
    ),
    Column(
        "wasted",
        "WASTED",
        8,
        lambda share, scene: money(share.spend.wasted) if share.spend.wasted else "",
        lambda share: share.spend.wasted,
        lambda share, scene: "state.failed",
        right=True,
        drop=7,
        falling=True,
    ),
    Column(
        "share",
        "SHARE",
        17,
        _part,
        lambda share: share.spend.cost,
        lambda share, scene: "spark.money",
        drop=1,
        falling=True,
    ),
)


class Costs(View):
    """The view."""

    name = "costs"
    title = "Costs"

    def __init__(self) -> None:
        self.by = "model"
        self.period = "day"
        self._table: Table[Share] = Table(
            COLUMNS, sort="cost", reverse=True, empty="nothing was spent in this time"
        )
        self._dearest: tuple[float, list[Row]] = (0.0, [])

    @property
    def table(self) -> Table[Any]:
        """The shares by name."""
        return self._table

    # Drawing.

    def body(self, scene: Scene, width: int, height: int) -> list[Line]:
        """The sum, the shares, the limits, and the tasks that cost most."""
        shares = self._shares(scene)
        self._table.columns[0] = _named(self.by)
        self._table.refresh(shares, scene.now)
        periods = " ".join(f"[{each}]" if each == self.period else each for each in PERIODS)
        ways = " ".join(f"[{each}]" if each == self.by else each for each in self._ways())
        right = f"P {periods}   b {ways}" if width >= 110 else f"P {periods}"
        lines = [rule(f"spend by {self.by}, {self._named()}", width, right)]
        lines += self._sums(scene, width, shares)
        limits = self._limits(scene, width, height)
        limits += self._clocks(scene, width, height) + self._batches(scene, width, height)
        rest = height - len(lines) - len(limits)
        room = max(3, min(rest, len(self._table.order) + 2))
        lines += self._table.lines(width, room, scene)
        lines += limits
        lines += self._most(scene, width, height - len(lines))
        return (lines + [clip(EMPTY, width)] * height)[:height]

    def _named(self) -> str:
        return "all that is known" if self.period == "all" else f"last {self.period}"

    def _ways(self) -> list[str]:
        return [*BY, "label"] if self.by in BY else [*BY, self.by]

    def _shares(self, scene: Scene) -> dict[str, Share]:
        key = ("shares", self.by, self.period)
        every = 1.0 if self.by in BY else BY_LABEL
        return scene.lately(key, lambda: shares(scene, self.by, PERIODS[self.period]), every)

    def _sums(self, scene: Scene, width: int, shares: dict[str, Share]) -> list[Line]:
        whole = Spend()
        for share in shares.values():
            whole.include(share.spend)
        costs = scene.store.totals.costs
        minute = int(scene.now) // 60
        today, _ = recent(scene.store.totals, scene.now)
        hour = burn(costs, minute)
        left = (minute - minute % DAY + DAY) * 60 - scene.now
        ahead = today + round(hour * left / 3600)
        lately = [costs.get(each, 0) for each in range(minute - SPARK, minute)]
        first = [
            _fact(
                "all" if self.period == "all" else f"last {self.period}",
                least(scene, PERIODS[self.period])
                + money(whole.cost)
                + ("?" if whole.unknown else ""),
            ),
            _fact("today", least(scene, scene.now % (DAY * 60)) + money(today)),
            _fact("burn", f"{least(scene, HOUR * 60)}{money(hour)}/h"),
            _fact("at midnight UTC", f"~{money(ahead)}"),
            line(
                (" $/min ", "dim"),
                (f"{money(lately[-1])} ", "bold"),
                (sparks([float(each) for each in lately]), "spark.money"),
            ),
        ]
        second = [
            _fact("tasks", count(whole.tasks)),
            _fact("cached", f"{percent(whole.cache_read, whole.all_input)} of what was read"),
            _fact("wasted", f"{money(whole.wasted)} ({percent(whole.wasted, whole.cost)})"),
            _fact("out", f"{short(whole.output)} tokens"),
            _fact("in", f"{short(whole.all_input)} tokens"),
        ]
        if whole.unknown:
            second.insert(2, _fact("without a price", f"{count(whole.unknown)} tasks"))
        return [fitted(first, width), fitted(second, width)]

    def _limits(self, scene: Scene, width: int, height: int) -> list[Line]:
        if not scene.live:
            return []
        families = scene.lately(
            "headroom", lambda: headroom(scene.store.workers(), scene.store.heard_by(scene.now))
        )
        most = max(1, (height - 10) // 3)
        if not families:
            text = "  no worker has told of a limit yet"
            return [rule("rate limits", width), clip(line((text, "dim")), width)]
        more = f"   {len(families) - most:,} more" if len(families) > most else ""
        lines = [rule("rate limits, as the last answers had them", width, f"bars: used{more}")]
        families.sort(key=lambda family: tightness(family, scene))
        return lines + listed(LIMITS, families[:most], width, scene)

    def _clocks(self, scene: Scene, width: int, height: int) -> list[Line]:
        known = scene.lately("routes", lambda: routes(scene)) if scene.live else []
        most = max(1, (height - 10) // 6)
        if not known:
            return []
        waiting = sum(route.waiting for route in known)
        said = f"{count(waiting)} wait" if waiting else "nobody waits"
        lines = [rule("what may start, and who waits for a limit", width, said)]
        return lines + listed(CLOCKS, known[:most], width, scene)

    def _batches(self, scene: Scene, width: int, height: int) -> list[Line]:
        known = scene.lately("batches", lambda: batches(scene)) if scene.live else []
        waiting = scene.store.totals.state("waiting") if scene.live else 0
        most = max(1, (height - 10) // 6)
        if not known and not waiting:
            return []
        sent = sum(batch.count - batch.settled for batch in known)
        more = f"   {len(known) - most:,} more" if len(known) > most else ""
        right = f"{count(max(waiting, sent))} tasks wait, {count(sent)} of them are sent{more}"
        lines = [rule("batches, at half the price", width, right)]
        return lines + (listed(BATCHES, known[:most], width, scene) if known else [])

    def _most(self, scene: Scene, width: int, height: int) -> list[Line]:
        rows = self._most_expensive(scene) if height > 3 else []
        if not rows:
            return []
        wanted = columns("id", "state", "queue", "kind", "attempt", "in", "out", "cost", "last")
        title = f"most expensive tasks, {self._named()}"
        return [
            rule(title, width),
            *listed(wanted, rows[: height - 3], width, scene, command="open_task"),
        ]

    def _most_expensive(self, scene: Scene) -> list[Row]:
        return scene.lately(
            ("dearest", self.period),
            lambda: dearest(scene.store, scene.now, PERIODS[self.period]),
            BY_LABEL,
        )

    # Commands.

    def do(self, scene: Scene, command: str, argument: str) -> list[Effect] | None:
        """Choose what it is summed by and over which time, copy, export."""
        match command:
            case "period":
                names = list(PERIODS)
                self.period = names[(names.index(self.period) + 1) % len(names)]
                self._table.invalidate()
                return []
            case "group" if argument:
                self.by = argument
                self._table.invalidate()
                return []
            case "group":
                names = [*BY, *(f"label {name}" for name in label_names(scene))]
                return [Choose("spend by", tuple(("group", name, name) for name in names))]
            case "copy_command":
                return [Copy("agentflow stats", "the command")]
            case "export":
                return [Export("costs", "csv", self._exported(scene))]
        return None

    def _exported(self, scene: Scene) -> str:
        names = (self.by, "tasks", "input", "cache_read", "cache_write", "output")
        lines: list[Sequence[object]] = [(*names, "cost_usd", "wasted_usd")]
        for share in self._shares(scene).values():
            spend = share.spend
            tokens = (spend.input, spend.cache_read, spend.cache_write, spend.output)
            money = (f"{spend.cost / 1e6:.6f}", f"{spend.wasted / 1e6:.6f}")
            lines.append((share.name, spend.tasks, *tokens, *money))
        return separated(lines)

    def chosen(self) -> Way | None:
        """The tasks of the share under the cursor."""
        share = self._table.item()
        if share is None:
            return None
        if self.by in BY:
            return Way("show_tasks", query.term(self.by, share.name) if share.name else "")
        label = self.by.removeprefix("label ")
        text = query.term("label", f"{label}={share.name}") if share.name else f"!label:{label}"
        return Way("show_tasks", text)


def _fact(name: str, text: str) -> Line:
    return line((f" {name} ", "dim"), (text, "bold"))


def _named(by: str) -> Column[Share]:
    first = COLUMNS[0]
    return Column(
        first.key,
        by.removeprefix("label ").upper(),
        first.width,
        first.text,
        first.sort,
        grows=True,
        most=first.most,
    )
