"""What it costs, as rows: today by model, queue and kind; of any time by one thing in common.

Money is booked in the minute of a task's last record, and days are UTC's, as bills are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import Final

import msgspec

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.rows.taskgroups import grouping
from agentflow.dashboard.rows.units import dollars
from agentflow.dashboard.store.store import Store
from agentflow.dashboard.store.totals import Spend, Totals, since
from agentflow.views.row import Row

BY: Final = ("model", "queue", "kind")
"""What an account is named by."""
MOST_TASKS: Final = 20
HOUR: Final = 60
DAY: Final = 24 * 60
"""Minutes."""
DAY_MS: Final = 86_400_000


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What tasks of one model, queue and kind cost; `wasted_usd` went into failed attempts."""

    model: str | None
    queue: str
    kind: str
    tasks: int
    cost_usd: float
    wasted_usd: float
    without_price: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars since midnight UTC, and in the last hour."""

    today: float
    hour: float


@dataclass(frozen=True, slots=True)
class Share:
    """What tasks with something in common cost, and their part of the whole."""

    name: str
    spend: Spend
    whole: int


def recent(totals: Totals, now: float) -> tuple[int, int]:
    """Micro-USD since midnight UTC, and in the last hour."""
    minute = int(now) // 60
    midnight = minute - minute % DAY
    return (
        since(totals.costs, midnight, minute + 1),
        since(totals.costs, minute - HOUR, minute + 1),
    )


def least(scene: Scene, seconds: float) -> str:
    """The mark of a sum over the last `seconds` (0: ever) that not all is known of."""
    since_ms = int((scene.now - seconds) * 1000) if seconds else 0
    return "" if scene.store.whole(since_ms) else ">="


def accounts(scene: Scene) -> list[Account]:
    """What was spent today, the most first."""
    now_ms = int(scene.now * 1000)
    sums: dict[tuple[str, str, str], Spend] = {}
    for _, account, spend in scene.store.totals.booked(now_ms - now_ms % DAY_MS):
        sums.setdefault(account, Spend()).include(spend)
    return [
        Account(
            model=model or None,
            queue=queue,
            kind=kind,
            tasks=spend.tasks,
            cost_usd=dollars(spend.cost),
            wasted_usd=dollars(spend.wasted),
            without_price=spend.unknown,
            input_tokens=spend.input,
            output_tokens=spend.output,
            cache_read_tokens=spend.cache_read,
            cache_write_tokens=spend.cache_write,
        )
        for (model, queue, kind), spend in sorted(sums.items(), key=lambda pair: -pair[1].cost)
    ]


def shares(scene: Scene, by: str, seconds: int) -> dict[str, Share]:
    """What was spent in the last `seconds` (0: ever), by what `by` names."""
    first = int((scene.now - seconds) * 1000) if seconds else 0
    sums: dict[str, Spend] = {}
    if by in BY:
        place = BY.index(by)
        for _, account, spend in scene.store.totals.booked(first):
            sums.setdefault(account[place], Spend()).include(spend)
    else:
        read = grouping(by)
        wasted = scene.store.wasted
        for row in scene.store.rows.values():
            if row.updated >= first and (row.cost != 0 or row.usage.total):
                sums.setdefault(read(row), Spend()).add(row, wasted=wasted(row.id))
    whole = sum(spend.cost for spend in sums.values())
    return {name: Share(name, spend, whole) for name, spend in sums.items()}


def dearest(store: Store, now: float, seconds: int) -> list[Row]:
    """The tasks that cost most, of those whose last record lies in the last `seconds`."""
    first = (now - seconds) * 1000 if seconds else 0
    rows = (row for row in store.rows.values() if row.cost and row.updated >= first)
    return nlargest(MOST_TASKS, rows, key=lambda row: (row.cost or 0, row.id))


def burn(costs: Mapping[int, int], minute: int) -> int:
    """Money an hour, in micro-USD: of the whole minutes since the first one of the last hour that
    cost anything, the present one left out.
    """
    first = next((at for at in range(minute - HOUR, minute) if costs.get(at)), minute)
    return since(costs, first, minute) * HOUR // max(1, minute - first)
