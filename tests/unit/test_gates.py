"""Closed pools, pauses and the pace: what the keys mean, and how they move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from agentflow.rules.routes import closures, gates
from agentflow.rules.routes.closures import Closed
from agentflow.rules.routes.gates import Paused
from agentflow.rules.routes.pace import InFlightLimit
from agentflow.rules.routes.route import Route

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def closed(seconds: float | None, since: datetime = NOW) -> Closed:
    until = None if seconds is None else since + timedelta(seconds=seconds)
    return Closed(since=since, until=until, reason="rate", actor="a")


def value(seconds: float | None) -> bytes:
    return msgspec.json.encode(closed(seconds))


def test_a_closure_holds_until_its_time() -> None:
    assert closed(10).holds(NOW)
    assert not closed(10).holds(NOW + timedelta(seconds=10))
    assert closed(None).holds(NOW + timedelta(days=365))


def test_the_wire_form_has_the_documented_names() -> None:
    fields = msgspec.json.decode(value(10))
    assert {"v", "from", "until", "reason", "error_code", "request_id", "actor"} <= set(fields)


@pytest.mark.parametrize("data", [None, b"", b"nonsense", b"[]", b"\xff\xfe", b'{"v": 2}'])
def test_a_closure_that_cannot_be_read_closes_nothing(data: bytes | None) -> None:
    assert closures.read(data) is None


def test_a_pause_that_cannot_be_read_pauses_all_the_same() -> None:
    found = gates.read_paused(b'{"v": 9, "of": "later"}')
    assert isinstance(found, Paused)
    assert gates.read_paused(None) is None


def test_keys() -> None:
    assert gates.closed_key(Route("0123456789", "opus")) == "closed.0123456789.opus"
    assert gates.queue_key("default") == "pause.default"
    assert gates.kind_key("my.kind") == "pause.kind.my_kind"


def test_the_pace_is_free_until_an_overload() -> None:
    assert InFlightLimit(10).limit(0.0) == 10


def test_an_overload_takes_the_pace_down_and_time_brings_it_back() -> None:
    pace = InFlightLimit(10)
    pace.overloaded(10, 100.0)
    assert pace.limit(100.0) == 7
    assert pace.limit(102.0) == 9
    assert pace.limit(200.0) == 10


def test_the_answers_of_one_burst_are_one_overload() -> None:
    pace = InFlightLimit(100)
    for at in range(50):
        pace.overloaded(100, 100.0 + at / 1000)
    assert pace.limit(100.05) >= 69


def test_the_pace_never_stops_all() -> None:
    pace = InFlightLimit(10)
    for second in range(30):
        pace.overloaded(1, 100.0 + 2 * second)
    assert pace.limit(160.0) >= 1
