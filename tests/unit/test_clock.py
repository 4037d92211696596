"""Clock, tickets and estimates of a route: the rules, one at a time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agentflow.protocol.record import Usage
from agentflow.rules.routes import clock as clocks
from agentflow.rules.routes import tickets
from agentflow.rules.routes.clock import Axis, Clock, Level, Limits, Reading, Shut
from agentflow.rules.routes.estimates import Estimates
from agentflow.rules.routes.tickets import Ticket

KEY = ("claude", "job")


def clock(**changed: Any) -> Clock:
    axis = Axis(limit=600, passed=100.0, rate=10.0, capacity=10.0, remaining=60.0)
    fields: dict[str, Any] = {"at": 1000.0, "source": clocks.HEADERS, "read": 1000.0}
    return Clock(**{**fields, "ramp": 1.0, "axes": {"requests": axis}, **changed})


def corrected(before: Clock | None, remaining: float, **changed: Any) -> Clock:
    reading = Reading({"requests": Level(600, remaining, (100 - remaining) / 10)})
    fields: dict[str, Any] = {"now": 1001.0, "actor": "w", "slots": 50, "call": {"requests": 1.0}}
    return clocks.corrected(before, reading, {"requests": 110.0}, {}, **{**fields, **changed})


def test_a_clock_moves_on_by_its_rate_and_stands_still_while_its_route_is_closed() -> None:
    assert clocks.advanced(clock(), 1005.0).axes["requests"].passed == 150.0
    half = clocks.advanced(clock(), 1005.0, Shut(1001.0, 1003.0))
    assert half.axes["requests"].passed == 130.0
    closed = clocks.advanced(clock(), 1005.0, Shut(1001.0))
    assert closed.axes["requests"].passed == 110.0


def test_a_clock_of_the_future_goes_on_from_now() -> None:
    now = clocks.advanced(clock(at=5000.0), 1000.0)
    assert (now.at, now.axes["requests"].passed) == (1000.0, 100.0)


def test_a_fuller_bucket_makes_it_faster_and_an_emptier_one_slower() -> None:
    rates = [corrected(clock(), left).axes["requests"].rate for left in (0.0, 30.0, 60.0, 90.0)]
    assert rates == sorted(rates)
    assert rates[2] == pytest.approx(10.0)
    assert rates[0] >= 2.0 and rates[3] <= 12.5


def test_a_fleet_that_asks_for_little_gains_no_more_than_its_bucket_holds() -> None:
    ahead = clocks.advanced(clock(), 2000.0)
    passed = corrected(ahead, 100.0, now=2000.0).axes["requests"].passed
    assert passed == 110.0 + 40.0


def test_the_first_headers_of_all_begin_slowly() -> None:
    first = corrected(None, 60.0)
    assert first.ramp == clocks.RAMP_FIRST
    assert first.axes["requests"].capacity == pytest.approx(10.0)


def test_it_is_free_only_while_all_slots_could_ask() -> None:
    assert corrected(clock(), 100.0, slots=20).free
    assert not corrected(clock(), 100.0, slots=40).free
    assert corrected(clock(free=True), 100.0, slots=40).free
    assert not corrected(clock(free=True), 100.0, slots=60).free
    assert not clock(free=True, slots=20).governs(20)
    assert clock(free=True, slots=20).governs(21)


def test_a_configured_limit_caps_what_the_headers_tell() -> None:
    capped = corrected(clock(), 100.0, slots=1, limits=Limits(requests=60)).axes["requests"]
    assert capped.limit == 60
    assert capped.rate == pytest.approx(0.98)


def test_limits_that_nobody_renewed_hold_no_more() -> None:
    value = clocks.encode(Limits(requests=5, until=100.0))
    assert clocks.read_limits(value, 99.0).any
    assert not clocks.read_limits(value, 101.0).any
    assert not clocks.read_limits(b"[", 0.0).any


@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff", b'{"at": "x"}'])
def test_a_clock_that_cannot_be_read_governs_nobody(value: bytes | None) -> None:
    assert clocks.read(value) is None


def test_a_clock_is_read_as_it_was_written() -> None:
    assert clocks.read(clocks.encode(clock())) == clock()
    later = msgspec.json.encode({**msgspec.to_builtins(clock()), "news": 1})
    assert clocks.read(later) == clock()


def test_one_goes_for_headers_when_none_come() -> None:
    stale = clock()
    assert not clocks.may_look(stale, 1002.0)
    assert clocks.may_look(stale, 1010.0)
    assert not clocks.may_look(clocks.looking(stale, 1010.0), 1011.0)


@pytest.mark.parametrize(
    ("before", "passed"), [(95.0, 100.0), (20.0, 20.0), (5_000.0, 5_000.0), (300.0, 100.0)]
)
def test_a_clock_that_lost_its_counters_is_put_right(before: float, passed: float) -> None:
    assert clocks.righted(clock(), {"requests": before}, 10).axes["requests"].passed == passed


def test_a_ticket_starts_when_the_clock_has_passed_what_came_before_it() -> None:
    place = tickets.ticket({"requests": 1}, {"requests": 121.0})
    assert place.before == {"requests": 120.0}
    wait = tickets.wait(place, clock())
    assert (wait.axis, wait.seconds) == ("requests", pytest.approx(2.0))
    assert tickets.wait(place, clocks.advanced(clock(), 1002.0)).seconds == 0.0


def test_a_large_request_waits_until_its_bucket_holds_it() -> None:
    small, large = (
        Ticket({"requests": 10}, {"requests": 100}),
        Ticket({"requests": 80}, {"requests": 100}),
    )
    assert tickets.wait(small, clock()).seconds == 0.0
    assert tickets.wait(large, clock()).seconds == pytest.approx((1.2 * 80 - 60) / 10)
    huge = Ticket({"requests": 10_000}, {"requests": 100})
    assert tickets.wait(huge, clock()).seconds == pytest.approx(4.0)


def test_a_ticket_of_counters_that_are_no_more_is_void() -> None:
    place = Ticket({"requests": 1}, {"requests": 120.0})
    back = clock(axes={"requests": msgspec.structs.replace(clock().axes["requests"], passed=0.0)})
    assert tickets.is_void(place, clock(), back)
    assert not tickets.is_void(place, clock(), clock())
    assert not tickets.is_void(Ticket({"requests": 1}, {"requests": 0.0}), clock(), back)


def test_what_is_expected_is_what_was_found() -> None:
    estimates = Estimates()
    assert estimates.cost(KEY, 400, None) == {"requests": 1, "input": 100, "output": 250}
    for _ in range(400):
        estimates.learn(KEY, 400, Usage(150, 40, 50, 90_000))
    cost = estimates.cost(KEY, 800, None)
    assert 380 <= cost["input"] <= 420
    assert 38 <= cost["output"] <= 60
    assert estimates.cost(KEY, 800, 10)["output"] == 10
    assert estimates.cost(("claude", "another job"), 800, None)["output"] < 100
