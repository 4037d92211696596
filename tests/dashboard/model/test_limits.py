"""The limits of routes and the batches, as the heartbeats of workers tell them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from agentflow.dashboard.once import render
from agentflow.dashboard.store.store import Store
from agentflow.protocol.api import GateView
from agentflow.protocol.batches import Progress
from agentflow.protocol.control import Heartbeat
from agentflow.views import feed

NOW = 1_772_000_000.0
AT = datetime.fromtimestamp(NOW, UTC)


def beat(name: str, pools: dict[str, Any], **more: Any) -> feed.Beat:
    said = Heartbeat(
        role="worker",
        actor=f"{name}-1",
        name=name,
        host="h",
        pid=1,
        version="1",
        started=AT,
        time=AT,
        interval_s=2.0,
        pools=pools,
        **more,
    )
    return feed.Beat(at=NOW, beat=said)


def clock(seconds: float, state: str, used: float) -> dict[str, Any]:
    at = (AT + timedelta(seconds=seconds)).isoformat()
    axes = {"output": {"limit": 80_000.0, "used": used, "pace": 0.9}}
    return {"state": state, "source": "headers", "at": at, "axes": axes}


def costs(*items: feed.Item) -> Any:
    store = Store()
    for item in items:
        store.apply(item)
    return json.loads(render(store, view="costs", format="json", now=NOW))


def test_the_newest_clock_counts_and_all_lines_are_one() -> None:
    starts = [(AT + timedelta(seconds=seconds)).isoformat() for seconds in (30, 4)]
    (route,) = costs(
        beat("a", {"key": {"opus": {"clock": clock(-1, "governed", 0.8), "waiting": 3,
                                    "axis": "input", "starts": starts[0]}}}),
        beat("b", {"key": {"opus": {"clock": clock(-9, "free", 0.1), "waiting": 2,
                                    "axis": "output", "starts": starts[1]}}}),
        beat("c", {"key": {"haiku": {"in_flight": 1}}}),
    )["routes"]  # fmt: skip
    assert (route["pool"], route["family"], route["state"]) == ("key", "opus", "governed")
    assert route["axes"] == {"output": {"limit": 80_000.0, "used": 0.8, "pace": 0.9}}
    assert (route["waiting"], route["axis"]) == (5, "output")
    assert datetime.fromisoformat(route["starts"]) == AT + timedelta(seconds=4)


def test_a_route_that_is_closed_says_so() -> None:
    gate = GateView(
        key="closed.key.opus", what="pool", name="key.opus", since=AT, reason="rate", actor="a"
    )
    (route,) = costs(
        feed.Gates(at=NOW, gates=[gate]),
        beat("a", {"key": {"opus": {"clock": clock(0, "governed", 0.5)}}}),
    )["routes"]
    assert route["state"] == "closed"


def test_what_makes_no_sense_is_passed_over() -> None:
    hostile: list[Any] = [
        {"clock": 5, "waiting": "many"},
        {"clock": {"at": "never"}},
        {"clock": {"at": AT.isoformat(), "axes": {"output": 7, "input": {"limit": "x"}}}},
        {"waiting": -4, "starts": 9},
    ]
    routes = costs(beat("a", {"key": {str(at): said for at, said in enumerate(hostile)}}))["routes"]
    assert [(route["axes"], route["waiting"]) for route in routes] == [({}, 0)] * 4


def test_batches_are_rows() -> None:
    told = Progress(
        pool="key",
        queue="q",
        nonce="af000000000001",
        state="made",
        id="msgbatch_1",
        status="in_progress",
        count=1_000,
        made=AT - timedelta(hours=3),
        expires=AT + timedelta(hours=21),
        settled=812,
        cost_micro=1_500_000,
        saved_micro=1_500_000,
    )
    sent = msgspec.structs.replace(told, id="", nonce="af000000000002", state="sent", made=None)
    batches = costs(beat("a", {}, batches=[sent, told]))["batches"]
    assert [batch["id"] for batch in batches] == ["msgbatch_1", "af000000000002"]
    first = batches[0]
    assert (first["settled"], first["count"], first["cost_usd"]) == (812, 1_000, 1.5)
    store = Store()
    store.apply(beat("a", {}, batches=[told]))
    text = render(store, view="costs", format="text", now=NOW)
    assert "msgbatch_1" in text
    assert "812/1,000" in text
    assert "21h" in text
