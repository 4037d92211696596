"""A job's limit on its cost: a budget in the bucket, which the workers hold money of.

The budget stays when the job ends by it or is interrupted: what is left of its tasks, wherever it
waits, is not asked. The same job with a higher limit, or without one, lets them go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from agentflow.bus.streams import bucket
from agentflow.bus.wire.message import Message
from agentflow.client import Client
from agentflow.errors import BusError
from agentflow.protocol import control, subjects
from agentflow.protocol.control import Held, Holds
from agentflow.protocol.record import Record
from agentflow.rules.routes import budgets
from agentflow.rules.routes.budgets import Budget, OnLimit

LOOK_EVERY: Final = 1.0
"""Seconds between two looks: what a dead worker held lapses without a word."""


class CostLimit:
    """The budget of one job. `limit` is in micro-USD, None where the job has none."""

    def __init__(self, client: Client, scope: str, limit: int | None) -> None:
        self._client = client
        self._scope = scope
        self._key = budgets.key(scope)
        self._limit = limit
        self._budget: Budget | None = None
        self._changed = asyncio.Event()

    async def open(self, spent: int) -> None:
        """Set the limit; `spent` is what is known to be paid. Raises BusError."""
        board, limit = bucket.Board(self._client.js), self._limit
        if limit is None:
            await board.change(self._key, lambda _: None)
            return
        now = self._client.js.now()

        def change(value: bytes | None) -> bytes | None:
            before = budgets.read(value)
            before = before and budgets.lapse(before, now)
            after = budgets.limited(before, limit, spent=spent, on_limit=OnLimit.END, actor="run")
            return budgets.encode(after)

        self._take(await board.change(self._key, change))

    @property
    def name(self) -> str | None:
        """What the job's tasks name as their budget."""
        return None if self._limit is None else self._scope

    @property
    def reached(self) -> bool:
        """Whether a request had no room, whatever comes back."""
        return self._budget is not None and self._budget.short > 0

    @property
    def budget(self) -> Budget | None:
        """The budget as it was last seen."""
        return self._budget

    async def until_spent(self) -> None:
        """Return when there is no room any more, and nobody holds anything."""
        if self._limit is None:
            await asyncio.Event().wait()
        watching = await self._client.connection.subscribe(
            f"{subjects.LIVE_STATE.removesuffix('>')}{self._key}", self._heard
        )
        try:
            while True:
                last = await self._client.js.last(subjects.KV_STREAM, subjects.kv(self._key))
                self._take(bucket.value_of(last))
                if self._is_spent():
                    return
                self._changed.clear()
                try:
                    async with asyncio.timeout(LOOK_EVERY):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        finally:
            await watching.close()

    async def runs(self, records: Iterable[Record]) -> bool:
        """Whether any task runs whose last record says so: its worker may be dead."""
        for record in list(records):
            question = control.encode(Holds(message=record.message))
            with suppress(BusError):
                answer = await self._client.connection.request(
                    subjects.control("worker", record.actor), question, timeout=LOOK_EVERY
                )
                match control.decode(answer.data):
                    case Held(holds=True):
                        return True
        return False

    def _heard(self, message: Message) -> None:
        self._changed.set()

    def _is_spent(self) -> bool:
        if self._budget is None or not self.reached:
            return False
        return not budgets.lapse(self._budget, self._client.js.now()).held_micro

    def _take(self, value: bytes | None) -> None:
        self._budget = budgets.read(value)

    async def close(self) -> None:
        """The job is done, and needs no budget any more. Raises BusError."""
        if self._limit is not None:
            await bucket.Board(self._client.js).change(self._key, lambda _: None)
