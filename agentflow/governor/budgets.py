"""The budgets of one worker, on the bus: holds before requests, and what they came to.

The rules are those of rules/routes/budgets.py; here they meet the bucket. All that this worker's
tasks want of a budget, and all that they settle, goes into one turn: one compare-and-set, however
many slots there are. Nothing is asked where no budget is set.

A hold is this worker's until it is settled, and is renewed with its lease. Settlements may be lost
with the worker; its holds then lapse and count in full.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from agentflow.bus.streams.bucket import Board
from agentflow.errors import BudgetSpent, BusError
from agentflow.protocol.task import Task
from agentflow.rules.routes import budgets
from agentflow.rules.routes.budgets import Answer, Budget, OnLimit, Settled, Turn
from agentflow.rules.routes.route import Route

_log = logging.getLogger(__name__)

SETTLE_WITHIN: Final = 0.1
"""Seconds that a settlement may wait for others to be written with it."""
LOOK_EVERY: Final = 1.0
"""Seconds between two looks at a budget that somebody waits for: a dead holder tells nobody."""
CLOSE_WITHIN: Final = 3.0
PAUSE: Final = 0.2
PAUSE_MOST: Final = 3.0
"""Seconds between two tries to write."""


class _Want:
    __slots__ = ("future", "micro", "new", "patient")

    def __init__(self, micro: int, *, patient: bool) -> None:
        self.micro = micro
        self.patient = patient
        self.new = True
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Account:
    """One budget as this worker uses it."""

    def __init__(
        self, board: Board, scope: str, *, actor: str, now: Callable[[], datetime], wake: _Wake
    ) -> None:
        self._board = board
        self._scope = scope
        self._key = budgets.key(scope)
        self._actor = actor
        self._now = now
        self._wake = wake
        self._wants: list[_Want] = []
        self._settled: list[Settled] = []
        self._unheld = 0
        self._settled_at = 0.0
        self._holds = 0
        self._written = 0.0
        self._looked = 0.0
        self._changed = False
        self._writing = asyncio.Lock()
        self.lease = 15.0

    # What tasks do.

    async def hold(self, micro: int, *, patient: bool) -> None:
        """Return when so much is held. Raises BudgetSpent where it never will be.

        Who is patient waits for a higher limit too, but for a budget that lets tasks fail.
        """
        want = _Want(micro, patient=patient)
        self._wants.append(want)
        self._wake()
        try:
            await want.future
        except asyncio.CancelledError:
            if want.future.done() and not want.future.cancelled() and not want.future.exception():
                self.settle(Settled(micro, 0))  # granted in the same moment
            raise
        finally:
            if want in self._wants:
                self._wants.remove(want)

    def settle(self, settled: Settled) -> None:
        """A hold is over."""
        self._holds -= 1
        self._settled.append(settled)
        self._later()

    def spend(self, micro: int) -> None:
        """So much was spent that nothing was held for."""
        self._unheld += micro
        self._later()

    def _later(self) -> None:
        self._settled_at = self._settled_at or time.monotonic()
        self._wake()

    def changed(self) -> None:
        """The bucket has another value."""
        self._changed = True
        if self._wants:
            self._wake()

    # Turns.

    def due(self) -> float:
        """Seconds until the next turn."""
        now = time.monotonic()
        if any(want.new for want in self._wants) or (self._changed and self._wants):
            return 0.0
        waits = [3_600.0]
        if self._settled_at:
            waits.append(self._settled_at + SETTLE_WITHIN - now)
        if self._wants:
            waits.append(self._looked + LOOK_EVERY - now)
        if self._holds:
            waits.append(self._written + self.lease / 3 - now)
        return max(0.0, min(waits))

    async def turn(self) -> None:
        """Write what there is to write, and answer who wants. Tries until that is done."""
        async with self._writing:
            await self._turn()

    async def _turn(self) -> None:
        wants = [want for want in self._wants if not want.future.done()]
        renews = self._holds > 0 and time.monotonic() - self._written >= self.lease / 3
        turn = Turn(
            actor=self._actor,
            settled=tuple(self._settled),
            unheld=self._unheld,
            wants=tuple(want.micro for want in wants),
            renews=renews,
        )
        asked = any(want.new for want in wants) or turn.settled or turn.unheld or renews
        self._settled, self._unheld, self._settled_at, self._changed = [], 0, 0.0, False
        self._looked = time.monotonic()
        if not asked and self._nothing_new(turn):
            return
        for want in wants:
            want.new = False
        budget, answers = await self._write(turn)
        for want, answer in zip(wants, answers, strict=True):
            self._answer(want, answer, budget)

    def _nothing_new(self, turn: Turn) -> bool:
        """Whether our copy says that nobody's answer would be another one."""
        budget = budgets.read(self._board.get(self._key))
        if budget is None:
            return False
        after, answers = budgets.take(budget, turn, now=self._now(), until=self._until())
        return after is budget and Answer.HELD not in answers

    async def _write(self, turn: Turn) -> tuple[Budget | None, list[Answer]]:
        number, after, answers = 0, None, []

        def change(value: bytes | None) -> bytes | None:
            nonlocal number, after, answers
            budget = budgets.read(value)
            if budget is None:
                after, answers = None, [Answer.HELD] * len(turn.wants)
                return value
            if number and budgets.turns_of(budget, self._actor) == number:
                return value  # an answer was lost: what was tried last is stored
            after, answers = budgets.take(budget, turn, now=self._now(), until=self._until())
            if after is budget:
                return value
            number = budgets.turns_of(after, self._actor)
            return budgets.encode(after)

        pause = PAUSE
        while True:
            try:
                await self._board.change(self._key, change)
                break
            except BusError as error:
                _log.warning("the budget %s cannot be written: %s", self._scope, error)
                await asyncio.sleep(pause * random.random())
                pause = min(2 * pause, PAUSE_MOST)
        self._written = time.monotonic()
        return after, answers

    def _until(self) -> datetime:
        return self._now() + timedelta(seconds=self.lease)

    def _answer(self, want: _Want, answer: Answer, budget: Budget | None) -> None:
        if answer is Answer.HELD:
            self._holds += 1
            if want.future.done():
                self.settle(Settled(want.micro, 0))
            else:
                want.future.set_result(None)
        elif answer is Answer.OVER and budget is not None and not want.future.done():
            fails = budget.on_limit == OnLimit.FAIL
            if fails or not want.patient:
                want.future.set_exception(_spent(self._scope, budget, want.micro, fails))


