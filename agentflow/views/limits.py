"""How the limits of a route stand: what is used, who waits, and by what it is known. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from agentflow.protocol.control import Waiting
from agentflow.rules.routes import clock as clocks
from agentflow.rules.routes.clock import Axis, Clock


class AxisView(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of a route, a minute.

    `used` is the share of its bucket that is not there, `rate` the share of its refill that may
    start now; `queued_s` how many seconds of that are counted and have not started.
    """

    axis: str
    limit: float
    remaining: float | None = None
    used: float | None = None
    rate: float = 0.0
    queued_s: float = 0.0


class RouteView(msgspec.Struct, frozen=True, kw_only=True):
    """A route. `state`: `free` (nobody needs a ticket), `governed`, `closed`, or what is not known.

    `source` says by what its limits are known: `headers`, `configured`, `probe` (one request is
    finding out), `none`. `waiting` requests wait, the first of them for `axis`, `starts_s` seconds.
    """

    route: str
    state: str
    source: str
    read: datetime | None = None
    slots: int = 0
    axes: list[AxisView] = []
    waiting: int = 0
    axis: str = ""
    starts_s: float | None = None


def route_view(
    name: str,
    clock: Clock,
    counted: Mapping[str, float],
    waiting: Sequence[Waiting],
    *,
    closed: bool,
    slots: int,
    now: float,
) -> RouteView:
    """A route by its clock, its counters, and what the workers say."""
    axes = []
    for axis_name in clocks.AXES:
        axis = clock.axes.get(axis_name)
        if axis is None:
            continue
        now_passed = axis.passed + (0.0 if closed else axis.rate * max(0.0, now - clock.at))
        queued = counted.get(axis_name, 0.0) - now_passed
        axes.append(
            AxisView(
                axis=axis_name,
                limit=axis.limit,
                remaining=axis.remaining,
                used=_used(axis),
                rate=round(axis.rate / axis.refill, 3),
                queued_s=round(max(0.0, queued) / axis.rate, 1) if axis.rate else 0.0,
            )
        )
    lines = [told.routes[name] for told in waiting if name in told.routes]
    first = min(lines, key=lambda line: line.seconds, default=None)
    return RouteView(
        route=name,
        state=_state(clock, closed, slots),
        source=clock.source,
        read=datetime.fromtimestamp(clock.read, UTC) if clock.read else None,
        slots=slots,
        axes=axes,
        waiting=sum(line.waiting for line in lines),
        axis=first.axis if first is not None else "",
        starts_s=None if first is None else first.seconds,
    )


def clock_told(clock: Clock, slots: int) -> dict[str, Any]:
    """A route's clock as its workers tell it with their heartbeats."""
    axes = {
        name: {"limit": axis.limit, "used": _used(axis), "pace": round(axis.rate / axis.refill, 3)}
        for name, axis in clock.axes.items()
        if axis.refill > 0
    }
    return {
        "state": _state(clock, False, slots),
        "source": clock.source,
        "at": datetime.fromtimestamp(clock.at, UTC).isoformat(),
        "axes": axes,
    }


def _used(axis: Axis) -> float | None:
    full = axis.capacity * axis.refill
    return None if axis.remaining is None or not full else _share(1.0 - axis.remaining / full)


def _state(clock: Clock, closed: bool, slots: int) -> str:
    if closed:
        return "closed"
    if not clock.axes:
        return {clocks.PROBE: "being found out"}.get(clock.source, "not known")
    return "governed" if clock.governs(slots) else "free"


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 3)


def sentence(view: RouteView) -> str:
    """By what a route's limits are known, for people."""
    by = {
        clocks.HEADERS: "limits from its answers",
        clocks.CONFIGURED: "configured limits",
        clocks.PROBE: "a first request is finding its limits out",
        clocks.NONE: "its answers tell no limits; requests slow down only when they are refused",
    }.get(view.source, view.source)
    return f"{view.route}: {view.state}, {by}"
