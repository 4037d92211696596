"""The clock of a route: how much of each limit the fleet may have used by now. Pure.

A route has three limits, the axes: requests, input tokens, output tokens. For each the fleet counts
what its requests are expected to cost (a counter, tickets.py), and one record that all workers
watch, the clock, says up to where on that count requests may have started: `passed`, moving on by
`rate` a second. Nobody owns the clock. Whoever gets an answer's headers while it is old corrects it
by compare-and-set:

    level    what the bucket holds, in seconds of its refill
    error    level - set point
    rate     refill x ramp x (1 + error / time constant), within bounds
    passed   at most what the counter says and what lies above the set point

So a fleet that asks for less than it may gains no more than its bucket holds, and one that shares
its account with a stranger settles where the two together use the limit.

The clock stands still while its route is closed (`Shut`). While the headers leave more than all
slots of the fleet could ask for at once, it is `free`: nobody takes a ticket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from agentflow.rules.routes.route import Route

AXES: Final = ("requests", "input", "output")
CLOCK: Final = "clock."
POOL: Final = "pool."
SLOTS: Final = "slots."

SET_POINT: Final = 0.6
SET_POINT_MOST: Final = 24.0
"""At what share of its capacity a bucket is held, and at how many seconds of its refill at most:
empty it refuses, full it wastes, and what fills one that was empty is used by nobody."""
SLOWEST: Final = 0.2
FASTEST: Final = 1.25
"""Bounds of a rate, as shares of the refill."""
RAMP_FIRST: Final = 0.3
RAMP_AGAIN: Final = 0.6
"""Share of the rate with which a fleet begins that knows nothing, or that was free until now."""
RAMP: Final = 0.02
"""What it gains a second, up to 1."""
CORRECT_EVERY: Final = 1.0
"""Seconds after which headers correct the clock, at most."""
CORRECTIONS: Final = 20.0
"""Corrections in the time in which a full bucket fills: a small one needs them sooner."""
FREE_EVERY: Final = 10.0
"""The same while nobody takes tickets."""
FLOOR: Final = 1.5
"""Times what a request costs: some that wait are larger than others."""
LOOK_AFTER: Final = 3.0
"""Seconds without headers after which one who waits goes to bring some."""
PROBE_FOR: Final = 60.0
"""Seconds that the first request of a route has to bring headers."""
UNKNOWN_CAPACITY: Final = 60.0
SMALLEST_CAPACITY: Final = 1.0
LONGEST_CAPACITY: Final = 300.0
"""Seconds of refill that a bucket holds: where nothing tells, at least, and at most."""
CONFIGURED_CAPACITY: Final = 2.0
"""The same where only configured limits are known: who counts in short windows refuses bursts."""
MARGIN: Final = 0.98
"""Share of a configured limit that is used: nothing tells when it was overdrawn."""
FREE_ABOVE: Final = 3.0
FREE_BELOW: Final = 2.0
"""Times what all slots may ask at once: above it the clock is freed, below it governs again. What
is in flight has not produced its output yet, so one time is none."""
SKEW: Final = 2.0
"""Seconds by which a clock may lie ahead: more is a server whose time was set back."""

PROBE: Final = "probe"
NONE: Final = "none"
HEADERS: Final = "headers"
CONFIGURED: Final = "configured"


class Level(msgspec.Struct, frozen=True):
    """A limit as an answer's headers tell it: a minute, what is left, seconds until it is full."""

    limit: float
    remaining: float
    full_in: float | None = None


