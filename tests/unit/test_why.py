"""`why`: each reason from facts, and which of two is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agentflow.protocol.api import GateView, WorkerView
from agentflow.protocol.record import Failure, Timings
from agentflow.views.result import Result
from agentflow.views.why import Position, Situation, explain

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=1)
LATER = NOW + timedelta(hours=1)
WORKER = WorkerView(
    actor="w1-7-a",
    name="w1",
    pid=7,
    host="box",
    queues=["q"],
    kinds=["claude"],
    slots=4,
    running=3,
)
DEAF = msgspec.structs.replace(
    WORKER, slots=0, running=0, notes=["1 slot is lost to handlers that do not hear"]
)
STARVED = msgspec.structs.replace(
    WORKER, running=4, notes=["all 4 slots wait for other tasks of queue q", "another note"]
)
LOST = WorkerView(actor="x", name="x", pid=1, host="", lost=True)


def gate(what: str, name: str, **fields: Any) -> GateView:
    return GateView(key="k", what=what, name=name, since=EARLIER, actor="ann@box", **fields)


def case(state: str = "queued", **fields: Any) -> Situation:
    around: dict[str, Any] = {"workers": [WORKER], "served": True, "position": Position()}
    around |= {name: fields.pop(name) for name in Situation.__struct_fields__ if name in fields}
    timings = {name: fields.pop(name) for name in ("started", "ended") if name in fields}
    known = {"queue": "q", "priority": "normal", "kind": "claude", "model": "claude-opus-4-1"}
    task = Result(id="t1", state=state, timings=Timings(**timings), **(known | fields))
    return Situation(task=task, **around)


PAUSED = gate("queue", "q", reason="operator")
RATE = gate("pool", "main.opus", reason="rate", until=LATER)
AUTH = gate("pool", "main.opus", reason="auth", error_code="authentication_error")
ERROR = Failure(type="timeout", message="no byte for 60 s")


@pytest.mark.parametrize(
    ("given", "reason", "parts"),
    [
        (case("succeeded", attempts=1, ended=NOW, actor="w1-7-a"), "succeeded",
         ["It succeeded at 2026-11-24 12:00:00Z after 1 attempt, on w1-7-a."]),
        (case("failed", attempts=3, reason="timeout", error=ERROR), "failed",
         ["after 3 attempts (timeout): timeout: no byte for 60 s.", "agentflow retry t1"]),
        (case("cancelled", actor="ann"), "cancelled", ["by ann, after 0 attempts"]),
        (case("running", actor="w1-7-a", attempts=2, started=EARLIER), "running",
         ["on w1-7-a (w1 on box) since 2026-11-24 11:00:00Z, attempt 2."]),
        (case("running", actor="gone-1-a", workers=[]), "running", ["not known now"]),
        (case("running", actor="gone-1-a", workers=None), "running", ["It runs on gone-1-a"]),
        (case("running", actor="x", workers=[LOST]),
         "worker_lost", ["That worker is lost"]),
        (case("scheduled", resume_at=LATER), "not_before", ["not before 2026-11-24 13:00:00Z"]),
        (case("retrying", resume_at=LATER, attempts=1, failures=1, reason="timeout", error=ERROR),
         "retry", ["at 2026-11-24 13:00:00Z, as attempt 2", "no byte", "1 failure so far"]),
        (case("retrying", resume_at=EARLIER, position=Position(ahead=5, exact=False)), "queued",
         ["due since 2026-11-24 11:00:00Z", "at most 5 tasks come before it"]),
        (case(gates=[PAUSED]), "paused_queue",
         ["queue q is paused since 2026-11-24 11:00:00Z by ann@box;", "agentflow resume q"]),
        (case(gates=[gate("queue", "other")]), "queued", []),
        (case(kind="a.b", gates=[gate("kind", "a_b", reason="broken")]), "paused_kind",
         ["kind a_b is paused", "(broken)", "agentflow resume --kind a_b"]),
        (case(served=False), "no_worker", ["No worker serves its queue q", "--queues q"]),
        (case(kind="mine"), "no_worker_for_kind", ["knows its kind mine", "they know claude"]),
        (case(kind="unknown"), "queued", []),
        (case(gates=[RATE]), "closed", ["closed until 2026-11-24 13:00:00Z", "rate limit"]),
        (case(gates=[RATE, AUTH]), "closed",
         ["refused its credential (authentication_error)", "agentflow resume --pool main.opus"]),
        (case(gates=[gate("pool", "main.haiku", reason="rate")]), "queued", []),
        (case(model=None, gates=[RATE]), "closed", []),
        (case(gates=[PAUSED, AUTH]), "paused_queue", []),
        (case(position=Position(taken=True)), "taken", ["A worker has taken it"]),
        (case(position=None), "queued", ["its place there is not known"]),
        (case(), "queued", ["0 tasks come before it.", "1 worker of the queue run 3 of 4."]),
        (case(workers=[DEAF]), "queued", ["run 0 of 0. 1 slot is lost to handlers"]),
        (case(workers=[STARVED]), "queued", ["4 of 4. all 4 slots wait for other tasks of queue"]),
        (case(position=Position(ahead=1)), "queued", ["1 task comes before it", "is unknown"]),
    ],
)  # fmt: skip
def test_the_reason(given: Situation, reason: str, parts: list[str]) -> None:
    found = explain(given, NOW)
    assert found.reason == reason, found.text
    for part in parts:
        assert part in found.text
    assert found.text.isprintable()


def test_the_estimate_follows_the_rate() -> None:
    found = explain(case(position=Position(ahead=100, higher=20), per_minute=60.0), NOW)
    assert (found.ahead, found.estimate_s, found.until) == (120, 120.0, NOW + timedelta(minutes=2))
    assert "120 tasks come before it (20 of higher priority)" in found.text
    assert "at 60 a minute, as lately, it starts in about 2 minutes" in found.text


def test_until_is_when_it_ends() -> None:
    assert explain(case(gates=[RATE]), NOW).until == LATER
    assert explain(case(gates=[AUTH]), NOW).until is None
    assert explain(case("scheduled", resume_at=LATER), NOW).until == LATER
