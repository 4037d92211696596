"""The limits of each route as its workers know them: what is used, the clock, who waits. Pure.

A worker tells the clock of each route that it asks, which all workers share: the newest counts. Who
waits for it waits with one worker, so the lines of all are one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.rows.headroom import number_of, time_of
from agentflow.dashboard.rows.units import Instant, instant

AXES: Final = ("requests", "input", "output")


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """A limit a minute. `used` is the share of its bucket that is gone, `pace` the share of its
    refill that may start now."""

    limit: float
    used: float | None
    pace: float


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route. `state` is free (nobody needs a ticket), governed, closed, or that its limits are
    not known (yet); `source` says by what they are: headers, configured, probe, none.

    `waiting` requests wait, the first for the limit `axis` until about `starts`.
    """

    pool: str
    family: str
    state: str = ""
    source: str = ""
    axes: dict[str, Axis] = {}
    waiting: int = 0
    axis: str = ""
    starts: Instant | None = None


def routes(scene: Scene) -> list[Route]:
    """All of which a living worker tells, those where most wait first."""
    found: dict[tuple[str, str], Route] = {}
    told: dict[tuple[str, str], float] = {}
    closed = {gate.name for gate in scene.store.gates if gate.what == "pool"}
    for actor in scene.store.workers():
        if actor.lost(scene.now):
            continue
        for pool, families in actor.beat.pools.items():
            for family, said in families.items() if isinstance(families, Mapping) else ():
                if isinstance(said, Mapping) and ("clock" in said or "waiting" in said):
                    key = (str(pool), str(family))
                    route = _waiting(found.get(key) or Route(pool=key[0], family=key[1]), said)
                    found[key], told[key] = _clocked(route, said, told.get(key, 0.0), closed)
    return sorted(found.values(), key=lambda route: (-route.waiting, route.pool, route.family))


def _waiting(route: Route, said: Mapping[str, Any]) -> Route:
    waiting = said.get("waiting")
    if not isinstance(waiting, int) or waiting <= 0:
        return route
    whole = msgspec.structs.replace(route, waiting=route.waiting + waiting)
    starts = time_of(said.get("starts"))
    if starts is None or (route.starts is not None and route.starts <= instant(starts)):
        return whole
    axis = said.get("axis")
    return msgspec.structs.replace(
        whole, axis=axis if isinstance(axis, str) else "", starts=instant(starts)
    )


def _clocked(
    route: Route, said: Mapping[str, Any], before: float, closed: set[str]
) -> tuple[Route, float]:
    clock = said.get("clock")
    at = time_of(clock.get("at")) if isinstance(clock, Mapping) else None
    if not isinstance(clock, Mapping) or at is None or at < before:
        return route, before
    state, source = clock.get("state"), clock.get("source")
    shut = f"{route.pool}.{route.family}" in closed
    return (
        msgspec.structs.replace(
            route,
            state="closed" if shut else str(state or "")[:40],
            source=str(source or "")[:40],
            axes=_axes(clock.get("axes")),
        ),
        at,
    )


def _axes(told: object) -> dict[str, Axis]:
    axes = {}
    for name in AXES:
        said = told.get(name) if isinstance(told, Mapping) else None
        if not isinstance(said, Mapping):
            continue
        limit, pace = number_of(said.get("limit")), number_of(said.get("pace"))
        if limit is not None and pace is not None:
            axes[name] = Axis(limit=limit, used=number_of(said.get("used")), pace=pace)
    return axes
