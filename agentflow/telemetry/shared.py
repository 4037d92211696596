"""Metrics of what all workers share, from the bucket: budgets, the limits of routes, batches.

A master tells them, since no worker is needed for them to stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

import msgspec
from prometheus_client import CollectorRegistry, Gauge

from agentflow.protocol import batches
from agentflow.rules.routes import budgets
from agentflow.rules.routes import clock as clocks
from agentflow.telemetry.labels import Words
from agentflow.views.limits import clock_told


class SharedGauges:
    """The gauges; `tell` sets all of them anew."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"agentflow_{name}", text, labels, registry=registry)

        self._scope, self._route, self._queue = Words(), Words(), Words()
        self._limit = gauge("budget_limit_usd", "A budget, in US dollars.", "scope")
        self._spent = gauge("budget_spent_usd", "What of it is spent, in its period.", "scope")
        self._held = gauge("budget_held_usd", "What requests under way may cost of it.", "scope")
        self._most = gauge("limit_per_minute", "A limit of a route.", "route", "limit")
        self._used = gauge(
            "limit_used_ratio", "The share of its bucket that is gone.", "route", "limit"
        )
        self._pace = gauge(
            "limit_pace_ratio", "The share of its refill that may start now.", "route", "limit"
        )
        self._batches = gauge(
            "batches_standing",
            "Batches under way; state is open, sent (its create was not answered) or made.",
            "queue",
            "state",
        )
        self._all = (
            *(self._limit, self._spent, self._held),
            *(self._most, self._used, self._pace, self._batches),
        )

    def tell(self, bucket: Mapping[str, bytes], now: datetime) -> None:
        """What the keys of the bucket say."""
        for gauge in self._all:
            gauge.clear()
        standing: Counter[tuple[str, str]] = Counter()
        for key, value in bucket.items():
            if key.startswith(budgets.PREFIX):
                self._budget(key.removeprefix(budgets.PREFIX), value, now)
            elif key.startswith(clocks.CLOCK):
                self._clock(key.removeprefix(clocks.CLOCK), value)
            elif (place := batches.parse_key(key)) is not None:
                standing.update((self._queue(place[1]), state) for state in _states(value))
        for (queue, state), count in standing.items():
            self._batches.labels(queue, state).set(count)

    def _budget(self, scope: str, value: bytes, now: datetime) -> None:
        budget = budgets.read(value)
        if budget is None:
            return
        budget, label = budgets.current(budget, now), self._scope(budgets.shown(scope))
        self._limit.labels(label).set(budget.limit / 1e6)
        self._spent.labels(label).set(budget.spent / 1e6)
        self._held.labels(label).set(budget.held_micro / 1e6)

    def _clock(self, name: str, value: bytes) -> None:
        clock = clocks.read(value)
        if clock is None:
            return
        route = self._route(name)
        for axis, said in clock_told(clock, 0)["axes"].items():
            self._most.labels(route, axis).set(said["limit"])
            self._pace.labels(route, axis).set(said["pace"])
            if said["used"] is not None:
                self._used.labels(route, axis).set(said["used"])


def _states(value: bytes) -> list[str]:
    try:
        return [str(row.state) for row in batches.read(value).rows]
    except msgspec.DecodeError:
        return []  # of another version
