"""Views of what no record tells: jobs, limits and budgets, read every few seconds while somebody
looks, and shown as tables like all others.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from agentflow.client import Client
from agentflow.client.operate import budgets
from agentflow.client.operate.budgets import Standing
from agentflow.dashboard.reader.column import Column
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.table import Table
from agentflow.dashboard.render.amounts import bar, count, money, span
from agentflow.dashboard.rows import documents
from agentflow.errors import AgentFlowError
from agentflow.gateway.views import Picture
from agentflow.views.jobs import LOST, RUNNING, WAITING, JobRow, row_of_job
from agentflow.views.limits import RouteView, sentence

MICRO: Final = 1_000_000


def _usd(dollars: float | None) -> str:
    return money(None if dollars is None else round(dollars * MICRO))


def _since(at: datetime | None, scene: Scene) -> str:
    return span(scene.now - at.timestamp()) if at is not None else ""


def _part(share: float, width: int = 8) -> str:
    return f"{bar(share, width)} {100 * share:3.0f}%"


_JOB_TOKENS: Final = {RUNNING: "state.running", WAITING: "warn", LOST: "crit", "done": "ok"}

JOBS: Final[tuple[Column[JobRow], ...]] = (
    Column("id", "JOB", 20, lambda job, scene: job.id, lambda job: job.id),
    Column(
        "state",
        "STATE",
        11,
        lambda job, scene: job.state,
        lambda job: job.state,
        lambda job, scene: _JOB_TOKENS.get(job.state, "warn"),
    ),
    Column(
        "file", "FILE", 18, lambda job, scene: job.file, lambda job: job.file, drop=3, grows=True
    ),
    Column(
        "progress",
        "PROGRESS",
        13,
        lambda job, scene: _part(job.progress),
        lambda job: job.progress,
        drop=1,
    ),
    Column(
        "done",
        "DONE",
        13,
        lambda job, scene: f"{count(job.done)}/{count(job.lines)}",
        lambda job: job.done,
        right=True,
        drop=2,
    ),
    Column(
        "failed",
        "FAILED",
        6,
        lambda job, scene: count(job.failed) if job.failed else "",
        lambda job: job.failed,
        lambda job, scene: "state.failed",
        right=True,
        drop=2,
        falling=True,
    ),
    Column(
        "running",
        "RUNNING",
        7,
        lambda job, scene: count(job.running) if job.running else "",
        lambda job: job.running,
        right=True,
        drop=4,
        falling=True,
    ),
    Column(
        "cost",
        "COST",
        8,
        lambda job, scene: _usd(job.cost_usd),
        lambda job: job.cost_usd or 0.0,
        right=True,
        falling=True,
    ),
    Column(
        "started",
        "STARTED",
        7,
        lambda job, scene: _since(job.started, scene),
        lambda job: -job.started.timestamp(),
        right=True,
        drop=2,
    ),
    Column("queue", "QUEUE", 9, lambda job, scene: job.queue, lambda job: job.queue, drop=6),
    Column(
        "waiting",
        "WAITS FOR",
        14,
        lambda job, scene: job.waiting,
        token=lambda job, scene: "warn",
        drop=5,
        grows=True,
    ),
    Column("who", "WHO", 12, lambda job, scene: job.who, lambda job: job.who, drop=7),
)


def _axis(name: str) -> Callable[[RouteView, Scene], str]:
    def text(route: RouteView, scene: Scene) -> str:
        for axis in route.axes:
            if axis.axis == name:
                used = "" if axis.used is None else f"{_part(axis.used)} of "
                return f"{used}{count(axis.limit)}"
        return ""

    return text


def _axis_token(name: str) -> Callable[[RouteView, Scene], str]:
    def token(route: RouteView, scene: Scene) -> str:
        used = max((axis.used or 0.0 for axis in route.axes if axis.axis == name), default=0.0)
        return "crit" if used >= 0.95 else "warn" if used >= 0.8 else "text"

    return token


def _used(name: str, title: str, drop: int) -> Column[RouteView]:
    return Column(name, title, 23, _axis(name), token=_axis_token(name), drop=drop)


LIMITS: Final[tuple[Column[RouteView], ...]] = (
    Column("route", "POOL.FAMILY", 18, lambda route, scene: route.route, lambda route: route.route),
    Column(
        "state",
        "STATE",
        10,
        lambda route, scene: route.state,
        lambda route: route.state,
        lambda route, scene: "crit" if route.state == "closed" else "text",
    ),
    _used("requests", "REQUESTS A MINUTE USED", 1),
    _used("input", "INPUT TOKENS USED", 2),
    _used("output", "OUTPUT TOKENS USED", 3),
    Column(
        "waiting",
        "WAIT",
        6,
        lambda route, scene: count(route.waiting) if route.waiting else "",
        lambda route: route.waiting,
        lambda route, scene: "warn",
        right=True,
        falling=True,
    ),
    Column(
        "starts",
        "STARTS IN",
        9,
        lambda route, scene: span(route.starts_s) if route.starts_s is not None else "",
        right=True,
        drop=4,
    ),
    Column(
        "source",
        "KNOWN BY",
        22,
        lambda route, scene: sentence(route).partition(", ")[2],
        token=lambda route, scene: "dim",
        drop=5,
        grows=True,
    ),
)


def _spent(budget: Standing) -> float:
    whole = budget.spent_usd + budget.held_usd
    return min(1.0, whole / budget.limit_usd) if budget.limit_usd > 0 else 1.0


BUDGETS: Final[tuple[Column[Standing], ...]] = (
    Column("scope", "SCOPE", 18, lambda each, scene: each.scope, lambda each: each.scope),
    Column(
        "used",
        "USED",
        13,
        lambda each, scene: _part(_spent(each)),
        _spent,
        lambda each, scene: "crit" if each.stops else "warn" if _spent(each) > 0.8 else "text",
        falling=True,
    ),
    Column(
        "spent",
        "SPENT",
        8,
        lambda each, scene: _usd(each.spent_usd),
        lambda each: each.spent_usd,
        right=True,
        falling=True,
    ),
    Column(
        "held",
        "HELD",
        8,
        lambda each, scene: _usd(each.held_usd),
        lambda each: each.held_usd,
        right=True,
        drop=2,
    ),
    Column(
        "limit",
        "LIMIT",
        8,
        lambda each, scene: _usd(each.limit_usd),
        lambda each: each.limit_usd,
        right=True,
    ),
    Column("per", "EACH", 7, lambda each, scene: each.per or "", drop=1),
    Column(
        "on_limit",
        "AT ITS LIMIT",
        22,
        lambda each, scene: f"tasks {each.on_limit}" + ("; no room now" if each.stops else ""),
        token=lambda each, scene: "crit" if each.stops else "dim",
        drop=3,
        grows=True,
    ),
)


class Listing(Picture, ABC):
    """A picture of what is read: the table as it was read last, and what went wrong since."""

    every = 2.0
    columns: ClassVar[tuple[Column[Any], ...]]
    sort: ClassVar[str]
    empty: ClassVar[str]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._rows: Mapping[str, Any] = {}
        self._problem = ""
        self._read_once = False
        self._reading = False
        chosen = self.choice.sort.removeprefix("-")
        known = any(each.key == chosen and each.sort is not None for each in self.columns)
        self._table: Table[Any] = Table(
            self.columns,
            sort=chosen if known else self.sort,
            reverse=self.choice.sort.startswith("-"),
            empty=self.empty,
        )

    def make(self) -> None:
        """Read it again; what came is told by the next making."""
        super().make()
        self._begin()

    def snapshot(self) -> dict[str, Any]:
        """All of it, as far as it has been read."""
        self._begin()
        return super().snapshot()

    def _take(self, scene: Scene) -> None:
        self.made, self.revision = time.monotonic(), scene.store.revision
        self._head = documents.head(scene)
        self._document = {
            "read": self._read_once,
            "problem": self._problem,
            "empty": self.empty,
            "rows": list(self._rows.values()),
        }
        self._table.refresh(self._rows, scene.now)
        self._grid = self._table.grid(scene, self.choice.first, self.choice.number)

    def _begin(self) -> None:
        if not self._reading:
            self._reading = True
            self._board.read(self._read(), self.choice.view)

    async def _read(self) -> None:
        try:
            self._rows = await type(self).rows(self._world.client)
            self._problem, first = "", not self._read_once
            self._read_once = True
            self._table.invalidate()
            if first and self.viewers:
                super().make()
        except AgentFlowError as error:
            self._problem = str(error)
        finally:
            self._reading = False

    @staticmethod
    @abstractmethod
    def rows(client: Client) -> Awaitable[Mapping[str, Any]]:
        """What there is, by key."""


class Jobs(Listing):
    """The jobs, the latest first."""

    columns, sort = JOBS, "started"
    empty = "no jobs: agentflow run FILE makes one"

    @staticmethod
    async def rows(client: Client) -> Mapping[str, JobRow]:
        """The jobs by id."""
        now = client.js.now()
        return {job.id: row_of_job(job, now) for job in await client.operate.jobs.all()}


class Limits(Listing):
    """The routes and how much of each limit is used."""

    columns, sort = LIMITS, "route"
    empty = "no limits are known: nothing has been asked yet"

    @staticmethod
    async def rows(client: Client) -> Mapping[str, RouteView]:
        """The routes by name."""
        return {route.route: route for route in await client.limits()}


class Budgets(Listing):
    """The budgets."""

    columns, sort = BUDGETS, "scope"
    empty = "no budgets: nothing limits what tasks may cost"

    @staticmethod
    async def rows(client: Client) -> Mapping[str, Standing]:
        """The budgets by scope."""
        return {each.scope: each for each in await budgets.standing(client.js)}


LISTINGS: Final[Mapping[str, type[Picture]]] = {
    "jobs": Jobs,
    "limits": Limits,
    "budgets": Budgets,
}
