"""The governor of one worker: a turnstile a route, and what the fleet must know of this worker.

Each worker tells how many slots it has (`slots.<actor>` in the bucket, gone by itself when it is
not renewed): by their sum the fleet knows whether all of them at once could ask for more than is
left. Limits that a worker was started with (`--rpm`) are told in the same way, `pool.<pool>`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from agentflow.bus.streams.bucket import Board
from agentflow.bus.streams.jetstream import JetStream
from agentflow.errors import BusError
from agentflow.governor.call import Call
from agentflow.governor.counters import Counters
from agentflow.governor.turnstile import Fleet, Turnstile
from agentflow.handlers.contract import Run
from agentflow.protocol import headers as blocks
from agentflow.protocol import subjects
from agentflow.protocol.control import RouteWait, Waiting
from agentflow.rules.routes import clock as clocks
from agentflow.rules.routes.clock import NO_LIMITS, Limits
from agentflow.rules.routes.route import Route
from agentflow.views.limits import clock_told

TELL_EVERY: Final = 25.0
TELL_FOR: Final = 60.0
"""Seconds that what a worker tells of itself holds."""
GROWTH_EVERY: Final = 0.5
"""Seconds between two looks at the answers under way."""


class Slots(msgspec.Struct, frozen=True):
    """How many requests a worker may have in flight, until when that holds (Unix seconds)."""

    slots: int
    until: float
    v: int = 1


_slots = msgspec.json.Decoder(Slots)


class Governor:
    """All routes of a worker."""

    def __init__(
        self,
        js: JetStream,
        board: Board,
        *,
        actor: str,
        slots: int,
        closed_since: Callable[[Route], float | None],
        limits: Limits | None = NO_LIMITS,
        pools: Callable[[], Sequence[str]] = list,
    ) -> None:
        self._js = js
        self._board = board
        self._own = slots
        self._governed = limits is not None
        self._actor = actor
        self._given = limits or NO_LIMITS
        self._pools = pools
        self._turnstiles: dict[Route, Turnstile] = {}
        self._calls: set[Call] = set()
        self._told: tuple[list[int], float] = ([slots], 0.0)
        self._limits: dict[str, Limits] = {}
        self._fleet = Fleet(
            board,
            Counters(js),
            actor=actor,
            now=self._now,
            slots=self.slots,
            workers=lambda: len(self._workers()),
            limits=self.limits,
            closed_since=closed_since,
        )

    def _now(self) -> float:
        return self._js.now().timestamp()

    # Facts.

    def learned(self, key: str) -> None:
        """Take what the bucket has under a key."""
        if key.startswith(clocks.CLOCK):
            for turnstile in self._turnstiles.values():
                if clocks.clock_key(turnstile.route) == key:
                    turnstile.learned()
        elif key.startswith(clocks.SLOTS):
            self._told = ([], 0.0)
        elif key.startswith(clocks.POOL):
            self._limits.pop(key.removeprefix(clocks.POOL), None)
            for turnstile in self._turnstiles.values():
                turnstile.learned()

    def closed(self) -> None:
        """A closure came, went or changed."""
        for turnstile in self._turnstiles.values():
            turnstile.closed()

    def slots(self) -> int:
        """Of all workers that live."""
        return sum(self._workers())

    def _workers(self) -> list[int]:
        """Slots of each worker that lives."""
        slots, until = self._told
        if time.monotonic() >= until:
            now, slots = self._now(), [self._own]
            for key, value in self._board.items(clocks.SLOTS):
                told = read_slots(value)
                if told is not None and told.until > now and not key.endswith(f".{self._actor}"):
                    slots.append(told.slots)
            self._told = slots, time.monotonic() + 5.0
        return slots

    def limits(self, pool: str) -> Limits:
        """Configured limits of a pool."""
        known = self._limits.get(pool)
        if known is None or (known.until is not None and known.until <= self._now()):
            value = self._board.get(clocks.POOL + pool)
            known = self._limits[pool] = clocks.read_limits(value, self._now())
        return known

    def notes(self) -> list[str]:
        """What a person should know of."""
        if not self._fleet.blind:
            return []
        return [f"requests go without tickets: {self._fleet.trouble}"[:300]]

    def shown(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The clock, and who waits, by pool and family: how many, on which axis, until when."""
        shown: dict[str, dict[str, dict[str, Any]]] = {}
        for route, turnstile in self._turnstiles.items():
            clock, said = turnstile.clock(), dict[str, Any]()
            if clock is not None:
                said["clock"] = clock_told(clock, self.slots())
            if turnstile.line:
                wait = turnstile.expected()
                starts = datetime.now(UTC) + timedelta(seconds=wait.seconds)
                said |= {"waiting": len(turnstile.line), "axis": wait.axis}
                said["starts"] = starts.isoformat()
            if said:
                shown.setdefault(route.pool, {})[route.family] = said
        return shown

    def waiting(self, task_id: str = "") -> Waiting | None:
        """Who waits, or for what a task does; None where nobody, or not that task."""
        routes = {}
        for route, turnstile in self._turnstiles.items():
            name = f"{route.pool}.{route.family}"
            if turnstile.line:
                wait = turnstile.expected()
                routes[name] = RouteWait(len(turnstile.line), wait.axis, round(wait.seconds, 2))
            for behind, call in enumerate(turnstile.line):
                if task_id and call.name == task_id:
                    wait = turnstile.expected(behind)
                    seconds = round(wait.seconds, 2)
                    return Waiting(actor=self._actor, route=name, axis=wait.axis, seconds=seconds)
        if task_id or not routes:
            return None
        return Waiting(actor=self._actor, routes=routes)

    # A request.

    def _turnstile(self, route: Route) -> Turnstile:
        turnstile = self._turnstiles.get(route)
        if turnstile is None:
            turnstile = self._turnstiles[route] = Turnstile(route, self._fleet)
        return turnstile

    def call(
        self, route: Route | None, key: tuple[str, str], size: int, most: int | None, metered: bool
    ) -> Call | None:
        """A request of a route; None where it is none of our business.

        It is where its answer tells the limits, or somebody configured them. `key` are kind and
        job, `size` the bytes of its task, `most` the tokens that its answer may have.
        """
        if route is None or not self._governed:
            return None
        if not metered and not self.limits(route.pool).any:
            return None
        return Call(route, key, size, most)

    def free(self, call: Call | None) -> bool:
        """Whether it may go without a ticket, now."""
        return call is None or call.due or self._turnstile(call.route).free()

    async def due(self, call: Call) -> bool:
        """Wait until it may go; False where its route was closed meanwhile."""
        return await self._turnstile(call.route).due(call)

    async def count(self, call: Call) -> None:
        """Count one that goes without waiting."""
        await self._turnstile(call.route).count(call)

    def started(self, call: Call, run: Run) -> None:
        """It is sent, by `run`."""
        call.run, call.sent = run, self._now()
        self._calls.add(call)

    def answered(self, call: Call) -> None:
        """Its answer begins."""
        if call.run is not None:
            self._turnstile(call.route).heard(call, call.run.reading, call.run.counted)

    def ended(self, call: Call, *, refused: bool = False) -> None:
        """It is over; or will not be sent."""
        self._calls.discard(call)
        turnstile, run = self._turnstile(call.route), call.run
        if run is not None and run.reading is not None:
            turnstile.heard(call, run.reading, run.counted)
        turnstile.ended(call, answered=not refused)

    # In the background.

    async def watch(self) -> None:
        """Charge answers that grow longer than was expected; runs until cancelled."""
        while True:
            await asyncio.sleep(GROWTH_EVERY)
            for call in list(self._calls):
                if call.ticket is not None:
                    self._turnstile(call.route).grown(call)

    async def keep(self) -> None:
        """Tell the fleet of this worker; runs until cancelled. Raises BusError."""
        while True:
            until = self._now() + TELL_FOR
            await self._tell(f"{clocks.SLOTS}{self._actor}", Slots(self._own, until))
            if self._given.any:
                for pool in self._pools():
                    limits = msgspec.structs.replace(self._given, until=until)
                    await self._tell(f"{clocks.POOL}{pool}", limits)
            await asyncio.sleep(TELL_EVERY)

    async def _tell(self, key: str, value: msgspec.Struct) -> None:
        block = blocks.encode({"Nats-TTL": f"{TELL_FOR:.0f}s"})
        await self._js.store(subjects.kv(key), msgspec.json.encode(value), block)

    async def forget(self) -> None:
        """Tell the fleet that this worker asks no more."""
        try:
            await self._board.change(f"{clocks.SLOTS}{self._actor}", lambda _: None)
        except BusError:
            return  # it is forgotten in a minute


def read_slots(value: bytes) -> Slots | None:
    """What a worker told of itself; None where it cannot be read."""
    try:
        return _slots.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
