"""What the costs view says of rate limits, their clocks and batches, a column each."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from agentflow.dashboard.reader.column import Column
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.amounts import bar, count, money, short, span
from agentflow.dashboard.rows.batches import Batch
from agentflow.dashboard.rows.headroom import Family, Room
from agentflow.dashboard.rows.limits import Route
from agentflow.dashboard.rows.units import Instant


def _room(family: Family, name: str, scene: Scene) -> str:
    room = family.rooms.get(name)
    if room is None:
        return "-"
    used = 1 - room.left
    text = f"{short(room.remaining)}/{short(room.limit)}"
    return f"{text:>11} {bar(used, 5, ascii=scene.ascii)}"


def _room_token(family: Family, name: str, scene: Scene) -> str:
    room = family.rooms.get(name)
    if room is None or not _fresh(room, scene):
        return "dim"
    return "crit" if room.left < 0.05 else "warn" if room.left < 0.15 else "text"


def _fresh(room: Room, scene: Scene) -> bool:
    return room.reset is not None and room.reset > scene.now


def _reset(family: Family, scene: Scene) -> str:
    resets = [room.reset for room in family.rooms.values() if room.reset is not None]
    ahead = max((reset - scene.now for reset in resets), default=0.0)
    return span(ahead) if ahead > 0 else "-"


def _limit(name: str, title: str, drop: int) -> Column[Family]:
    return Column(
        name,
        title,
        17,
        lambda family, scene: _room(family, name, scene),
        token=lambda family, scene: _room_token(family, name, scene),
        drop=drop,
    )


LIMITS: Final[tuple[Column[Family], ...]] = (
    Column("family", "MODELS", 7, lambda family, scene: family.name, grows=True, most=10),
    Column(
        "pool",
        "POOL",
        8,
        lambda family, scene: family.pool,
        token=lambda family, scene: "dim",
        drop=5,
        grows=True,
        most=14,
    ),
    _limit("requests", "REQUESTS LEFT", 2),
    _limit("input-tokens", "INPUT LEFT", 1),
    _limit("output-tokens", "OUTPUT LEFT", 0),
    Column("reset", "FULL IN", 7, _reset, right=True, drop=3),
    Column(
        "flight", "FLYING", 6, lambda family, scene: count(family.in_flight), right=True, drop=4
    ),
    Column("held", "HELD", 5, lambda family, scene: count(family.held), right=True, drop=6),
    Column(
        "refused",
        "429",
        5,
        lambda family, scene: count(family.refused),
        token=lambda family, scene: "warn" if family.refused else "dim",
        right=True,
        drop=4,
    ),
)


def tightness(family: Family, scene: Scene) -> tuple[float, str]:
    tightest = family.tightest(scene.now)
    return (tightest[1].left if tightest is not None else 2.0, family.key)


_SOURCES: Final = {
    "headers": "its answers",
    "configured": "configured",
    "probe": "a first request",
    "none": "told by nobody",
}


def _pace(name: str) -> Column[Route]:
    def said(route: Route, scene: Scene) -> str:
        axis = route.axes.get(name)
        if axis is None:
            return "-"
        used = "" if axis.used is None else f"{100 * axis.used:3.0f}% used "
        return f"{used}{100 * axis.pace:4.0f}%"

    def token(route: Route, scene: Scene) -> str:
        if name not in route.axes:
            return "dim"
        return "warn" if route.waiting and route.axis == name else "text"

    title = {"requests": "REQUESTS PACE", "input": "INPUT PACE", "output": "OUTPUT PACE"}[name]
    drop = {"requests": 4, "input": 3, "output": 2}[name]
    return Column(name, title, 15, said, token=token, right=True, drop=drop)


def _ahead(instant: Instant | None, scene: Scene) -> str:
    if instant is None:
        return "-"
    seconds = datetime.fromisoformat(instant).timestamp() - scene.now
    return span(max(0.0, seconds))


def _age(instant: Instant | None, scene: Scene) -> str:
    if instant is None:
        return "-"
    return span(max(0.0, scene.now - datetime.fromisoformat(instant).timestamp()))


def _state_token(route: Route, scene: Scene) -> str:
    return {"closed": "crit", "governed": "warn", "free": "text"}.get(route.state, "dim")


CLOCKS: Final[tuple[Column[Route], ...]] = (
    Column("family", "MODELS", 7, lambda route, scene: route.family, grows=True, most=10),
    Column(
        "pool",
        "POOL",
        8,
        lambda route, scene: route.pool,
        token=lambda route, scene: "dim",
        drop=6,
        grows=True,
        most=14,
    ),
    Column(
        "state",
        "STATE",
        8,
        lambda route, scene: route.state or "-",
        token=_state_token,
        drop=1,
    ),
    Column(
        "source",
        "LIMITS BY",
        11,
        lambda route, scene: _SOURCES.get(route.source, route.source or "-"),
        token=lambda route, scene: "dim",
        drop=7,
    ),
    _pace("requests"),
    _pace("input"),
    _pace("output"),
    Column(
        "waiting",
        "WAIT",
        5,
        lambda route, scene: count(route.waiting),
        token=lambda route, scene: "warn" if route.waiting else "dim",
        right=True,
    ),
    Column("axis", "FOR", 8, lambda route, scene: route.axis or "-"),
    Column("next", "NEXT IN", 7, lambda route, scene: _ahead(route.starts, scene), right=True),
)


def _batch_cost(batch: Batch, micro: float) -> str:
    return money(round(micro * 1e6)) if batch.settled else "-"


BATCHES: Final[tuple[Column[Batch], ...]] = (
    Column("id", "BATCH", 14, lambda batch, scene: batch.id, grows=True, most=32),
    Column("queue", "QUEUE", 8, lambda batch, scene: batch.queue, drop=4, grows=True, most=14),
    Column(
        "state",
        "STATE",
        11,
        lambda batch, scene: batch.status or batch.state,
        token=lambda batch, scene: "warn" if batch.state == "sent" else "text",
        drop=1,
    ),
    Column(
        "settled",
        "DONE",
        13,
        lambda batch, scene: f"{batch.settled:,}/{batch.count:,}",
        right=True,
    ),
    Column("age", "AGE", 5, lambda batch, scene: _age(batch.made, scene), right=True, drop=2),
    Column(
        "expires",
        "EXPIRES",
        7,
        lambda batch, scene: _ahead(batch.expires, scene),
        right=True,
        drop=3,
    ),
    Column("cost", "COST", 8, lambda batch, scene: _batch_cost(batch, batch.cost_usd), right=True),
    Column(
        "saved",
        "SAVED",
        8,
        lambda batch, scene: _batch_cost(batch, batch.saved_usd),
        token=lambda batch, scene: "spark.money",
        right=True,
        drop=1,
    ),
    Column(
        "worker",
        "WORKER",
        8,
        lambda batch, scene: batch.worker,
        token=lambda batch, scene: "dim",
        drop=5,
        grows=True,
        most=16,
    ),
)
