"""The money of one attempt: what its budgets hold for each of its requests, and what they cost.

The first hold is taken at the gate, before the task is claimed; the first request uses it where it
suffices. What a handler spent otherwise, as a program that it ran, is told at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from agentflow.errors import BudgetSpent
from agentflow.governor.budgets import Budgets, Hold
from agentflow.handlers.contract import AttemptFailed, Payment
from agentflow.protocol.record import Failure
from agentflow.protocol.task import Task
from agentflow.rules.retry import Signal
from agentflow.rules.routes.prices import Cost
from agentflow.rules.routes.route import Route
from agentflow.worker.gates import Gates
from agentflow.worker.kinds import Kinds

WAIT_INSIDE: Final = 30.0
"""Seconds that a request waits for room while its task runs; for longer the task is parked."""
PARK_FOR: Final = 30.0
"""Seconds for which it is; after that it waits at the gate, where a higher limit is met at once."""


class FilledPurse:
    """What one attempt may spend of the budgets `scopes`; `first` is held already."""

    def __init__(self, budgets: Budgets, scopes: Sequence[str], first: Hold) -> None:
        self._budgets = budgets
        self._scopes = scopes
        self._first: Hold | None = first
        self._paid = 0
        """Known costs that were settled."""
        self._asked = False
        self._closed = False

    @asynccontextmanager
    async def hold(self, most: Cost) -> AsyncIterator[Payment]:
        """See contract.Purse."""
        if most.micro is None:
            raise no_price(most)
        self._asked = True
        hold = await self._held(most.micro)
        payment = Payment()
        try:
            yield payment
        finally:
            self._paid += payment.cost or 0
            hold.settle(payment.cost)

    async def _held(self, micro: int) -> Hold:
        first, self._first = self._first, None
        if first is not None:
            if first.micro >= micro and not self._closed:
                return first
            first.settle(0)
        if self._closed:
            raise asyncio.CancelledError("the run is over")
        try:
            async with asyncio.timeout(WAIT_INSIDE):
                return await self._budgets.hold(self._scopes, micro)
        except BudgetSpent as error:
            raise no_room(error) from None
        except TimeoutError:
            text = f"no room in the budget {self._scopes[0]} within {WAIT_INSIDE:g} s"
            raise _failed("budget", text, _PARKED) from None

    def close(self, cost: int | None) -> None:
        """The attempt is over and has cost `cost` in all, as far as its handler has told."""
        self._closed = True
        first, self._first = self._first, None
        if first is not None and not self._asked:
            first.settle(cost)
            return
        if first is not None:
            first.settle(0)
        if cost is not None and cost > self._paid:
            self._budgets.spend(self._scopes, cost - self._paid)


async def filled(
    gates: Gates, kinds: Kinds, task: Task, route: Route | None, *, patient: bool
) -> FilledPurse | None:
    """With what a task's first request may cost, once there is room; None where nothing limits it.

    Raises AttemptFailed.
    """
    scopes = gates.budgets.scopes(task, route)
    if not scopes:
        return None
    most = kinds.most(task)
    if most.micro is None:
        raise no_price(most)
    try:
        hold = await gates.afford(task.queue, scopes, most.micro, patient=patient)
    except BudgetSpent as error:
        raise no_room(error) from None
    return FilledPurse(gates.budgets, scopes, hold)


_PARKED: Final = Signal(exception="budget", retry_after=PARK_FOR)
_FAILS: Final = Signal(exception="budget_fails")


def no_price(most: Cost) -> AttemptFailed:
    """The failure of a task that a budget limits, and that nobody knows the price of."""
    text = f"{most.unpriced}, so no budget can hold for it; AGENTFLOW_PRICES may give one"
    return _failed("unpriced", text, Signal(exception="unpriced"))


def no_room(error: BudgetSpent) -> AttemptFailed:
    """The failure of a task that its budget has no room for: it waits, or fails by it."""
    return _failed("budget", str(error), _FAILS if error.fails else _PARKED)


def _failed(kind: str, text: str, signal: Signal) -> AttemptFailed:
    return AttemptFailed(Failure(type=kind, message=text), signal)
