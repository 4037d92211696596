"""A fleet under the governor's real rules, in simulated time (tests/support/governed.py)."""

from __future__ import annotations

import statistics

import msgspec
import pytest

from agentflow.rules.routes import clock, tickets
from agentflow.rules.routes.clock import Limits
from tests.support.governed import SHAPES, Shape, Worker, World, measure


@pytest.mark.parametrize(
    ("name", "refused_most"),
    [
        ("requests, 6 s, 2x50", 0.01),
        ("requests, 6 s, empty", 0.01),
        ("requests, 6 s, stranger", 0.02),
        ("input, 60 s", 0.01),
        ("input, 6 s", 0.01),
        ("output, 60 s, spread", 0.01),
        ("output, 60 s, stranger", 0.02),
    ],
)
def test_a_fleet_uses_its_limit_and_is_hardly_ever_refused(name: str, refused_most: float) -> None:
    found = measure(World(SHAPES[name]), 45, 120)

    assert found.utilisation >= 0.95
    assert found.refused <= refused_most


def test_a_fleet_without_tickets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the figures above are worth."""
    monkeypatch.setattr(tickets, "wait", lambda *_: tickets.Wait(0.0))
    assert measure(World(SHAPES["requests, 6 s, 20x10"]), 45, 60).refused > 0.05


def test_nobody_takes_a_ticket_where_nothing_is_near_a_limit() -> None:
    world = World(SHAPES["free"])
    world.run(60)
    assert world.value is not None and world.value.free
    assert sum(world.counters.values()) == 0


def test_configured_limits_hold_where_no_headers_come() -> None:
    world = World(SHAPES["no headers, configured"])
    found = measure(world, 10, 100)
    assert 0.95 <= found.utilisation <= 1.0
    assert found.refused == 0


def test_configured_limits_below_those_of_the_account_hold() -> None:
    shape = Shape(burst=60, limits=Limits(requests=100))
    found = measure(World(shape), 30, 100)
    assert found.utilisation * 300 <= 101
    assert found.utilisation * 300 >= 95


def waits(world: World) -> list[Worker]:
    """Who waits for longer than the queue before it explains."""
    longest = 60.0 + 3 * len(world.fleet) * 60.0 / world.shape.requests
    return [
        worker
        for worker in world.fleet
        if worker.alive and worker.waiting and world.now - worker.since > longest
    ]


@pytest.mark.parametrize("seed", range(4))
def test_whoever_dies_at_whatever_step_nobody_waits_for_ever_and_nothing_starts_twice(
    seed: int,
) -> None:
    """A holder dies with its ticket taken, its request sent, half answered, or not yet settled;
    meanwhile the server's time jumps, and an administrator resets the counters."""
    shape = Shape(burst=6, seed=seed, deaths=0.01, workers=10, answer_spread=1.0)
    world = World(shape)
    for when, skew in ((40, 3600.0), (70, -3600.0), (100, 0.0)):
        world.run(when)
        world.skew = skew
    world.run(130)
    world.counters.update(dict.fromkeys(world.counters, 0.0))
    world.run(160)
    world.limit(0.5)
    world.run(190)
    world.limit(2.0)
    world.run(220)
    before = world.answered
    world.run(280)

    assert len(world.fleet) > 30, "nobody died, so this shows nothing"
    assert world.answered - before > 0.85 * 60 * shape.requests / 60
    assert not waits(world)
    assert max(world.started.values()) == 1


@pytest.mark.parametrize("level", [0.0, 5e6])
def test_counters_that_an_administrator_sets_hold_up_nobody(level: float) -> None:
    world = World(SHAPES["requests, 6 s, 20x10"])
    world.run(60)
    world.counters.update(dict.fromkeys(world.counters, level))
    refused = world.refused
    world.run(75)
    before = world.answered
    world.run(105)

    assert world.answered - before >= 0.95 * 30 * 5
    assert not waits(world)
    assert world.refused - refused <= 15


def test_without_new_tickets_a_reset_of_the_counters_would_hold_up_everybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rule that the test above is about, taken away."""
    monkeypatch.setattr(tickets, "is_void", lambda *_: False)
    world = World(SHAPES["requests, 6 s, 20x10"])
    world.run(60)
    world.counters.update(dict.fromkeys(world.counters, -1e6))
    world.run(200)
    assert waits(world)


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_jump_of_the_servers_time_neither_floods_nor_stops(jump: float) -> None:
    world = World(SHAPES["requests, 6 s, 20x10"])
    world.run(60)
    refused = world.refused
    world.skew = jump
    world.run(70)
    before = world.answered
    world.run(100)

    assert world.answered - before >= 0.95 * 30 * 5
    assert world.refused - refused <= 5


def test_after_a_pause_no_more_starts_than_the_bucket_holds() -> None:
    """A clock that ran on while nobody asked must not let a whole fleet through."""
    world = World(SHAPES["requests, 6 s, 20x10"])
    world.run(60)
    world.idle = True
    world.run(400)
    refused, before = world.refused, world.answered
    world.idle = False
    for worker in world.fleet:
        world.after(0, worker.pull)
    world.run(401)

    assert world.answered - before <= 31
    assert world.refused == refused


def test_a_clock_of_a_broken_pause_floods(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that the test above is about, taken away."""
    monkeypatch.setattr(clock, "righted", lambda clock, *_: clock)
    world = World(msgspec.structs.replace(SHAPES["requests, 6 s, 20x10"], slots=30))
    world.run(60)
    world.idle = True
    world.run(400)
    refused = world.refused
    world.idle = False
    for worker in world.fleet:
        world.after(0, worker.pull)
    world.run(405)
    assert world.refused > refused


@pytest.mark.parametrize("name", ["requests, 6 s, 20x10", "input, 60 s", "output, 60 s, spread"])
def test_who_waits_knows_when_it_starts(name: str) -> None:
    """What `why` says of the first in a line, beside what came: within a fifth, mostly."""
    world = World(msgspec.structs.replace(SHAPES[name], workers=20, slots=10))
    world.run(60)
    expected: dict[int, tuple[float, float]] = {}
    ratios: list[float] = []
    while world.now < 120:
        world.run(world.now + 0.5)
        for worker in world.fleet:
            clock = worker.clock()
            if worker.waiting is not None and clock is not None:
                wait = tickets.wait(worker.waiting[3], clock)
                if wait.seconds > 1.0:
                    expected.setdefault(worker.waiting[0], (world.now, wait.seconds))
        for task, (asked, seconds) in list(expected.items()):
            if world.started[task]:
                ratios.append((world.begun[task] - asked) / seconds)
                del expected[task]

    assert len(ratios) > 50
    within = sum(0.8 <= ratio <= 1.2 for ratio in ratios) / len(ratios)
    assert within >= 0.8, sorted(ratios)[:: len(ratios) // 10]
    assert 0.8 <= statistics.median(ratios) <= 1.2