class Reading(msgspec.Struct, frozen=True):
    """What the headers of one answer say, by axis. Empty: the service tells nothing."""

    levels: Mapping[str, Level] = {}


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Configured limits of a pool, a minute; each family of models has them. None: no limit.

    `until` (Unix seconds): they hold as long as somebody renews them; None: until a person changes
    them.
    """

    v: int = 1
    requests: float | None = None
    input: float | None = None
    output: float | None = None
    until: float | None = None

    def of(self, axis: str) -> float | None:
        """The limit of an axis."""
        value: float | None = getattr(self, axis)
        return value if value is not None and value > 0 else None

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return any(self.of(axis) for axis in AXES)


NO_LIMITS: Final = Limits()


class Axis(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One limit: `limit` a minute, `capacity` seconds of it in a full bucket.

    `remaining` is what the last headers told, None where the limit is only configured.
    """

    limit: float
    passed: float = 0.0
    rate: float = 0.0
    capacity: float = UNKNOWN_CAPACITY
    remaining: float | None = None

    @property
    def refill(self) -> float:
        """A second."""
        return self.limit / 60.0

    @property
    def burst(self) -> float:
        """What may start at once beyond the count: what a full bucket has above its set point."""
        return (self.capacity - set_point(self.capacity)) * self.refill

    @property
    def held(self) -> float:
        """What it holds at its set point."""
        return set_point(self.capacity) * self.refill


