"""What flows, as rows: ends of the last ten minutes, and how long tasks waited and ran."""

from __future__ import annotations

from typing import Final

import msgspec

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.rows.units import dollars
from agentflow.dashboard.store.totals import Durations, series, since

WINDOW: Final = 600
"""Seconds that "lately" means here."""
SHARES: Final = (0.5, 0.95, 0.99)


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds below which so many lie; None: nothing ended."""

    p50: float | None
    p95: float | None
    p99: float | None


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """Ends of the last `window_s` seconds, how long their tasks waited and ran, and the last whole
    minute's money.
    """

    window_s: int
    done: int
    failed: int
    done_per_s: float
    wait_s: Percentiles
    run_s: Percentiles
    cost_usd_per_min: float


def flow(scene: Scene) -> Flow:
    """As it is at the moment."""
    totals, now = scene.store.totals, int(scene.now)
    return Flow(
        window_s=WINDOW,
        done=since(totals.ends, now - WINDOW, now),
        failed=since(totals.failures, now - WINDOW, now),
        done_per_s=sum(series(totals.ends, now, 10)) / 10,
        wait_s=_rounded(lately(totals.waits, now)),
        run_s=_rounded(lately(totals.runs, now)),
        cost_usd_per_min=dollars(totals.costs.get(now // 60 - 1, 0)),
    )


def lately(durations: Durations, now: int) -> Percentiles:
    """Those that ended within the window."""
    p50, p95, p99 = durations.percentiles((now - WINDOW) * 1000, now * 1000, *SHARES)
    return Percentiles(p50=p50, p95=p95, p99=p99)


def _rounded(exact: Percentiles) -> Percentiles:
    seconds = (exact.p50, exact.p95, exact.p99)
    p50, p95, p99 = (None if value is None else round(value, 3) for value in seconds)
    return Percentiles(p50=p50, p95=p95, p99=p99)
