"""The gates before a task starts: paused queue or kind, closed route, and the pace under overload.

A message that waits at a gate is held: renewed, unclaimed, without a record. So nothing is started
that would only be refused, no attempt is lost, and a cancel or another worker is not in its way.
While a queue cannot be started it is not pulled from either (`may_pull`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

from agentflow.bus.streams.bucket import Board
from agentflow.errors import BusError
from agentflow.handlers.contract import AttemptFailed
from agentflow.protocol.record import Failure
from agentflow.rules import retry
from agentflow.rules.retry import RouteEffect, Signal
from agentflow.rules.routes import gates
from agentflow.rules.routes.gates import Closed
from agentflow.rules.routes.pace import InFlightLimit
from agentflow.rules.routes.route import Route
from agentflow.worker import handed

_log = logging.getLogger(__name__)

SPREAD: Final = 5.0
"""Most seconds over which held tasks start once a limit has passed: all at once would meet it."""
RECHECK: Final = 30.0
WAIT_INSIDE: Final = 30.0
"""Seconds that a task waits for its route while it runs; for longer it is parked."""
PARK_FOR: Final = 300.0
"""Seconds a running task is parked for by a route that only a person opens."""


class Gates:
    """The gates of one worker."""

    def __init__(
        self, board: Board, *, actor: str, slots: int, now: Callable[[], datetime]
    ) -> None:
        self._board = board
        self._actor = actor
        self._slots = slots
        self._now = now
        self._closed: dict[str, Closed] = {}
        self._changed = asyncio.Event()
        self._limits: dict[Route, InFlightLimit] = {}
        self._in_flight: Counter[Route] = Counter()
        self._waiting: Counter[str] = Counter()
        self.on_open: Callable[[], None] = lambda: None
        board.on_change(self._learned)

    async def start(self) -> None:
        """Follow the bucket. Raises BusError."""
        await self._board.start()

    async def watch(self) -> None:
        """Notice that the bucket itself is gone; runs until cancelled."""
        await self._board.watch()

    # Facts.

    def _learned(self, key: str) -> None:
        if key.startswith(gates.CLOSED):
            closed = gates.read_closed(self._board.get(key))
            if closed is None:
                self._closed.pop(key, None)
            else:
                self._closed[key] = closed
        elif not key.startswith(gates.PAUSED):
            return
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        self.on_open()

    def closed(self, route: Route | None) -> Closed | None:
        """What keeps a route closed now."""
        if route is None or not self._closed:
            return None
        closed = self._closed.get(gates.closed_key(route))
        return closed if closed is not None and closed.holds(self._now()) else None

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
        now = self._now()
        return [
            f"{key} {closed.reason}"
            + (f" until {closed.until:%H:%M:%S}Z" if closed.until else " until resumed")
            for key, closed in self._closed.items()
            if closed.holds(now)
        ]

    # Passing.

    async def admit(self, queue: str, kind: str, route: Route | None) -> None:
        """Return when a task may be started."""
        self._waiting[queue] += 1
        try:
            while not self.open(queue, kind, route):
                await self._until_change(self.closed(route))
        finally:
            self._waiting[queue] -= 1
            if not self._waiting[queue]:
                del self._waiting[queue]
                self.on_open()

    @asynccontextmanager
    async def request(self, route: Route) -> AsyncIterator[None]:
        """One request of a task that runs; what it meets is told to all who share the route.

        Raises AttemptFailed where it may not be sent soon: the task is parked, its slot is free.
        """
        await self._admit_request(route)
        self.started(route)
        try:
            yield
        except AttemptFailed as error:
            effect = retry.route_effect(error.signal, chance=random.random())
            await self.learn(route, effect, handed.tidy(error.failure))
            raise
        finally:
            self.ended(route)

    async def _admit_request(self, route: Route) -> None:
        while not self._route_open(route):
            closed = self.closed(route)
            left = None
            if closed is not None:
                left = PARK_FOR
                if closed.until is not None:
                    left = (closed.until - self._now()).total_seconds()
            if closed is not None and left is not None and left > WAIT_INSIDE:
                text = f"{gates.closed_key(route)} is closed ({closed.reason})"
                raise AttemptFailed(
                    Failure(type="rate_limited", message=text),
                    Signal(status=429, retry_after=left),
                )
            await self._until_change(closed)

    def open(self, queue: str, kind: str, route: Route | None) -> bool:
        """Whether a task may be started now."""
        return not self.paused(queue, kind) and self._route_open(route)

    def _route_open(self, route: Route | None) -> bool:
        if self.closed(route):
            return False
        if route is None or route not in self._limits:
            return True
        return self._in_flight[route] < self._limits[route].limit(time.monotonic())

    async def _until_change(self, closed: Closed | None) -> None:
        wait = RECHECK
        if closed is not None and closed.until is not None:
            left = max(0.0, (closed.until - self._now()).total_seconds())
            lasted = (closed.until - closed.since).total_seconds()
            wait = left + random.random() * min(SPREAD, 0.2 * max(0.0, lasted))
        elif closed is None:
            wait = 0.25  # the limit in flight: it gives a place more each second
        try:
            async with asyncio.timeout(min(wait, RECHECK) + 0.01):
                await self._changed.wait()
        except TimeoutError:
            return

    def started(self, route: Route | None) -> None:
        """A request of this route is in flight."""
        if route is not None:
            self._in_flight[route] += 1

    def ended(self, route: Route | None) -> None:
        """It is no more."""
        if route is not None:
            self._in_flight[route] -= 1
            if self._waiting:
                self._changed.set()
                self._changed = asyncio.Event()

    # Learning.

    async def learn(self, route: Route | None, effect: RouteEffect, failure: Failure) -> None:
        """Close a route for all, or slow down here, as what `failure` means for it asks for."""
        if route is None:
            return
        if effect.slows:
            limit = self._limits.setdefault(route, InFlightLimit(self._slots))
            limit.overloaded(self._in_flight[route], time.monotonic())
        if effect.closes is not None:
            await self._close(gates.closed_key(route), effect.closes, effect.seconds, failure)

    async def _close(self, key: str, reason: str, seconds: float | None, failure: Failure) -> None:
        now = self._now()
        closed = Closed(
            since=now,
            until=None if seconds is None else now + timedelta(seconds=seconds),
            reason=reason,
            error_code=failure.code,
            request_id=failure.request_id,
            actor=self._actor,
            message=failure.message[:300],
        )
        present = self._closed.get(key)
        if present is None or not present.holds(now):
            self._closed[key] = closed
            _log.warning(
                "%s is closed (%s)%s: %s",
                key,
                reason,
                " until `agentflow resume`" if seconds is None else f" for {seconds:.0f} s",
                failure.message[:200],
                extra={"action": "close", "reason": reason},
            )
        try:
            await self._board.change(key, lambda value: gates.later(value, closed, now))
        except BusError as error:
            _log.warning("%s could not be closed for the other workers: %s", key, error)