class Clock(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The record. `at` is the time (Unix seconds, the server's) at which `passed` holds, `read`
    that of the last headers, `looked` that at which somebody went to bring new ones. `call` is what
    a request of the fleet costs on each axis, `slots` for how many of them it was found to be free.
    """

    v: int = 1
    at: float
    source: str
    actor: str = ""
    read: float = 0.0
    looked: float = 0.0
    ramp: float = RAMP_FIRST
    free: bool = False
    slots: int = 0
    axes: dict[str, Axis] = {}
    call: dict[str, float] = {}

    def governs(self, slots: int) -> bool:
        """Whether requests need a ticket, where the fleet has so many slots now."""
        return bool(self.axes) and not (self.free and slots <= self.slots)


class Shut(msgspec.Struct, frozen=True):
    """When the route was closed last; `until` None: it is."""

    since: float
    until: float | None = None

    def within(self, begin: float, end: float) -> float:
        """How much of the time from `begin` to `end` it was."""
        last = end if self.until is None else min(end, self.until)
        return max(0.0, last - max(begin, self.since))


_decoder = msgspec.json.Decoder(Clock)
_limits = msgspec.json.Decoder(Limits)


def clock_key(route: Route) -> str:
    """Key of a route's clock in the bucket."""
    return f"{CLOCK}{route.pool}.{route.family}"


def read(value: bytes | None) -> Clock | None:
    """The clock in a key's value; one that cannot be read governs nobody."""
    if not value:
        return None
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_limits(value: bytes | None, now: float) -> Limits:
    """The configured limits in a key's value, where they still hold."""
    if not value:
        return NO_LIMITS
    try:
        limits = _limits.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return NO_LIMITS
    return limits if limits.until is None or limits.until > now else NO_LIMITS


def encode(record: Clock | Limits) -> bytes:
    """A key's value."""
    return msgspec.json.encode(record)


def advanced(clock: Clock, now: float, shut: Shut | None = None) -> Clock:
    """The clock at `now`: every axis has moved on by the time that its route was open."""
    if clock.at > now + SKEW:
        return msgspec.structs.replace(clock, at=now)  # the server's time was set back
    if now <= clock.at:
        return clock
    gone = now - clock.at - (shut.within(clock.at, now) if shut is not None else 0.0)
    axes = {
        name: msgspec.structs.replace(axis, passed=axis.passed + axis.rate * gone)
        for name, axis in clock.axes.items()
    }
    return msgspec.structs.replace(clock, at=now, axes=axes)


def probing(actor: str, now: float) -> Clock:
    """The clock of a route of which nothing is known: `actor` sends the request that finds out."""
    return Clock(at=now, source=PROBE, actor=actor)


def may_probe(clock: Clock | None, now: float) -> bool:
    """Whether another one may send that request."""
    return clock is None or (clock.source == PROBE and not clock.at <= now < clock.at + PROBE_FOR)


def configured(limits: Limits, counted: Mapping[str, float], now: float, actor: str = "") -> Clock:
    """The clock by configured limits alone, for a service that tells none."""
    axes = {}
    for name in AXES:
        limit = limits.of(name)
        if limit is not None:
            axis = Axis(limit=limit, capacity=CONFIGURED_CAPACITY, rate=MARGIN * limit / 60.0)
            axes[name] = msgspec.structs.replace(axis, passed=counted.get(name, 0.0) + axis.burst)
    return Clock(at=now, source=CONFIGURED, actor=actor, ramp=1.0, axes=axes)


def is_old(clock: Clock | None, now: float) -> bool:
    """Whether new headers are to correct it."""
    if clock is None or not clock.axes:
        return True
    if clock.free:
        return not 0.0 <= now - clock.read < FREE_EVERY
    smallest = min(axis.capacity for axis in clock.axes.values())
    return not 0.0 <= now - clock.read < min(CORRECT_EVERY, smallest / CORRECTIONS)


def may_look(clock: Clock, now: float) -> bool:
    """Whether one who waits may go, whatever the clock says, to bring headers.

    Without any it knows nothing: a bucket that was overdrawn may long be full again.
    """
    last = max(clock.read, clock.looked)
    slowest = max(
        (clock.call.get(name, 1.0) / axis.refill for name, axis in clock.axes.items()), default=0.0
    )
    return clock.source == HEADERS and now - last > max(LOOK_AFTER, 3.0 * slowest)


def looking(clock: Clock, now: float) -> Clock:
    """The clock while that one is under way."""
    return msgspec.structs.replace(clock, looked=now)


def is_tight(reading: Reading, call: Mapping[str, float], slots: int) -> bool:
    """Whether all slots at once could ask for more than is left of any limit."""
    return _below(reading, call, slots, FREE_BELOW)


def corrected(
    clock: Clock | None,
    reading: Reading,
    counted: Mapping[str, float],
    own: Mapping[str, float],
    *,
    now: float,
    age: float = 0.0,
    actor: str,
    slots: int,
    workers: int = 0,
    sums: Mapping[str, float] | None = None,
    call: Mapping[str, float],
    limits: Limits = NO_LIMITS,
) -> Clock:
    """The next clock after one that is advanced to `now`.

    `counted` is what the counters said when the buckets held what the headers tell, `age` seconds
    ago: what starts after that is in neither. `own` is what the request whose headers these are
    took from its buckets (it stands in `remaining` no more, but an average moment is no moment
    after a request). `slots` are all of the fleet, `call` what one request costs. `sums` are the
    counters now: of what they say no more than a request of each of the `workers` waits, so where
    there is room the clock is no further behind.
    """
    before = clock if clock is not None and clock.axes else None
    was_free = before is not None and before.free
    ramp = RAMP_FIRST
    if before is not None:
        gained = RAMP * min(5.0, max(0.0, now - before.read))
        ramp = min(before.ramp, RAMP_AGAIN) if was_free else min(1.0, before.ramp + gained)
    capped = limits.any
    free = not capped and not _below(reading, call, slots, FREE_BELOW if was_free else FREE_ABOVE)
    axes = {
        name: _axis(
            level,
            before.axes.get(name) if before is not None else None,
            counted.get(name, 0.0),
            own.get(name, 0.0),
            age=age,
            floor=None
            if sums is None or name not in sums
            else sums[name] - FLOOR * workers * call.get(name, 0.0),
            ramp=ramp,
            anew=was_free,
            cap=limits.of(name),
        )
        for name, level in reading.levels.items()
    }
    for name in AXES:
        if name not in axes and (cap := limits.of(name)) is not None:
            axes[name] = _capped(before, name, cap, counted.get(name, 0.0))
    ramp = max(ramp, RAMP_AGAIN) if free else ramp
    return Clock(
        at=now,
        source=HEADERS if reading.levels else CONFIGURED,
        actor=actor,
        read=now,
        ramp=ramp,
        free=free,
        slots=slots,
        axes=axes,
        call={name: round(cost, 1) for name, cost in call.items()},
    )


def _axis(
    level: Level,
    before: Axis | None,
    counted: float,
    own: float,
    *,
    age: float,
    floor: float | None,
    ramp: float,
    anew: bool,
    cap: float | None,
) -> Axis:
    refill = level.limit / 60.0
    capacity = _capacity(level, before)
    error = (level.remaining + own) / refill - set_point(capacity)
    share = min(FASTEST, max(SLOWEST, 1.0 + error / time_constant(capacity)))
    rate, ahead = refill * ramp * share, max(0.0, error) * refill
    limit = level.limit
    if cap is not None and cap < limit:
        # A person wants less of it used than there is: what is left of it is no guide then.
        limit, rate, floor = cap, min(rate, MARGIN * cap / 60.0), None
        ahead = min(ahead, CONFIGURED_CAPACITY * cap / 60.0)
    passed = counted + ahead + age * refill
    if before is not None and not anew:
        passed = min(before.passed, passed)
        if floor is not None and error > 0:
            passed = max(passed, floor)
    return Axis(limit=limit, passed=passed, rate=rate, capacity=capacity, remaining=level.remaining)


def _capped(before: Clock | None, name: str, cap: float, counted: float) -> Axis:
    axis = Axis(limit=cap, capacity=CONFIGURED_CAPACITY, rate=MARGIN * cap / 60.0)
    passed = counted + axis.burst
    known = before.axes.get(name) if before is not None else None
    if known is not None:
        passed = min(known.passed, passed)
    return msgspec.structs.replace(axis, passed=passed)


def set_point(capacity: float) -> float:
    """Seconds of refill that a bucket is to hold."""
    return min(SET_POINT * capacity, SET_POINT_MOST)


def time_constant(capacity: float) -> float:
    """Seconds in which an error is made good.

    A small bucket has no time for more. Less, and the output of what is under way, which no bucket
    shows yet, makes it swing; and more, and a stranger who takes a share holds it empty.
    """
    return min(15.0, max(4.0, 0.6 * capacity))


def _capacity(level: Level, before: Axis | None) -> float:
    """Seconds of refill in a full bucket; told roughly (whole seconds, thousands of tokens)."""
    known = before.capacity if before is not None else UNKNOWN_CAPACITY
    if level.full_in is None:
        return known
    if level.remaining <= 0:
        # In debt it is further from full than it is large.
        return min(known, max(SMALLEST_CAPACITY, level.full_in))
    seen = level.remaining / (level.limit / 60.0) + max(0.0, level.full_in)
    if not SMALLEST_CAPACITY <= seen <= LONGEST_CAPACITY:
        return known  # their clock and ours differ
    if before is None or not known / 2 < seen < known * 2:
        return seen
    return known + 0.2 * (seen - known)


def _below(reading: Reading, call: Mapping[str, float], slots: int, times: float) -> bool:
    return any(
        level.remaining < times * slots * call.get(name, 1.0)
        for name, level in reading.levels.items()
    )


def righted(clock: Clock, before: Mapping[str, float], slots: int) -> Clock:
    """The clock put right where it has lost the counters, else the same object.

    `before` are the counters as a ticket found them. After a pause, or where somebody reset the
    counters, the clock is ahead by more than any bucket holds: all who come would start. Where
    somebody added to them it is further behind than all `slots` together explain: nobody would.
    """
    axes = dict(clock.axes)
    for name, count in before.items():
        axis = axes.get(name)
        if axis is None:
            continue
        most = _WAITING * (axis.refill + slots * clock.call.get(name, axis.refill) / 60.0)
        ahead = axis.passed > count + axis.burst + _SLACK * axis.refill
        if ahead or axis.passed < count - most:
            # Not a burst more: others come at the same moment, and headers soon.
            axes[name] = msgspec.structs.replace(axis, passed=count)
    return clock if axes == clock.axes else msgspec.structs.replace(clock, axes=axes)


_SLACK: Final = 2.0
"""Seconds of refill: a clock is put back for a pause, and not for each answer that was short."""
_WAITING: Final = 120.0
"""Seconds of refill, and two requests a slot, that may be counted and have not started."""
