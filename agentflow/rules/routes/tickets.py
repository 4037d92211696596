"""A ticket: a request's place on the count of its route. Pure.

A request adds what it is expected to cost to the counter of each axis, and what the counter says
then is its place: it starts when the clock (clock.py) has passed what was counted before it, on
every axis. What it really costs is told to the counter later, so nothing expected is paid twice:

    ticket           + expected cost
    answer begins    + counted input - expected input
    as it grows      + what it has more than was expected, in steps
    end              + output - what was charged for it

What is refused or never sent stays on the count, as does the ticket of a worker that died: those
behind it have their places already, and to take it back would make them wait for what nobody counts
any more. The headers show that the bucket is fuller than it should be, and the clock makes it good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from agentflow.rules.routes.clock import Clock
from agentflow.rules.routes.route import Route

COUNTERS: Final = "agentflow.counters"
GUARD: Final = 1.2
"""A request larger than the set point waits until its bucket holds so many times its cost."""
NEVER: Final = 3600.0
"""Seconds to wait on an axis that does not move; another clock comes before."""


class Ticket(msgspec.Struct, frozen=True):
    """What was added to each counter, and what each counted before that."""

    cost: dict[str, int]
    before: dict[str, float]


class Wait(msgspec.Struct, frozen=True):
    """How long a ticket waits as things are, and on which axis. 0 seconds: it starts now."""

    seconds: float
    axis: str = ""


def counter(route: Route, axis: str) -> str:
    """Subject of a counter."""
    return f"{COUNTERS}.{route.pool}.{route.family}.{axis}"


def ticket(cost: Mapping[str, int], values: Mapping[str, float]) -> Ticket:
    """The ticket of a request after which the counters said `values`."""
    return Ticket(dict(cost), {axis: values[axis] - amount for axis, amount in cost.items()})


def position(place: Ticket, clock: Clock, axis: str) -> float:
    """What the clock must have passed."""
    known = clock.axes[axis]
    large = GUARD * place.cost[axis] - known.held
    # A bucket that could never hold so much is waited for until it is full, and no longer.
    return place.before[axis] + min(max(0.0, large), known.burst)


def wait(place: Ticket, clock: Clock) -> Wait:
    """How long a ticket waits by a clock that is advanced to now."""
    longest = Wait(0.0)
    for axis in place.cost:
        known = clock.axes.get(axis)
        if known is None:
            continue
        lack = position(place, clock, axis) - known.passed
        if lack > 1e-6:
            seconds = min(NEVER, lack / known.rate) if known.rate > 0 else NEVER
            if seconds > longest.seconds:
                longest = Wait(seconds, axis)
    return longest


def is_void(place: Ticket, before: Clock, after: Clock) -> bool:
    """Whether a ticket is of counters that are no more, by two clocks of the same time.

    A clock goes back to what the counters say, and never behind one that waits; but where the
    counters began anew: a ticket would wait for what they were, and another one is taken instead.
    """
    for axis in place.cost:
        now, then = after.axes.get(axis), before.axes.get(axis)
        if now is None or then is None or now.passed >= then.passed - then.refill:
            continue
        if position(place, after, axis) > now.passed:
            return True
    return False


def grown(charged: int, produced: float) -> int:
    """Tokens to charge now for an answer under way; 0 while it is as short as was charged.

    At its end a long answer would hold up everybody for what its bucket lost long ago.
    """
    more = round(produced) - charged
    return more if more >= STEP else 0


STEP: Final = 50
"""Tokens that are worth a message of their own."""
