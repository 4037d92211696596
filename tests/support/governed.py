"""A fleet under the governor's rules, in simulated time: buckets, counters, a clock, workers.

The rules are the real ones (rules/routes/clock.py, tickets.py, estimates.py); the world around them
is made here: token buckets as the API has them, one-way delays, workers that die between any two
steps, counters that somebody resets, a server whose time jumps. `python -m tests.support.governed`
prints what it comes to in several shapes.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from agentflow.protocol.record import Usage
from agentflow.rules.routes import clock as clocks
from agentflow.rules.routes import tickets
from agentflow.rules.routes.clock import AXES, NO_LIMITS, Clock, Level, Limits, Reading, Shut
from agentflow.rules.routes.estimates import Estimates
from agentflow.rules.routes.tickets import Ticket

DELAY = 0.0006
"""Seconds to the server, one way, on the average."""
KEY = ("claude", "")


class Shape(msgspec.Struct, kw_only=True):
    """What is simulated."""

    requests: float = 300.0
    input: float = 2_000_000.0
    output: float = 400_000.0
    burst: float = 60.0
    level: float = 1.0
    workers: int = 20
    slots: int = 10
    size: float = 300.0
    size_spread: float = 0.3
    answer: float = 150.0
    answer_spread: float = 0.3
    pace: float = 100.0
    """Tokens of an answer a second."""
    stranger: float = 0.0
    limits: Limits = NO_LIMITS
    headers: bool = True
    seed: int = 1
    deaths: float = 0.0
    """Chance that a worker dies at any of its steps."""


class Bucket:
    """As the API has them; may be in debt."""

    def __init__(self, limit: float, burst: float, level: float) -> None:
        self.rate, self.burst = limit / 60.0, burst
        self.level, self.at = self.capacity * level, 0.0

    @property
    def capacity(self) -> float:
        return self.rate * self.burst

    def to(self, now: float) -> float:
        self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
        self.at = now
        return self.level


class World:
    """Everything, at `now`."""

    def __init__(self, shape: Shape) -> None:
        self.shape, self.now, self.random = shape, 0.0, random.Random(shape.seed)
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self.buckets = {
            "requests": Bucket(shape.requests, shape.burst, shape.level),
            "input": Bucket(shape.input, shape.burst, shape.level),
            "output": Bucket(shape.output, shape.burst, shape.level),
        }
        self.skew = 0.0
        self.idle = False
        """Whether nobody has anything to ask."""
        self.counters = dict.fromkeys(AXES, 0.0)
        self.value: Clock | None = None
        self.revision = 0
        self.shut_until = 0.0
        self.shut: Shut | None = None
        self.answered = self.refused = self.writes = 0
        self.used = dict.fromkeys(AXES, 0.0)
        self.started: dict[int, int] = {}
        self.begun: dict[int, float] = {}
        """When each was."""
        self.fleet: list[Worker] = []
        for _ in range(shape.workers):
            self.add()
        self.after(0.1, self._strange)

    def add(self) -> None:
        worker = Worker(self)
        self.fleet.append(worker)
        self.after(self.random.random() * 0.5, worker.pull)

    # Time.

    def after(self, seconds: float, do: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heapq.heappush(self._queue, (self.now + seconds, self._number, do, arguments))

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, do, arguments = heapq.heappop(self._queue)
            do(*arguments)
        self.now = until

    def wall(self) -> float:
        """The server's time."""
        return 1_000_000.0 + self.now + self.skew

    def delay(self) -> float:
        return DELAY * (0.7 + self.random.expovariate(1 / 0.3))

    def limit(self, factor: float) -> None:
        """Lower or raise all limits."""
        for bucket in self.buckets.values():
            bucket.to(self.now)
            bucket.rate *= factor
            bucket.level = min(bucket.level, bucket.capacity)

    @property
    def slots(self) -> int:
        return sum(worker.slots for worker in self.fleet if worker.alive)

    # The service.

    def _strange(self) -> None:
        for bucket in self.buckets.values():
            bucket.to(self.now)
            bucket.level -= self.shape.stranger * bucket.rate * 0.1
        self.after(0.1, self._strange)

    def ask(self, input_tokens: int) -> float:
        """Take a request in; 0, or seconds to wait."""
        needs = {"requests": 1, "input": input_tokens, "output": 1}
        wait = 0.0
        for axis, need in needs.items():
            bucket = self.buckets[axis]
            missing = min(need, bucket.capacity) - bucket.to(self.now)
            if missing > 1e-9:
                wait = max(wait, missing / bucket.rate)
        if wait:
            self.refused += 1
            return max(1.0, math.ceil(wait))
        self.answered += 1
        for axis in ("requests", "input"):
            self.buckets[axis].level -= needs[axis]
            self.used[axis] += needs[axis]
        return 0.0

    def produced(self, tokens: float) -> None:
        self.buckets["output"].to(self.now)
        self.buckets["output"].level -= tokens
        self.used["output"] += tokens

    def reading(self) -> Reading:
        if not self.shape.headers:
            return Reading()
        levels = {}
        for axis, bucket in self.buckets.items():
            left = max(0.0, bucket.to(self.now))
            full = math.ceil(self.now + (bucket.capacity - bucket.level) / bucket.rate) - self.now
            shown = float(int(left)) if axis == "requests" else round(left / 1000) * 1000.0
            shown = min(shown, bucket.rate * 60)
            levels[axis] = Level(bucket.rate * 60, shown, max(0.0, full - 0.5))
        return Reading(levels)

    # The bus.

    def add_to(self, amounts: dict[str, int], then: Callable[[dict[str, float]], None]) -> None:
        def arrives() -> None:
            for axis, amount in amounts.items():
                self.counters[axis] += amount
            self.after(self.delay(), then, {axis: self.counters[axis] for axis in amounts})

        self.after(self.delay(), arrives)

    def change(
        self,
        make: Callable[[Clock | None, dict[str, float]], Clock | None],
        done: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Compare and set: a read, the counters, a write; again where another came between.

        `done` hears whether it was written.
        """

        def read() -> None:
            seen, revision, counters = self.value, self.revision, dict(self.counters)
            self.after(2 * self.delay(), write, seen, revision, counters)

        def write(seen: Clock | None, revision: int, counters: dict[str, float]) -> None:
            value = make(seen, counters)
            if value is seen or value is None:
                self.after(self.delay(), done, False)
                return
            if revision != self.revision:
                self.after(self.delay(), read)
                return
            self.value, self.revision, self.writes = value, revision + 1, self.writes + 1
            self.after(self.delay(), done, True)
            for worker in self.fleet:
                self.after(self.delay(), worker.learned, value)

        self.after(self.delay(), read)

    def close(self, seconds: float) -> None:
        until = self.now + seconds
        if until > self.shut_until:
            if self.shut_until <= self.now:
                self.shut = Shut(self.wall())
            self.shut_until = until
            self.after(seconds, self._open)

    def _open(self) -> None:
        if self.shut is not None and self.shut.until is None and self.shut_until <= self.now:
            self.shut = Shut(self.shut.since, self.wall())
            for worker in self.fleet:
                worker.look()


class Worker:
    """One worker: a place for a ticket, slots, estimates of its own."""

    def __init__(self, world: World) -> None:
        self.world, self.slots = world, world.shape.slots
        self.alive = True
        self.view: Clock | None = world.value
        self.running = 0
        self.waiting: tuple[int, int, dict[str, int], Ticket] | None = None
        self.since = 0.0
        self.busy = False
        self.correcting = False
        self.estimates = Estimates()
        self.told: deque[float] = deque(maxlen=1000)

    def step(self) -> bool:
        """Whether it lives on; each step may be its last."""
        if self.alive and self.world.random.random() < self.world.shape.deaths:
            self.alive = False
            self.world.add()
        return self.alive

    def clock(self, value: Clock | None = None) -> Clock | None:
        clock = self.view if value is None else value
        return clock and clocks.advanced(clock, self.world.wall(), self.world.shut)

    def learned(self, value: Clock) -> None:
        before = self.clock()
        self.view = value
        self.estimates.told(value.call)
        after = self.clock()
        if before and after and self.waiting:
            task, size, cost, place = self.waiting
            if tickets.is_void(place, before, after):
                self.waiting = None
                self.take(task, size, cost)
                return
        self.look()

    # Before a request.

    def pull(self) -> None:
        world = self.world
        if world.idle or not self.step() or self.busy or self.running >= self.slots:
            return
        self.busy, self.since = True, world.now
        size = int(world.shape.size * 4 * world.random.lognormvariate(0, world.shape.size_spread))
        task = len(world.started)
        world.started[task] = 0
        self.admit(task, size)

    def admit(self, task: int, size: int) -> None:
        if not self.step():
            return
        world, clock = self.world, self.view
        if world.now < world.shut_until:
            world.after(world.shut_until - world.now + 0.01, self.admit, task, size)
        elif clocks.may_probe(clock, world.wall()):
            now = world.wall()
            limits = world.shape.limits

            def claim(seen: Clock | None, counters: dict[str, float]) -> Clock | None:
                if not clocks.may_probe(seen, now):
                    return seen
                if limits.any and not world.shape.headers:
                    return clocks.configured(limits, counters, now)
                mine = clocks.probing(str(id(self)), now)
                world.after(0, self.start, task, size, None)
                return mine

            world.change(claim)
            world.after(0.2, self.admit_again, task, size)
        elif clock is not None and clock.source == clocks.PROBE:
            world.after(0.2, self.admit, task, size)
        elif clock is None or not clock.governs(world.slots):
            self.start(task, size, None)
        else:
            self.take(task, size, self.estimates.cost(KEY, size, None))

    def admit_again(self, task: int, size: int) -> None:
        if self.world.started[task] == 0:
            self.admit(task, size)

    def take(self, task: int, size: int, cost: dict[str, int]) -> None:
        if self.step():
            self.world.add_to(cost, lambda values: self.taken(task, size, cost, values))

    def taken(self, task: int, size: int, cost: dict[str, int], values: dict[str, float]) -> None:
        if not self.step():
            return
        place = tickets.ticket(cost, values)
        self.waiting = (task, size, cost, place)
        clock = self.clock()
        if clock is not None and clocks.righted(clock, place.before, self.world.slots) is not clock:
            shut = self.world.shut

            def right(seen: Clock | None, _: dict[str, float]) -> Clock | None:
                now = seen and clocks.advanced(seen, self.world.wall(), shut)
                back = now and clocks.righted(now, place.before, self.world.slots)
                return seen if back is now else back

            self.world.change(right)
            self.world.after(0.01, self.look)
            return
        self.look()

    def look(self) -> None:
        if self.waiting is None or not self.step():
            return
        world, clock = self.world, self.clock()
        task, size, _, place = self.waiting
        if world.now < world.shut_until:
            world.after(world.shut_until - world.now, self.look)
            return
        governs = clock is not None and clock.governs(world.slots)
        wait = tickets.wait(place, clock) if clock and governs else tickets.Wait(0.0)
        if wait.seconds <= 0:
            self.waiting = None
            self.start(task, size, place)
        elif clock is not None and clocks.may_look(clock, world.wall()):
            self.bring(place)
        else:
            world.after(min(wait.seconds + 1e-4, 5.0), self.look)

    def bring(self, place: Ticket) -> None:
        """Go for headers, where no other one goes."""
        world = self.world

        def look(seen: Clock | None, _: dict[str, float]) -> Clock | None:
            if seen is None or not clocks.may_look(seen, world.wall()):
                return seen
            return clocks.looking(seen, world.wall())

        def done(mine: bool) -> None:
            if not self.alive or self.waiting is None or self.waiting[3] is not place:
                return
            if mine:
                task, size, _, _ = self.waiting
                self.waiting = None
                self.start(task, size, place)
            else:
                world.after(world.random.random(), self.look)

        world.change(look, done)

    # The request.

    def start(self, task: int, size: int, place: Ticket | None) -> None:
        world = self.world
        self.told.append(world.now - self.since)
        world.started[task] += 1
        world.begun[task] = world.now
        self.busy = False
        self.running += 1
        bill = [0.0, float(place.cost["output"]) if place is not None else 0.0]
        counted = max(1, int(size / 4 * world.random.lognormvariate(-0.05, 0.1)))
        answer = int(world.shape.answer * world.random.lognormvariate(0, world.shape.answer_spread))
        wait = world.ask(counted)
        if not self.step():
            return  # killed with its request under way: nobody reads the rest of it
        if wait:
            world.close(wait)
            world.after(0.05, self.heard, world.reading(), {}, place, world.now)
            world.after(0.05, self.ended, size, place, None, bill)
        else:
            first = 0.3 + world.random.expovariate(4)
            seconds = answer / world.shape.pace
            pieces = max(1, int(seconds * 4))
            for piece in range(pieces):
                after = first + seconds * (piece + 1) / pieces
                world.after(after, self.produced, answer / pieces, place, bill)
            reading = world.reading()
            world.after(first, self.begins, place, reading, counted, world.now)
            world.after(first + seconds, self.ended, size, place, Usage(counted, answer), bill)
        self.pull()

    def produced(self, tokens: float, place: Ticket | None, bill: list[float]) -> None:
        if not self.alive:
            return
        self.world.produced(tokens)
        bill[0] += tokens
        if place is not None and (more := tickets.grown(int(bill[1]), bill[0])):
            bill[1] += more
            self.world.add_to({"output": more}, lambda _: None)

    def begins(self, place: Ticket | None, reading: Reading, counted: int, sent: float) -> None:
        if not self.step():
            return
        if place is not None and "input" in place.cost:
            self.world.add_to({"input": counted - place.cost["input"]}, lambda _: None)
        self.heard(reading, {"requests": 1.0, "input": float(counted)}, place, sent)

    def heard(
        self, reading: Reading, own: dict[str, float], place: Ticket | None, sent: float
    ) -> None:
        world, view = self.world, self.view
        now = world.wall()
        tight = clocks.is_tight(reading, self.estimates.call, world.slots)
        if not (clocks.is_old(view, now) or (view is not None and view.free and tight)):
            return

        def correct(seen: Clock | None, counters: dict[str, float]) -> Clock | None:
            now = world.wall()
            base = seen and clocks.advanced(seen, now, world.shut)
            if not (clocks.is_old(seen, now) or (seen is not None and seen.free and tight)):
                return seen
            if not reading.levels:
                return seen
            age, sums = 0.0, dict(counters)
            if place is not None:
                took = place.cost if own else {}
                then = {axis: count + took.get(axis, 0) for axis, count in place.before.items()}
                counters, age = {**counters, **then}, world.now - sent
            return clocks.corrected(
                base,
                reading,
                counters,
                own,
                now=now,
                age=age,
                actor="",
                slots=world.slots,
                workers=sum(worker.alive for worker in world.fleet),
                sums=sums if self.estimates.known else None,
                call=self.estimates.call,
                limits=world.shape.limits,
            )

        world.change(correct)

    def ended(
        self, size: int, place: Ticket | None, usage: Usage | None, bill: list[float]
    ) -> None:
        if not self.step():
            return
        self.running -= 1
        if place is not None and usage is not None:
            self.world.add_to({"output": usage.output_tokens - int(bill[1])}, lambda _: None)
        if usage is not None:
            self.estimates.learn(KEY, size, usage)
        self.pull()


class Measured(msgspec.Struct):
    """Over a stretch of time."""

    utilisation: float
    refused: float
    axis: str


def measure(world: World, warm: float, seconds: float) -> Measured:
    """Run on, and say what was used of the limit that bound, and refused in all."""
    world.run(world.now + warm)
    before, until = dict(world.used), world.now + seconds
    limits = dict.fromkeys(AXES, 0.0)
    while world.now < until:
        for axis in AXES:
            limits[axis] += world.buckets[axis].rate * (1 - world.shape.stranger)
        world.run(world.now + 1.0)
    used = {axis: (world.used[axis] - before[axis]) / limits[axis] for axis in AXES}
    axis = max(used, key=lambda name: used[name])
    share = world.refused / max(1, world.refused + world.answered)
    return Measured(round(used[axis], 3), round(share, 4), axis)


SHAPES = {
    "requests, 6 s, 2x50": Shape(burst=6, workers=2, slots=50),
    "requests, 6 s, 20x10": Shape(burst=6),
    "requests, 6 s, empty": Shape(burst=6, level=0.0),
    "requests, 6 s, stranger": Shape(burst=6, stranger=0.4),
    "requests, 60 s": Shape(),
    "input, 60 s": Shape(requests=4000, input=200_000, size=600),
    "input, 6 s": Shape(requests=4000, input=200_000, size=600, burst=6),
    "input, 6 s, spread": Shape(
        requests=4000, input=200_000, size=815, size_spread=0.6, burst=6, answer=10
    ),
    "input, 15 s, stranger": Shape(requests=4000, input=200_000, size=600, burst=15, stranger=0.4),
    "output, 60 s, spread": Shape(requests=4000, output=30_000, answer_spread=1.0),
    "output, 15 s, spread": Shape(requests=4000, output=30_000, answer_spread=1.0, burst=15),
    "output, 15 s, stranger": Shape(
        requests=4000, output=30_000, answer_spread=1.0, burst=15, stranger=0.4
    ),
    "output, 60 s, stranger": Shape(requests=4000, output=30_000, answer_spread=1.0, stranger=0.4),
    "output, 60 s, 2x50": Shape(
        requests=4000, output=30_000, answer_spread=1.0, workers=2, slots=50
    ),
    "output, 60 s, empty": Shape(requests=4000, output=60_000, answer_spread=1.0, level=0.0),
    "output, 15 s, empty": Shape(
        requests=4000, output=60_000, answer_spread=1.0, level=0.0, burst=15
    ),
    "input, 60 s, empty": Shape(requests=4000, input=200_000, size=600, level=0.0, size_spread=0.6),
    "100x10 output": Shape(
        requests=4000,
        output=400_000,
        answer=400,
        answer_spread=1.0,
        workers=100,
        size=1500,
        size_spread=1.0,
    ),
    "100x10 input": Shape(
        requests=4000,
        input=2_000_000,
        answer=200,
        answer_spread=1.0,
        workers=100,
        size=2500,
        size_spread=1.0,
    ),
    "free": Shape(requests=4000, workers=2, slots=10),
    "no headers, configured": Shape(headers=False, limits=Limits(requests=300), burst=6),
}

if __name__ == "__main__":
    for name, shape in SHAPES.items():
        for seed in (1, 2):
            world = World(msgspec.structs.replace(shape, seed=seed))
            first = measure(world, 40, 60)
            later = measure(world, 0, 200)
            print(
                f"{name:28} {first} {later} writes/s {world.writes / 300:.2f} "
                f"calls {world.answered}",
                flush=True,
            )
