"""The turnstile of a route: lets a worker's requests through as the route's clock allows.

One request at a time has the place, with a ticket on the counters; the others of this worker wait
behind it in the order in which they came. So what a worker that dies leaves on the counters is one
ticket, and no worker takes the turn of another by asking for more.

Where the counters or the clock cannot be used, requests go as they did without them: at worst
they are refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from agentflow.bus.streams.bucket import Board
from agentflow.errors import BusError
from agentflow.governor.call import Call
from agentflow.governor.counters import Counters
from agentflow.rules.routes import clock as clocks
from agentflow.rules.routes import tickets
from agentflow.rules.routes.clock import Clock, Limits, Reading, Shut
from agentflow.rules.routes.estimates import Estimates, counted_input
from agentflow.rules.routes.route import Route
from agentflow.rules.routes.tickets import Ticket, Wait

_log = logging.getLogger(__name__)

LOOK_EVERY: Final = 5.0
"""Most seconds between two looks at the clock, for whoever waits on it."""
BLIND_FOR: Final = 30.0
"""Seconds for which the counters are left alone after they could not be used."""


class Fleet:
    """What every turnstile of a worker shares: the bus, the time, and how many ask."""

    def __init__(
        self,
        board: Board,
        counters: Counters,
        *,
        actor: str,
        now: Callable[[], float],
        slots: Callable[[], int],
        workers: Callable[[], int],
        limits: Callable[[str], Limits],
        closed_since: Callable[[Route], float | None],
    ) -> None:
        self.board = board
        self.counters = counters
        self.actor = actor
        self.now = now
        self.slots = slots
        self.workers = workers
        self.limits = limits
        self.closed_since = closed_since
        self.blind_until = 0.0
        self.trouble = ""

    @property
    def blind(self) -> bool:
        """Whether the counters cannot be used at the moment."""
        return time.monotonic() < self.blind_until

    def blinded(self, error: BusError) -> None:
        """They could not be."""
        if not self.blind:
            _log.warning("requests go without tickets for %.0f s: %s", BLIND_FOR, error)
        self.blind_until = time.monotonic() + BLIND_FOR
        self.trouble = str(error)


class Turnstile:
    """One route, as this worker passes it."""

    def __init__(self, route: Route, fleet: Fleet) -> None:
        self.route = route
        self.estimates = Estimates()
        self.line: list[Call] = []
        """Requests that wait here, the one with the place first."""
        self._fleet = fleet
        self._key = clocks.clock_key(route)
        self._place = asyncio.Lock()
        self._changed = asyncio.Event()
        self._view: Clock | None = None
        self._shut: Shut | None = None
        self._ticket: Ticket | None = None
        self._void = False
        self._working: set[asyncio.Task[None]] = set()
        self._correcting = False
        self._between = 0.0
        self._passed_at = 0.0
        self.learned()
        self.closed()

    # What is known.

    def learned(self) -> None:
        """Take the clock that the bucket has now."""
        before, view = self.clock(), clocks.read(self._fleet.board.get(self._key))
        self._view = view
        if view is not None:
            self.estimates.told(view.call)
        after = self.clock()
        if self._ticket is not None and before is not None and after is not None:
            self._void = self._void or tickets.is_void(self._ticket, before, after)
        self._wake()

    def closed(self) -> None:
        """See whether the route is closed: its clock stands still while it is."""
        since, shut = self._fleet.closed_since(self.route), self._shut
        if since is not None and (shut is None or shut.until is not None):
            self._shut = Shut(since)
        elif since is None and shut is not None and shut.until is None:
            self._shut = Shut(shut.since, self._fleet.now())
        self._wake()

    def clock(self) -> Clock | None:
        """The clock as it is now."""
        view = self._view
        return None if view is None else clocks.advanced(view, self._fleet.now(), self._shut)

    @property
    def limits(self) -> Limits:
        """Configured limits of the pool."""
        return self._fleet.limits(self.route.pool)

    @property
    def is_shut(self) -> bool:
        """Whether the route is closed."""
        return self._shut is not None and self._shut.until is None

    def free(self) -> bool:
        """Whether a request may go without a ticket."""
        view = self._view
        if self._fleet.blind:
            return True
        if view is None or view.source == clocks.PROBE or self._must_configure(view):
            return False
        return not self._governed(view)

    def _governed(self, view: Clock) -> bool:
        if view.source == clocks.CONFIGURED and not self.limits.any:
            return False  # whoever configured them is gone
        return view.governs(self._fleet.slots())

    def _must_configure(self, view: Clock | None) -> bool:
        limits = self.limits
        if not limits.any or (view is not None and view.source == clocks.HEADERS):
            return False
        if view is None or view.source != clocks.CONFIGURED:
            return True
        wanted = {axis: limits.of(axis) for axis in clocks.AXES if limits.of(axis)}
        return wanted != {name: axis.limit for name, axis in view.axes.items()}

    # Passing.

    async def due(self, call: Call) -> bool:
        """Wait until a request may go; False where the route was closed meanwhile."""
        if call.due or self.free():
            return True
        self.line.append(call)
        try:
            async with self._place:
                while not self.free():
                    if self.is_shut:
                        return False
                    view = self._view
                    if view is not None and not self._must_configure(view) and view.axes:
                        return await self._stand(call)
                    if await self._find_out(call):
                        return True
        except BusError as error:
            self._fleet.blinded(error)
        finally:
            self.line.remove(call)
        return True

    async def count(self, call: Call) -> None:
        """Take a ticket for a request that goes whatever the clock says: the probe of a closure."""
        view = self._view
        if call.ticket is not None or view is None or not self._governed(view) or self._fleet.blind:
            return
        try:
            await self._take(call)
        except BusError as error:
            self._fleet.blinded(error)

    def leave(self, call: Call) -> None:
        """A request will not be sent, or took nothing from its buckets."""
        call.ticket = None
        if call.probing:
            self._release(call, answered=False)

    async def _stand(self, call: Call) -> bool:
        """Hold a ticket until its time has come."""
        if call.ticket is None:
            await self._take(call)
        self._ticket, self._void = call.ticket, False
        try:
            while True:
                clock = self.clock()
                if clock is None or not self._governed(clock):
                    break
                if self.is_shut:
                    return False
                if self._void:
                    await self._take_anew(call)
                    continue
                assert call.ticket is not None
                wait = tickets.wait(call.ticket, clock)
                if wait.seconds <= 0:
                    break
                if clocks.may_look(clock, clock.at) and await self._may_look():
                    break
                await self._until_change(wait.seconds)
        finally:
            self._ticket = None
        call.due = True
        self._passed()
        return True

    async def _may_look(self) -> bool:
        """Whether this worker's request is the one that goes to bring headers."""
        mine, now = False, self._fleet.now

        def look(value: bytes | None) -> bytes | None:
            nonlocal mine
            present = clocks.read(value)
            mine = present is not None and clocks.may_look(present, now())
            return clocks.encode(clocks.looking(present, now())) if present and mine else value

        await self._set(look)
        return mine

    async def _take(self, call: Call) -> None:
        view = self._view
        assert view is not None
        cost = self.estimates.cost(call.key, call.size, call.most)
        amounts: dict[str, int] = {axis: cost[axis] for axis in clocks.AXES if axis in view.axes}
        values = await self._fleet.counters.add(self.route, amounts)
        call.ticket = tickets.ticket(amounts, values)
        call.charged = amounts.get("output", 0)
        await self._right(call.ticket)

    async def _take_anew(self, call: Call) -> None:
        self._void = False
        await self._take(call)
        self._ticket = call.ticket

    async def _right(self, place: Ticket) -> None:
        fleet, clock = self._fleet, self.clock()
        if clock is None or clocks.righted(clock, place.before, fleet.slots()) is clock:
            return

        def right(value: bytes | None) -> bytes | None:
            present = clocks.read(value)
            if present is None:
                return value
            advanced = clocks.advanced(present, fleet.now(), self._shut)
            back = clocks.righted(advanced, place.before, fleet.slots())
            return value if back is advanced else clocks.encode(back)

        await self._set(right)

    async def _find_out(self, call: Call) -> bool:
        """Make the clock of a route that has none; whether this request is to bring its limits."""
        fleet, limits = self._fleet, self.limits
        mine = False
        counted = await fleet.counters.sums(self.route, clocks.AXES) if limits.any else {}

        def claim(value: bytes | None) -> bytes | None:
            nonlocal mine
            present, now = clocks.read(value), fleet.now()
            mine = False
            if self._must_configure(present):
                return clocks.encode(clocks.configured(limits, counted, now, fleet.actor))
            if not clocks.may_probe(present, now):
                return value
            mine = True
            return clocks.encode(clocks.probing(fleet.actor, now))

        await self._set(claim)
        if mine:
            call.probing = True
        elif self._view is not None and self._view.source == clocks.PROBE:
            await self._until_change(LOOK_EVERY)
        return mine

    # What answers tell.

    def heard(self, call: Call, reading: Reading | None, counted: int | None) -> None:
        """Headers came, with the input as it was counted, where the answer begins."""
        if call.ticket is not None and counted is not None and not call.counted:
            call.counted = True
            if "input" in call.ticket.cost:
                amount = counted - call.ticket.cost["input"]
                self._fleet.counters.tell(self.route, {"input": amount})
        if reading is None or not reading.levels or call.heard:
            return
        call.heard = True
        call.probing = False
        if not self._correcting and self._is_news(self._view, reading):
            own = {"requests": 1.0, "input": float(counted)} if counted is not None else {}
            self._correcting = True
            self._work(self._correct(reading, own, self._at_sending(call, counted), call.sent))

    def _at_sending(self, call: Call, counted: int | None) -> dict[str, float] | None:
        """What the counters said when the request went; None where it has no ticket."""
        ticket = call.ticket
        if ticket is None:
            return None
        took = ticket.cost if counted is not None else {}
        return {axis: before + took.get(axis, 0) for axis, before in ticket.before.items()}

    def _is_news(self, view: Clock | None, reading: Reading) -> bool:
        if clocks.is_old(view, self._fleet.now()):
            return True
        tight = clocks.is_tight(reading, self.estimates.call, self._fleet.slots())
        return view is not None and view.free and tight

    async def _correct(
        self, reading: Reading, own: dict[str, float], then: dict[str, float] | None, sent: float
    ) -> None:
        fleet = self._fleet
        age = fleet.now() - sent if then is not None else 0.0

        def correct(value: bytes | None) -> bytes | None:
            present, now = clocks.read(value), fleet.now()
            if not self._is_news(present, reading):
                return value
            return clocks.encode(
                clocks.corrected(
                    present and clocks.advanced(present, now, self._shut),
                    reading,
                    {**sums, **(then or {})},
                    own,
                    now=now,
                    age=age,
                    actor=fleet.actor,
                    slots=fleet.slots(),
                    workers=fleet.workers(),
                    sums=sums if self.estimates.known else None,
                    call=self.estimates.call,
                    limits=self.limits,
                )
            )

        try:
            axes = {*reading.levels, *(clocks.AXES if self.limits.any else ())}
            sums = await fleet.counters.sums(self.route, axes)
            await self._set(correct)
        except BusError as error:
            fleet.blinded(error)
        finally:
            self._correcting = False

    def grown(self, call: Call) -> None:
        """Charge what an answer under way has more than was expected of it."""
        ticket = call.ticket
        if ticket is not None and "output" in ticket.cost:
            more = tickets.grown(call.charged, call.produced)
            if more:
                call.charged += more
                self._fleet.counters.tell(self.route, {"output": more})

    def ended(self, call: Call, *, answered: bool) -> None:
        """A request is over. One that was refused, or never arrived, took nothing."""
        run = call.run
        usage = run.usage if run is not None else None
        if usage is None or not usage.total or not answered:
            self.leave(call)
            return
        self.estimates.learn(call.key, call.size, usage)
        self.heard(call, None, counted_input(usage))
        ticket, call.ticket = call.ticket, None
        if ticket is not None and "output" in ticket.cost:
            amount = usage.output_tokens - call.charged
            self._fleet.counters.tell(self.route, {"output": amount})
        if call.probing:
            self._release(call, answered=True)

    def _release(self, call: Call, *, answered: bool) -> None:
        """The request that was to find out the limits brought none."""
        call.probing = False
        fleet = self._fleet

        def release(value: bytes | None) -> bytes | None:
            present = clocks.read(value)
            if present is None or present.source != clocks.PROBE or present.actor != fleet.actor:
                return value
            none = Clock(at=fleet.now(), source=clocks.NONE, actor=fleet.actor)
            return clocks.encode(none) if answered else None

        async def released() -> None:
            try:
                await self._set(release)
            except BusError as error:
                fleet.blinded(error)

        self._work(released())

    # The inside.

    async def _set(self, change: Callable[[bytes | None], bytes | None]) -> None:
        await self._fleet.board.change(self._key, change)

    def _work(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def _passed(self) -> None:
        now = time.monotonic()
        if self._passed_at and now - self._passed_at < 60.0:
            self._between += 0.1 * (now - self._passed_at - self._between)
        self._passed_at = now

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until_change(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(min(seconds, LOOK_EVERY) + 0.001):
                await self._changed.wait()
        except TimeoutError:
            return

    def expected(self, behind: int = 0) -> Wait:
        """How long the one with the place waits, or the one `behind` so many others here."""
        clock, ticket = self.clock(), self._ticket
        if clock is None or ticket is None:
            return Wait(behind * self._between)
        wait = tickets.wait(ticket, clock)
        if not behind:
            return wait
        name = wait.axis or max(
            clock.axes, key=lambda axis: ticket.cost.get(axis, 0) / clock.axes[axis].limit
        )
        known = clock.axes[name]
        alone = ticket.cost.get(name, 0) / known.rate if known.rate > 0 else 0.0
        return Wait(wait.seconds + behind * max(alone, self._between), name)
