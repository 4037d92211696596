"""The routes of one worker: what closes them, the probe that opens them, and the pace under load.

The rules are those of rules/routes/closures.py; here they meet the bucket. Each change is made by
compare-and-set, so that of all workers one sends the probe. Where the bucket cannot be written a
worker goes by its own knowledge: at worst another request is refused.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final

from agentflow.bus.streams.bucket import Board
from agentflow.errors import BusError
from agentflow.protocol.record import Failure
from agentflow.rules.retry import RouteEffect
from agentflow.rules.routes import closures, gates
from agentflow.rules.routes.closures import Blame, Closed, Refusal, Verdict
from agentflow.rules.routes.pace import InFlightLimit
from agentflow.rules.routes.route import Route

_log = logging.getLogger(__name__)

SPREAD: Final = 5.0
"""Most seconds over which held tasks start once a limit has passed: all at once would meet it."""
_SPREADS: Final = frozenset({"rate", "overload"})


class Routes:
    """Closed routes as this worker knows them, and what it has in flight."""

    def __init__(
        self, board: Board, *, actor: str, slots: int, now: Callable[[], datetime]
    ) -> None:
        self._board = board
        self._actor = actor
        self._slots = slots
        self._now = now
        self._closed: dict[str, Closed] = {}
        self._limits: dict[Route, InFlightLimit] = {}
        self._in_flight: Counter[Route] = Counter()
        self._answered: dict[Route, float] = {}

    # Facts.

    def learned(self, key: str) -> None:
        """Take what the bucket has under a key of a closed route."""
        closed = closures.read(self._board.get(key))
        if closed is None:
            self._closed.pop(key, None)
        else:
            self._closed[key] = closed

    def closed(self, route: Route | None) -> Closed | None:
        """What keeps a route closed, or half-open."""
        if route is None or not self._closed:
            return None
        return self._closed.get(gates.closed_key(route))

    def open(self, route: Route | None) -> bool:
        """Whether a request may be sent now. A half-open route is not open: it takes a probe."""
        if self.closed(route) is not None:
            return False
        if route is None or route not in self._limits:
            return True
        return self._in_flight[route] < self._limits[route].limit(time.monotonic())

    def notes(self) -> list[str]:
        """What is closed and why, for heartbeats."""
        now = self._now()
        return [
            f"{key} {closed.reason}"
            + (f" until {closed.until:%H:%M:%S}Z" if closed.until else " until resumed")
            for key, closed in self._closed.items()
            if closed.holds(now)
        ]

    def started(self, route: Route) -> None:
        """A request of this route is in flight."""
        self._in_flight[route] += 1

    def ended(self, route: Route) -> None:
        """It is no more."""
        self._in_flight[route] -= 1

    # The probe.

    async def claim_probe(self, route: Route) -> bool:
        """Whether the next request of ours is the one that finds out. True: nobody else may."""
        now = self._now()
        if not closures.half_open(self.closed(route), now):
            return False
        claimed = False

        def claim(present: Closed | None) -> Closed | None:
            nonlocal claimed
            value = closures.claim_probe(present, self._actor, now)
            claimed = value is not present
            return value

        await self._change(route, claim)
        return claimed

    async def answered(self, route: Route, *, probe: bool) -> None:
        """A request was answered; the probe's answer opens the route."""
        self._answered[route] = time.monotonic()
        if probe:
            await self._change(route, lambda present: closures.answered(present, self._actor))

    async def released(self, route: Route) -> None:
        """The probe ended without an answer: another one may go."""
        now = self._now()
        await self._change(route, lambda present: closures.released(present, self._actor, now))

    # Refusals.

    async def refused(
        self,
        route: Route,
        effect: RouteEffect,
        failure: Failure,
        task_id: str,
        *,
        probe: bool = False,
        again: bool = False,
    ) -> Verdict | None:
        """Whose failure it is; None where it says nothing of the route."""
        if effect.slows:
            limit = self._limits.setdefault(route, InFlightLimit(self._slots))
            limit.overloaded(self._in_flight[route], time.monotonic())
        if effect.closes is None:
            return None
        refusal = Refusal(
            reason=effect.closes,
            task_id=task_id,
            actor=self._actor,
            retry_after=effect.retry_after,
            error_code=failure.code,
            request_id=failure.request_id,
            message=failure.message,
            probe=probe,
            again=again,
        )
        return await self._judged(route, refusal)

    async def _judged(self, route: Route, refusal: Refusal) -> Verdict:
        now = self._now()
        answered = self._answered.get(route)
        well = answered is not None and time.monotonic() - answered < closures.WELL_FOR
        before: Closed | None = None
        verdict = Verdict(None, Blame.ROUTE, now)

        def judge(present: Closed | None) -> Closed | None:
            nonlocal before, verdict
            before = present
            verdict = closures.refused(present, refusal, now, well=well, random=random.random)
            return verdict.closed

        await self._change(route, judge)
        _tell(route, before, verdict.closed, now)
        return verdict

    async def _change(self, route: Route, change: Callable[[Closed | None], Closed | None]) -> None:
        key = gates.closed_key(route)

        def changed(value: bytes | None) -> bytes | None:
            present = closures.read(value)
            closed = change(present)
            return value if closed is present else closures.encode(closed)

        try:
            value = await self._board.change(key, changed)
        except BusError as error:
            _log.warning("%s could not be changed for the other workers: %s", key, error)
            value = changed(closures.encode(self._closed.get(key)))
        # Known here before the bucket's copy comes back, so that nothing more is sent meanwhile.
        closed = closures.read(value)
        if closed is None:
            self._closed.pop(key, None)
        else:
            self._closed[key] = closed

    def wait(self, closed: Closed) -> float:
        """Seconds after which a closed route is half-open; a moment more, so that few contend."""
        if closed.until is None:
            return float("inf")
        left = (closed.until - self._now()).total_seconds()
        return max(0.0, left) + random.random() * 0.1


def spread(closed: Closed | None) -> float:
    """Seconds to wait after what was `closed` has opened."""
    if closed is None or closed.until is None or closed.reason not in _SPREADS:
        return 0.0
    lasted = (closed.until - closed.since).total_seconds()
    return random.random() * min(SPREAD, 0.2 * max(0.0, lasted))


def _tell(route: Route, before: Closed | None, closed: Closed | None, now: datetime) -> None:
    if closed is None or closed.until is None or closed.suspect:
        return
    if before is not None and before.reason == closed.reason and before.step >= closed.step:
        return
    _log.warning(
        "%s is closed (%s) for %.0f s, then tried again: %s",
        gates.closed_key(route),
        closed.reason,
        (closed.until - now).total_seconds(),
        (closed.message or "")[:200],
        extra={"action": "close", "reason": closed.reason},
    )
