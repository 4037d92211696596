"""The money of batches: reserved in every budget before a create is sent, settled by its results.

A request that has no room in its budget is left out of the body and waits on; one whose budget lets
tasks fail fails. What a create holds stays until its results are written, however many batchers die
meanwhile; a create that was not done gives it back. A create that was given up for not done, and
may be found done all the same, keeps it for as long as it is looked for.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Collection, Iterable
from functools import partial

from agentflow.batches.asked import task_of, whole
from agentflow.batches.entries import Item
from agentflow.batches.place import Place
from agentflow.bus.streams.bucket import Board, read_all
from agentflow.errors import InvalidTask
from agentflow.handlers.contract import Outcome
from agentflow.protocol import batches
from agentflow.protocol.batches import Table
from agentflow.protocol.task import Task
from agentflow.rules.routes import budgets, reserved
from agentflow.rules.routes.budgets import Budget, OnLimit
from agentflow.rules.routes.route import Route

_log = logging.getLogger(__name__)


async def standing(place: Place) -> dict[str, Budget]:
    """All budgets by scope. Raises BusError."""
    found: dict[str, Budget] = {}
    async for key, _, value in read_all(place.js):
        if key.startswith(budgets.PREFIX) and (budget := budgets.read(value)) is not None:
            found[key.removeprefix(budgets.PREFIX)] = budgets.current(budget, place.now())
    return found


class Reserve:
    """What one create wants of each budget, as they were when its building began."""

    def __init__(self, place: Place, nonce: str, found: dict[str, Budget]) -> None:
        self._place = place
        self._name = reserved.holder(place.pool, place.queue, nonce)
        self._budgets = found
        self._wants: dict[str, int] = {}
        self.short: dict[str, int] = {}
        """By scope the least that was wanted and has no room, whatever comes back."""

    def admit(self, task: Task, said: Outcome | None) -> bool:
        """Whether there is money for a request. Raises InvalidTask where it fails instead."""
        scopes = [scope for scope in _scopes(self._place, task) if scope in self._budgets]
        if not scopes:
            return True
        most = self._place.handler.batch_most(task, said)
        if most.micro is None:
            text = f"{most.unpriced}, so no budget can hold for it; AGENTFLOW_PRICES may give one"
            raise InvalidTask(text, reason="unpriced")
        if any(not self._fits(scope, most.micro) for scope in scopes):
            return False
        for scope in scopes:
            self._wants[scope] = self._wants.get(scope, 0) + most.micro
        return True

    def _fits(self, scope: str, micro: int) -> bool:
        budget = self._budgets[scope]
        if self._wants.get(scope, 0) + micro <= reserved.room(budget, self._name):
            return True
        if budget.over(micro):
            if budget.on_limit == OnLimit.FAIL:
                text = (
                    f"the budget {scope} has no room: ${budget.spent / 1e6:.4f} of"
                    f" ${budget.limit / 1e6:.4f} are spent, and the request may cost"
                    f" ${micro / 1e6:.4f}"
                )
                raise InvalidTask(text, reason="budget")
            self.short[scope] = min(micro, self.short.get(scope, micro))
        return False

    @property
    def holds(self) -> bool:
        """Whether a builder before this one has reserved for the same create."""
        return any(self._name in budget.held for budget in self._budgets.values())

    async def take(self) -> bool:
        """Reserve it; False where others were faster. Raises BusError."""
        for scope, micro in sorted(self._wants.items()):
            taken = True

            def change(budget: Budget, micro: int = micro) -> Budget:
                nonlocal taken
                after = reserved.reserve(budget, self._name, micro, self._place.now())
                taken = after is not None
                return budget if after is None else after

            await _change(self._place, scope, change)
            if not taken:
                return False
        return True

    async def tell(self) -> None:
        """Let it be seen which budgets had no room. Raises BusError."""
        now = self._place.now()
        for scope, micro in self.short.items():
            await _change(self._place, scope, partial(budgets.short, micro=micro, now=now))

    async def raised(self) -> bool:
        """Whether a budget that had no room was changed by somebody since. Raises BusError."""
        found = await standing(self._place)
        return any(scope not in found or not found[scope].short for scope in self.short)


class Bill:
    """What the answers of one batch have cost, by the budgets that hold money for it."""

    def __init__(self, place: Place, nonce: str, scopes: Collection[str]) -> None:
        self._place = place
        self._name = reserved.holder(place.pool, place.queue, nonce)
        self._cost = dict.fromkeys(scopes, 0)
        self._unknown = dict.fromkeys(scopes, 0)
        self._sets: list[tuple[str, ...]] = []
        self._of = array("L")
        """Of each entry which of the sets is its own."""

    @classmethod
    async def of(cls, place: Place, nonce: str) -> Bill:
        """That of a create. Raises BusError."""
        name = reserved.holder(place.pool, place.queue, nonce)
        found = await standing(place)
        return cls(place, nonce, [scope for scope in found if name in found[scope].held])

    def enter(self, item: Item) -> None:
        """Note whose money the next entry is; called once for each, in their order."""
        if not self._cost:
            return
        try:
            task = task_of(self._place, item)
            scopes = tuple(scope for scope in _scopes(self._place, task) if scope in self._cost)
        except InvalidTask:
            scopes = ()
        if scopes not in self._sets:
            self._sets.append(scopes)
        self._of.append(self._sets.index(scopes))

    def add(self, at: int, micro: int) -> None:
        """The entry at this place has cost so much."""
        for scope in self._scopes_at(at):
            self._cost[scope] += micro

    def add_unknown(self, at: int, micro: int) -> None:
        """Nobody knows what it has cost, and it was this at most."""
        for scope in self._scopes_at(at):
            self._unknown[scope] += micro

    def limits(self, at: int) -> bool:
        """Whether any budget holds money for the entry at this place."""
        return bool(self._scopes_at(at))

    def _scopes_at(self, at: int) -> tuple[str, ...]:
        return self._sets[self._of[at]] if self._cost else ()

    async def settle(self) -> None:
        """Write it; a second time changes nothing. Raises BusError."""
        for scope in self._cost:
            step = partial(
                reserved.settle,
                name=self._name,
                cost=self._cost[scope],
                unknown=self._unknown[scope],
            )
            await _change(self._place, scope, step)


async def most_of(place: Place, item: Item) -> int:
    """What a request may have cost at most, in micro-USD. Raises BusError."""
    try:
        task = await whole(place, task_of(place, item))
        return place.handler.batch_most(task).micro or 0
    except InvalidTask:
        return 0


async def release(place: Place, nonces: Iterable[str], *, spent: bool = False) -> None:
    """Give back what creates hold that were not done; `spent`: that nobody can read any more.

    Raises BusError.
    """
    names = [reserved.holder(place.pool, place.queue, nonce) for nonce in nonces]
    for scope, budget in (await standing(place)).items():
        for name in names:
            if name in budget.held:
                step = reserved.forfeit if spent else _give_back
                await _change(place, scope, partial(step, name=name))


async def sweep(place: Place) -> None:
    """Give back what a batcher that died left held: the table knows those creates no more.

    Raises BusError.
    """
    found = await standing(place)
    held = {
        nonce
        for budget in found.values()
        for nonce in reserved.nonces(budget, place.pool, place.queue)
    }
    if not held:
        return
    gone = held - _known(await place.read())  # read after the budgets: a row is there before
    if gone:
        _log.info("%s: what %d creates held is given back", place.key, len(gone))
        await release(place, gone)


def _known(table: Table) -> set[str]:
    rows = {row.nonce for row in table.rows}
    tried = {one.nonce for row in table.rows for one in row.tried}
    return rows | tried | {one.nonce for one in table.late}


def _scopes(place: Place, task: Task) -> list[str]:
    return budgets.scopes_of(task, Route(place.pool, batches.ROUTE))


def _give_back(budget: Budget, name: str) -> Budget:
    return reserved.settle(budget, name, 0)


async def _change(place: Place, scope: str, step: Callable[[Budget], Budget]) -> None:
    """Change a budget, where it is still there."""

    def change(value: bytes | None) -> bytes | None:
        budget = budgets.read(value)
        after = None if budget is None else step(budget)
        return value if after is budget else budgets.encode(after)

    await Board(place.js).change(budgets.key(scope), change)
