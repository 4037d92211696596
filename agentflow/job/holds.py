"""What is held for tasks that wait for a batch: what they cost is told only when it has ended."""

from __future__ import annotations

import asyncio
from typing import Final

from agentflow.job.source import Item, size_of
from agentflow.job.spec import JobSpec
from agentflow.protocol.record import Usage
from agentflow.rules.routes import prices as pricing
from agentflow.rules.routes.prices import Detail, Prices

CHARS: Final = 3
"""Of a token, at least: a hold must not be too small."""
_BATCH: Final = Detail(batch=True)


class Holds:
    """The tasks of a job that wait for a batch, and the most they may cost under its limit."""

    def __init__(self, spec: JobSpec) -> None:
        self._limited = spec.max_cost_micro is not None
        self._prices: Prices | None = None
        self._held: dict[str, int] = {}
        self.micro = 0
        self.changed = asyncio.Event()
        """Set when a task that was held has ended."""

    def hold(self, item: Item) -> bool:
        """A task waits for a batch; False where it did before."""
        if item.task_id in self._held:
            return False
        amount = self._held[item.task_id] = self._most(item) if self._limited else 0
        self.micro += amount
        return True

    def settle(self, task_id: str) -> bool:
        """A task has ended; whether it was held."""
        amount = self._held.pop(task_id, None)
        if amount is None:
            return False
        self.micro -= amount
        self.changed.set()
        return True

    def _most(self, item: Item) -> int:
        """Micro-USD, 0 where there is no price: that ends the job when the answer tells it."""
        from agentflow.handlers import price_file
        from agentflow.handlers.claude.request import DEFAULT_MAX_TOKENS, DEFAULT_MODEL

        self._prices = self._prices or price_file.load()
        body = item.body
        params = body.params or {}
        model = body.model or params.get("model") or DEFAULT_MODEL
        longest = body.max_tokens or params.get("max_tokens") or DEFAULT_MAX_TOKENS
        used = Usage(input_tokens=size_of(body) // CHARS + 1, output_tokens=int(longest))
        return pricing.cost_micro(str(model), used, self._prices, _BATCH) or 0
