"""Answers kept longer than their logs: which ones, under which name, and as which line.

Only a whole, successful answer to a request without tools is kept: what a tool said yesterday is no
answer of today. A request that stands several times in a file is as many answers.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from agentflow.bus.streams.cache import Cache
from agentflow.handlers.contract import WHOLE
from agentflow.job.source import Item
from agentflow.protocol import limits, record
from agentflow.protocol.record import Record, State, Usage
from agentflow.rules.records import micro
from agentflow.views.ledger import Line, line_of

_ACTS: Final = frozenset({"tools", "mcp_servers", "container", "context_management"})
"""Parameters by which an answer depends on more than the request."""


def may_be_kept(item: Item) -> bool:
    """Whether a request always means the same."""
    params: dict[str, Any] = item.body.params or {}
    more = {*params, *(params.get("extra_body") or ())}
    return item.body.kind in (None, "claude") and _ACTS.isdisjoint(more)


def is_kept(answer: Record) -> bool:
    """Whether an answer is one to keep."""
    return (
        answer.state == State.SUCCEEDED
        and answer.stop_reason in WHOLE
        and not answer.truncated
        and bool(answer.text)
    )


def key_of(item: Item) -> str:
    """The hash of the request, and which of several that are alike it is."""
    return item.id if item.id.startswith(f"{item.request}-") else f"{item.request}-1"


class Cached:
    """The cache of a job that wants answers no older than `days`."""

    def __init__(self, cache: Cache, days: int) -> None:
        self._cache = cache
        self._days = days
        self.answers = 0
        self.micro = 0
        """What they cost when they were asked."""

    async def open(self) -> None:
        """Make the bucket where it is missing. Raises BusError."""
        await self._cache.ensure()

    async def line(self, item: Item, now: datetime) -> Line | None:
        """The answer to an item's request, where one is kept. Raises BusError."""
        if not may_be_kept(item):
            return None
        found = await self._cache.get(key_of(item))
        if found is None:
            return None
        data, stored = found
        answer = record.decode(data)
        if not answer.readable or not is_kept(answer) or now - stored > self._age:
            return None
        self.answers += 1
        self.micro += micro(answer.cost_usd or 0.0)
        line = line_of(
            answer,
            line=item.line,
            request=item.request,
            simulate=answer.simulated,
            custom_id=item.custom_id,
            carried=item.carried,
        )
        return msgspec.structs.replace(
            line,
            id=item.id,
            labels=item.body.labels or {},
            usage=Usage(),
            repair=None,
            cost_usd=0.0,
            unpriced=None,
            latency_s=None,
            cached=stored,
        )

    async def keep(self, item: Item, answer: Record) -> None:
        """Keep an answer, if it is one to keep. Raises BusError."""
        if not (may_be_kept(item) and is_kept(answer)):
            return
        data = record.encode(answer)
        if len(data) <= limits.CACHED_BYTES:
            await self._cache.put(key_of(item), data, int(self._age.total_seconds()))

    @property
    def _age(self) -> timedelta:
        return timedelta(days=self._days)
