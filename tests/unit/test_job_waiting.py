"""What a job waits for, as a line, and how long it has patience."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from agentflow.job.spec import Held
from agentflow.job.waiting import PROBED, Patience, held
from agentflow.protocol.api import GateView

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STUCK = Held(count=1, text="stuck", stuck=True)
SLOW = Held(count=1, text="slow")


def pool(reason: str, seconds: float | None, **fields: Any) -> GateView:
    until = None if seconds is None else NOW + timedelta(seconds=seconds)
    return GateView(
        key="closed.main.opus",
        what="pool",
        name="main.opus",
        since=NOW,
        until=until,
        reason=reason,
        **fields,
    )


def line(*gates: GateView, running: int = 0, left: int = 40) -> Held:
    found = held(gates, left, running, "", NOW)
    assert found is not None
    return found


def test_a_rate_limit_says_how_long() -> None:
    found = line(pool("rate", 3492))
    assert found.text == "40 wait: key closed for 58:12 (rate limit)"
    assert not found.stuck


def test_a_refused_key_needs_a_person() -> None:
    found = line(pool("auth", 300, message="invalid x-api-key"))
    assert found.text == (
        "40 wait: key refused (invalid x-api-key): mend it, it goes on by itself, or at once: "
        "agentflow resume --pool main.opus"
    )
    assert found.stuck
    assert not line(pool("auth", 300), running=1).stuck, "something may still come of it"


def test_what_ends_by_itself_leaves_patience() -> None:
    assert not line(pool("auth", 300), pool("rate", 60)).stuck
    assert line(pool("auth", 300), pool("rate", 4000)).text.startswith("40 wait: key refused")


def test_a_pause_and_a_queue_without_workers() -> None:
    pause = GateView(key="pause.q", what="queue", name="q", since=NOW, reason="operator")
    assert line(pause).stuck
    assert line(pause).text == "40 wait: queue q is paused; let it go on: agentflow resume q"
    unserved = held((), 3, 0, "q", NOW)
    assert unserved is not None
    assert unserved.stuck
    assert "no worker serves queue q" in unserved.text


def test_nothing_waits_where_nothing_is_left_or_nothing_stands() -> None:
    assert held((), 5, 2, "", NOW) is None
    assert held((pool("auth", None),), 0, 0, "", NOW) is None


def test_patience_ends_after_its_time_and_a_probe_is_no_progress() -> None:
    patience = Patience(10)
    assert patience.see(0, STUCK, 100)
    assert not patience.over(109)
    assert not patience.see(0, None, 105), "a probe is under way: what was shown stays"
    assert patience.over(110)


def test_a_task_that_ends_is_progress() -> None:
    patience = Patience(10)
    patience.see(0, STUCK, 100)
    patience.see(1, STUCK, 109)
    assert not patience.over(118)
    assert patience.over(119)


def test_what_goes_on_by_itself_ends_the_count() -> None:
    patience = Patience(10 * PROBED)
    patience.see(0, STUCK, 100)
    patience.see(0, SLOW, 100 + PROBED)
    patience.see(0, STUCK, 101 + PROBED)
    assert not patience.over(100 + 10 * PROBED)


def test_without_a_limit_it_never_ends() -> None:
    patience = Patience(None)
    patience.see(0, STUCK, 0)
    assert not patience.over(1e9)
