"""The gates before a task starts: paused queue or kind, closed route, pace, governor, budgets.

A message that waits at a gate is held: renewed, unclaimed, without a record. So nothing is started
that would only be refused, no attempt is lost, and a cancel or another worker is not in its way.
While a queue cannot be started it is not pulled from either (`may_pull`). What closes a route and
what opens it again stands in routes.py; who goes when under a limit, in agentflow/governor.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Final

from agentflow.bus.streams.bucket import Board
from agentflow.bus.streams.jetstream import JetStream
from agentflow.governor.budgets import Budgets, Hold
from agentflow.governor.call import Call
from agentflow.governor.governor import Governor
from agentflow.handlers.contract import AttemptFailed, Run
from agentflow.protocol.record import Failure
from agentflow.rules import retry
from agentflow.rules.retry import Signal
from agentflow.rules.routes import budgets, closures, gates
from agentflow.rules.routes.clock import NO_LIMITS, Limits
from agentflow.rules.routes.closures import Blame, Closed
from agentflow.rules.routes.route import Route
from agentflow.worker import handed
from agentflow.worker.routes import Routes, spread

RECHECK: Final = 30.0
PACE_CHECK: Final = 0.25
"""Seconds between two looks at the limit in flight, which gives a place more each second."""
WAIT_INSIDE: Final = 30.0
"""Seconds that a task waits for its route while it runs; for longer it is parked."""
REFUSED: Final = 429
INSIDE: Final = ("inside", "")
"""What requests are estimated with that a handler makes and does not measure."""
PARK_FOR: Final = 300.0
"""Seconds a running task is parked for by a route that only a person opens."""


class Gates:
    """The gates of one worker."""

    def __init__(
        self,
        js: JetStream,
        *,
        actor: str,
        slots: int,
        limits: Limits | None = NO_LIMITS,
        pools: Callable[[], Sequence[str]] = list,
    ) -> None:
        self._board = board = Board(js)
        self._slots = slots
        self._now = js.now
        self.routes = Routes(board, actor=actor, slots=slots, now=js.now)
        self.budgets = Budgets(board, actor=actor, now=js.now)
        self.governor = Governor(
            js,
            board,
            actor=actor,
            slots=slots,
            closed_since=self._closed_since,
            limits=limits,
            pools=pools,
        )
        self._changed = asyncio.Event()
        self._waiting: Counter[str] = Counter()
        self.on_open: Callable[[], None] = lambda: None
        board.on_change(self._learned)

    @property
    def board(self) -> Board:
        """The bucket, as this worker knows it."""
        return self._board

    async def start(self) -> None:
        """Follow the bucket. Raises BusError."""
        await self._board.start()

    async def watch(self) -> None:
        """Notice that the bucket itself is gone; runs until cancelled."""
        await self._board.watch()

    # Facts.

    def _learned(self, key: str) -> None:
        if key.startswith(gates.CLOSED):
            self.routes.learned(key)
            self.governor.closed()
        elif key.startswith(budgets.PREFIX):
            self.budgets.learned(key)
            return
        elif not key.startswith(gates.PAUSED):
            self.governor.learned(key)
            return
        self._wake()
        self.on_open()

    def _closed_since(self, route: Route) -> float | None:
        closed = self.routes.closed(route)
        return None if closed is None else closed.since.timestamp()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def paused(self, queue: str, kind: str) -> str | None:
        """What pauses a task of this queue and kind, as a word for people."""
        if self._board.get(gates.queue_key(queue)) is not None:
            return f"queue {queue}"
        if self._board.get(gates.kind_key(kind)) is not None:
            return f"kind {kind}"
        return None

    def may_pull(self, queue: str) -> bool:
        """Whether to take tasks of a queue: not while it is paused, or while many wait here.

        Some may wait, because the next one may be of a kind or model that passes.
        """
        if self._board.get(gates.queue_key(queue)) is not None:
            return False
        return self._waiting[queue] < max(1, self._slots // 2)

    @property
    def held(self) -> int:
        """Messages that wait at a gate."""
        return sum(self._waiting.values())

    def notes(self) -> list[str]:
        """What is closed and why, for heartbeats."""
        return [*self.routes.notes(), *self.governor.notes()]

    # Passing.

    def open(self, queue: str, kind: str, route: Route | None, call: Call | None = None) -> bool:
        """Whether a task may be started now, and needs neither probe nor ticket."""
        passes = not self.paused(queue, kind) and self.routes.open(route)
        return passes and self.governor.free(call)

    async def admit(
        self, queue: str, kind: str, route: Route | None, call: Call | None = None
    ) -> bool:
        """Return when a task may be started; whether its request is the probe of its route."""
        try:
            with self._held_at_gate(queue):
                while True:
                    if self.paused(queue, kind):
                        await self._until_change(RECHECK)
                    elif (
                        await self._pass(route, call)
                        and await self._in_turn(route, call)
                        and not self.paused(queue, kind)
                    ):
                        return self.routes.closed(route) is not None
        except BaseException:
            self.left(call)
            raise

    async def afford(self, queue: str, scopes: list[str], micro: int, *, patient: bool) -> Hold:
        """Return when the budgets hold so much for a task. Raises BudgetSpent."""
        with self._held_at_gate(queue):
            return await self.budgets.hold(scopes, micro, patient=patient)

    @contextmanager
    def _held_at_gate(self, queue: str) -> Iterator[None]:
        self._waiting[queue] += 1
        try:
            yield
        finally:
            self._waiting[queue] -= 1
            if not self._waiting[queue]:
                del self._waiting[queue]
                self.on_open()

    async def _in_turn(self, route: Route | None, call: Call | None) -> bool:
        """Whether the clock of its route lets a request go; False: the route closed meanwhile."""
        if call is None:
            return True
        if self.routes.closed(route) is not None:  # it is the probe, which waits for nothing
            await self.governor.count(call)
            return True
        return await self.governor.due(call) and self.routes.open(route)

    async def _pass(self, route: Route | None, call: Call | None = None) -> bool:
        """Whether a request may go now, as the probe where the route is half-open; else wait."""
        closed = self.routes.closed(route)
        if self.routes.open(route):
            return True
        if closed is None or route is None:
            await self._until_change(PACE_CHECK)
            return False
        if await self.routes.claim_probe(route):
            return True
        closed = self.routes.closed(route)
        if closed is not None:
            await self._until_change(self.routes.wait(closed))
        # Where a clock says who goes when, they do not come all at once.
        if self.routes.closed(route) is None and self.governor.free(call):
            await asyncio.sleep(spread(closed))
        return False

    async def _until_change(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(min(seconds, RECHECK) + 0.01):
                await self._changed.wait()
        except TimeoutError:
            return

    @asynccontextmanager
    async def request(
        self, route: Route, part: Run | None = None, *, task_id: str, again: str = ""
    ) -> AsyncIterator[None]:
        """One request of a task that runs; what it meets is told to all who share the route.

        `again` is the reason for which the task had to wait before. Raises AttemptFailed where it
        may not be sent soon: the task is parked, its slot is free.
        """
        call = self._call_of(route, part)
        probe = await self._admit_request(route, call)
        self.started(route, call, part)
        if call is not None and part is not None:
            part.when_answered(lambda: self.governor.answered(call))
        answered = refused = False
        try:
            yield
            answered = True
        except AttemptFailed as error:
            error.signal = handed.with_message(error.signal, error.failure)
            refused = error.signal.status == REFUSED
            effect = retry.route_effect(error.signal)
            failure = handed.tidy(error.failure)
            reason = retry.rule_of(error.signal).reason
            verdict = await self.routes.refused(
                route, effect, failure, task_id, probe=probe, again=reason == again
            )
            answered = verdict is None and error.signal.status is not None
            if verdict is not None:
                probe = False
                error.resume_at = verdict.resume_at if verdict.blame is Blame.ROUTE else None
            raise
        finally:
            self.ended(route, call, refused=refused)
            await self.settle(route, probe=probe, answered=answered)

    def _call_of(self, route: Route, part: Run | None) -> Call | None:
        if part is None:
            return self.governor.call(route, INSIDE, 0, None, False)
        task = part.task
        size = len(task.prompt or "") + len(task.system or "") + len(str(task.params))
        return self.governor.call(route, (f"in {task.kind}", ""), size, task.max_tokens, True)

    async def settle(self, route: Route, *, probe: bool, answered: bool) -> None:
        """What a request that was not refused says of its route."""
        if answered:
            if self.routes.answered(route, probe=probe):
                await self.routes.opened(route, probe=probe)
        elif probe:
            await self.routes.released(route)

    async def _admit_request(self, route: Route, call: Call | None) -> bool:
        try:
            while True:
                if not await self._passes_soon(route):
                    closed = self.routes.closed(route)
                    wait = PACE_CHECK if closed is None else self.routes.wait(closed)
                    await self._until_change(wait)
                elif await self._in_turn(route, call):
                    return self.routes.closed(route) is not None
        except BaseException:
            self.left(call)
            raise

    async def _passes_soon(self, route: Route) -> bool:
        if self.routes.open(route) or await self.routes.claim_probe(route):
            return True
        closed = self.routes.closed(route)
        if closed is not None and (left := _left(closed, self._now())) > WAIT_INSIDE:
            text = f"{gates.closed_key(route)} is closed ({closed.reason})"
            raise AttemptFailed(
                Failure(type="rate_limited", message=text), Signal(status=429, retry_after=left)
            )
        return False

    def started(
        self, route: Route | None, call: Call | None = None, run: Run | None = None
    ) -> None:
        """A request of this route is in flight."""
        if route is not None:
            self.routes.started(route)
        if call is not None and run is not None:
            self.governor.started(call, run)

    def left(self, call: Call | None) -> None:
        """A request will not be sent."""
        if call is not None:
            self.governor.ended(call, refused=True)

    def ended(
        self, route: Route | None, call: Call | None = None, *, refused: bool = False
    ) -> None:
        """It is no more; `refused`: for a limit, so it took nothing from it."""
        if call is not None:
            self.governor.ended(call, refused=refused)
        if route is not None:
            self.routes.ended(route)
            if self._waiting:
                self._wake()


def _left(closed: Closed, now: datetime) -> float:
    if closed.until is None:
        return PARK_FOR
    left = (closed.until - now).total_seconds()
    # A probe that another one sent is answered sooner than its claim lasts.
    return min(left, closures.SUSPECT_FOR) if closed.probe else left
