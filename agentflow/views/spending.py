"""What tasks have cost, by what they have in common. Pure.

The records of a log have sums, so of each log the last one counts; a task that runs or waits counts
with what its earlier attempts cost. A day is that of the record, in UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Final

import msgspec

from agentflow.protocol.record import Record, Usage
from agentflow.rules.records import micro

BY: Final = ("queue", "kind", "model", "day")
"""What costs may be divided by, beside labels by their names."""


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of one group; `unknown` of them have a cost that nobody knows, which is not in
    `cost_usd`, as is not what simulated answers would have cost."""

    group: dict[str, str]
    tasks: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unknown: int = 0
    simulated: int = 0


class _Sum:
    __slots__ = ("micro", "simulated", "tasks", "unknown", "usage")

    def __init__(self) -> None:
        self.tasks = self.micro = self.unknown = self.simulated = 0
        self.usage = Usage()


class Ledger:
    """Take all records, in the stream's order."""

    def __init__(self, by: Sequence[str]) -> None:
        self._by = by
        self._last: dict[str, tuple[tuple[str, ...], int | None, Usage, bool]] = {}

    def take(self, record: Record) -> None:
        """The next record; it replaces what its log said before."""
        if not record.readable:
            return
        cost = None if record.cost_usd is None else micro(record.cost_usd)
        group = tuple(_value(record, name) for name in self._by)
        self._last[record.id] = (group, cost, record.usage, record.simulated)

    def groups(self) -> list[Spending]:
        """The dearest first."""
        sums: dict[tuple[str, ...], _Sum] = {}
        for group, cost, usage, simulated in self._last.values():
            one = sums.setdefault(group, _Sum())
            one.tasks += 1
            one.usage += usage
            one.simulated += simulated
            if cost is None:
                one.unknown += 1
            elif not simulated:
                one.micro += cost
        dearest = sorted(sums.items(), key=lambda item: (-item[1].micro, item[0]))
        return [
            Spending(
                group=dict(zip(self._by, group, strict=True)),
                tasks=one.tasks,
                input_tokens=one.usage.total - one.usage.output_tokens,
                output_tokens=one.usage.output_tokens,
                cost_usd=one.micro / 1_000_000,
                unknown=one.unknown,
                simulated=one.simulated,
            )
            for group, one in dearest
        ]


def _value(record: Record, name: str) -> str:
    match name:
        case "queue":
            return record.queue
        case "kind":
            return record.kind
        case "model":
            return record.model or ""
        case "day":
            return f"{record.time.astimezone(UTC):%Y-%m-%d}"
        case _:
            return record.labels.get(name, "")