def _spent(scope: str, budget: Budget, micro: int, fails: bool) -> BudgetSpent:
    text = (
        f"the budget {scope} has no room: ${budget.spent / 1e6:.4f} of ${budget.limit / 1e6:.4f} "
        f"are spent, and the request may cost ${micro / 1e6:.4f}"
    )
    return BudgetSpent(text, scope=scope, fails=fails)


_Wake = Callable[[], None]


class Hold:
    """Money of a worker's budgets for one request."""

    __slots__ = ("_accounts", "micro")

    def __init__(self, accounts: Iterable[_Account], micro: int) -> None:
        self._accounts = list(accounts)
        self.micro = micro

    def settle(self, cost: int | None) -> None:
        """The request is over, and has cost so many micro-USD; None where nobody knows. Once."""
        accounts, self._accounts = self._accounts, []
        for account in accounts:
            account.settle(Settled(self.micro, cost))


class Budgets:
    """All budgets as one worker uses them. Its owner runs `keep`."""

    def __init__(self, board: Board, *, actor: str, now: Callable[[], datetime]) -> None:
        self._board = board
        self._actor = actor
        self._now = now
        self._known: set[str] = set()
        self._accounts: dict[str, _Account] = {}
        self._work = asyncio.Event()
        self.lease = 15.0
        """Seconds after which what a silent worker holds lapses."""

    def learned(self, key: str) -> None:
        """The bucket has another value under a key of a budget."""
        scope = key.removeprefix(budgets.PREFIX)
        if self._board.get(key) is None:
            self._known.discard(scope)
        else:
            self._known.add(scope)
        if (account := self._accounts.get(scope)) is not None:
            account.changed()

    def scopes(self, task: Task, route: Route | None) -> list[str]:
        """The budgets that a task counts against; one that it names need not be known yet."""
        if not self._known and task.budget is None:
            return []
        return sorted(
            scope
            for scope in budgets.scopes_of(task, route)
            if scope in self._known or scope == task.budget
        )

    async def hold(self, scopes: Iterable[str], micro: int, *, patient: bool = False) -> Hold:
        """So much of each budget, as soon as there is room. Raises BudgetSpent.

        The scopes come in one order for everybody: of two who wait, one goes on.
        """
        held: list[_Account] = []
        try:
            for scope in scopes:
                account = self._account(scope)
                await account.hold(micro, patient=patient)
                held.append(account)
        except BaseException:
            Hold(held, micro).settle(0)
            raise
        return Hold(held, micro)

    def spend(self, scopes: Iterable[str], micro: int) -> None:
        """So much was spent that nothing was held for."""
        for scope in scopes:
            self._account(scope).spend(micro)

    def _account(self, scope: str) -> _Account:
        account = self._accounts.get(scope)
        if account is None:
            account = self._accounts[scope] = _Account(
                self._board, scope, actor=self._actor, now=self._now, wake=self._work.set
            )
        account.lease = self.lease
        return account

    async def keep(self) -> None:
        """Write what there is to write; runs until cancelled."""
        while True:
            due = min((account.due() for account in self._accounts.values()), default=3_600.0)
            if due > 0:
                try:
                    async with asyncio.timeout(due):
                        await self._work.wait()
                except TimeoutError:
                    pass
            self._work.clear()
            for account in list(self._accounts.values()):
                if account.due() <= 0:
                    await account.turn()

    async def close(self) -> None:
        """Write what is left to settle, if the server takes it at once."""
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                for account in list(self._accounts.values()):
                    await account.turn()
        except TimeoutError:
            _log.warning("what was spent could not be settled; the holds lapse, and count in full")
