"""What needs a person: each rule speaks when it should and is silent otherwise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from agentflow.dashboard.rows.attention import attention
from agentflow.dashboard.rows.need import Item
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.protocol.api import GateView
from agentflow.protocol.control import Heartbeat
from agentflow.views import feed
from agentflow.views.row import Row
from tests.dashboard.support import scenery
from tests.dashboard.support.scenery import NOW

AT = datetime.fromtimestamp(NOW, UTC)


def beat(name: str = "w-1", **more: Any) -> Heartbeat:
    fields: dict[str, Any] = {
        "role": "worker",
        "actor": f"{name}-ab",
        "name": name,
        "host": "h",
        "pid": 1,
        "version": "1.0",
        "started": AT,
        "time": AT,
        "interval_s": 2.0,
        "queues": ["default"],
        "slots": 4,
    }
    return Heartbeat(**{**fields, **more})


def calm() -> Dashboard:
    """Nothing needs anybody: a master, a worker, an empty queue."""
    dash = scenery.empty()
    dash.store.apply(feed.Link(at=NOW - 60, up=True))
    dash.store.apply(feed.Beat(at=NOW, beat=beat()))
    dash.store.apply(feed.Beat(at=NOW, beat=beat("m-1", role="master", queues=[])))
    dash.store.apply(feed.Depths(at=NOW, queues=[feed.QueueDepth(queue="default")]))
    return dash


def needs(dash: Dashboard, now: float = NOW) -> list[Item]:
    return attention(dash.scene(now))


def row(task_id: str, state: str, ago: float = 60, **more: Any) -> Row:
    fields: dict[str, Any] = {
        "id": task_id,
        "sequence": 5,
        "state": state,
        "queue": "default",
        "updated": round((NOW - ago) * 1000),
        "actor": "w-1-ab",
    }
    return Row(**{**fields, **more})


def apply(dash: Dashboard, *rows: Row) -> None:
    dash.store.apply(feed.Rows(at=NOW, rows=list(rows)))


def gate(what: str, name: str, **more: Any) -> feed.Gates:
    return feed.Gates(
        at=NOW, gates=[GateView(key=f"{what}.{name}", what=what, name=name, since=AT, **more)]
    )


def test_when_all_is_well_nothing_needs_anybody() -> None:
    assert needs(calm()) == []
    assert "nothing needs you" in calm().frame(80, 24, NOW)[2].text


def lost(dash: Dashboard) -> None:
    dash.store.apply(feed.Beat(at=NOW - 30, beat=beat("w-9", running=3)))
    apply(dash, row("a", "running", actor="w-9-ab"), row("b", "running", actor="w-9-ab"))


def idle_lost(dash: Dashboard) -> None:
    dash.store.apply(feed.Beat(at=NOW - 30, beat=beat("w-9")))


def many_lost(dash: Dashboard) -> None:
    for at in range(9):
        dash.store.apply(feed.Beat(at=NOW - 30, beat=beat(f"w-9{at}", running=1)))


def orphan(dash: Dashboard) -> None:
    apply(dash, row("a", "running", actor="gone-1"))


def unserved(dash: Dashboard) -> None:
    depth = feed.QueueDepth(queue="gpu", messages=7, waiting={"normal": 7})
    dash.store.apply(feed.Depths(at=NOW, queues=[depth]))


def old(dash: Dashboard) -> None:
    depth = feed.QueueDepth(
        queue="default", messages=7, waiting={"normal": 7}, oldest=NOW - 700, pulls=1
    )
    dash.store.apply(feed.Depths(at=NOW, queues=[depth]))


def burst(dash: Dashboard) -> None:
    apply(
        dash,
        *(
            row(f"f{at}", "failed", 100, sequence=at, fingerprint="f1", error="E: no")
            for at in range(1, 5)
        ),
    )


def paused(dash: Dashboard) -> None:
    dash.store.apply(gate("queue", "default", reason="lunch", actor="ana"))


def paused_kind(dash: Dashboard) -> None:
    dash.store.apply(gate("kind", "review"))


def closed(dash: Dashboard) -> None:
    dash.store.apply(gate("pool", "key-1.opus", reason="auth", message="invalid x-api-key"))


def closed_for_a_while(dash: Dashboard) -> None:
    until = datetime.fromtimestamp(NOW + 40, UTC)
    dash.store.apply(gate("pool", "key-1.opus", reason="rate", until=until))


def pools(remaining: int, reset: float) -> dict[str, Any]:
    limits = {
        "output-tokens-limit": "1000",
        "output-tokens-remaining": str(remaining),
        "output-tokens-reset": datetime.fromtimestamp(reset, UTC).isoformat(),
    }
    said = {"in_flight": 3, "refused": 2, "limits": limits, "limits_at": AT.isoformat()}
    return {"key-1": {"opus": said}}


def tight(dash: Dashboard) -> None:
    dash.store.apply(feed.Beat(at=NOW, beat=beat(pools=pools(100, NOW + 30))))


def blocked(dash: Dashboard) -> None:
    dash.store.apply(feed.Beat(at=NOW, beat=beat(loop_lag_ms=2_000.0)))


def noted(dash: Dashboard) -> None:
    for name in ("w-1", "w-2", "w-3"):
        dash.store.apply(feed.Beat(at=NOW, beat=beat(name, notes=["upgrade needed"])))


def skewed(dash: Dashboard) -> None:
    dash.store.apply(feed.Beat(at=NOW, beat=beat("w-2", version="1.1")))


def no_master(dash: Dashboard) -> None:
    master = msgspec.structs.replace(beat("m-1", role="master"), interval_s=0.0)
    dash.store.apply(feed.Beat(at=NOW, beat=master))


def no_worker(dash: Dashboard) -> None:
    dash.store.apply(feed.Beat(at=NOW, beat=beat(interval_s=0.0)))
    apply(dash, row("a", "queued", sequence=0, message="3-1", actor=""))


def unread(dash: Dashboard) -> None:
    dash.store.apply(feed.Note(at=NOW, part="gates", text="no permission"))


@pytest.mark.parametrize(
    ("happens", "level", "said", "evidence", "hint"),
    [
        (lost, "crit", "worker w-9 is lost with 2 tasks", "silent for 30s", "key 3: workers"),
        (idle_lost, "warn", "worker w-9 is lost", "silent for 30s", "key 3: workers"),
        (many_lost, "warn", "6 more workers are lost", "w-93", "key 3: workers"),
        (orphan, "crit", "1 task runs on workers that are gone", "a", "key 2: tasks"),
        (unserved, "crit", "no worker serves queue gpu", "7 tasks", "--queues gpu"),
        (old, "warn", "queue default: the oldest task waits for 11m40", "7 tasks", "key 4: queues"),
        (burst, "crit", "4 tasks failed of one cause", "E: no", "key 6: dead letters"),
        (paused, "warn", "queue default is paused", "by ana: lunch", "agentflow resume default"),
        (paused_kind, "warn", "kind review is paused", "for", "agentflow resume --kind review"),
        (closed, "crit", "pool key-1.opus is closed until resumed", "x-api-key", "resume --pool"),
        (closed_for_a_while, "warn", "is closed until 21:04:51 (rate)", "", "key 4: queues"),
        (tight, "warn", "opus: 10 % of output tokens left", "100 of 1.0k", "key 5: costs"),
        (
            blocked,
            "warn",
            "its event loop stood still for 2.0s",
            "does not await",
            "key 3: workers",
        ),
        (noted, "warn", "3 actors: upgrade needed", "", "key 3: workers"),
        (skewed, "warn", "workers of 2 versions", "1 with 1.0", "key 3: workers"),
        (no_master, "warn", "no master answers", "tasks flow on", "agentflow master"),
        (no_worker, "crit", "there is no worker", "1 task", "agentflow worker"),
        (unread, "warn", "gates: not all is known", "no permission", "key 7: events"),
    ],
)
def test_a_rule_speaks(
    happens: Callable[[Dashboard], None], level: str, said: str, evidence: str, hint: str
) -> None:
    dash = calm()
    happens(dash)
    found = [item for item in needs(dash) if said in item.text]
    assert len(found) == 1, needs(dash)
    assert found[0].level == level
    assert evidence in found[0].evidence
    assert hint in found[0].hint


def test_a_paused_queue_is_neither_unserved_nor_old() -> None:
    dash = calm()
    depth = feed.QueueDepth(queue="gpu", messages=7, waiting={"normal": 7}, oldest=NOW - 9_000)
    dash.store.apply(feed.Depths(at=NOW, queues=[depth]))
    dash.store.apply(gate("queue", "gpu"))
    assert [item.text for item in needs(dash)] == ["queue gpu is paused, 7 tasks wait"]


def test_what_is_worst_comes_first_and_nothing_twice() -> None:
    dash = scenery.dashboard()
    found = needs(dash)
    levels = [item.level for item in found]
    assert levels == sorted(levels, key=lambda level: level != "crit")
    assert len({(item.text, item.evidence) for item in found}) == len(found)
    assert len(found) >= 7
    assert all(item.hint for item in found)


def test_a_limit_whose_reset_has_passed_is_full_again() -> None:
    dash = calm()
    dash.store.apply(feed.Beat(at=NOW, beat=beat(pools=pools(1, NOW - 1))))
    assert needs(dash) == []


def test_a_pool_whose_time_is_over_is_open() -> None:
    dash = calm()
    closed_for_a_while(dash)
    assert needs(dash, NOW + 41) == [] or all(
        "closed" not in item.text for item in needs(dash, NOW + 41)
    )


def test_right_after_a_connection_silence_means_nothing() -> None:
    dash = scenery.empty()
    dash.store.apply(feed.Link(at=NOW - 2, up=True))
    apply(dash, row("a", "running", actor="unheard"))
    assert needs(dash) == []


def test_failures_of_one_cause_are_old_news_after_a_quarter_of_an_hour() -> None:
    dash = calm()
    apply(
        dash,
        *(row(f"f{at}", "failed", 1_000, sequence=at, fingerprint="f1") for at in range(1, 9)),
    )
    assert needs(dash) == []


def test_pools_that_make_no_sense_are_passed_over() -> None:
    dash = calm()
    nonsense: dict[str, Any] = {
        "a": "text",
        "b": {"opus": 7},
        "c": {"opus": {"in_flight": "many", "limits": {"requests-limit": "x"}, "limits_at": "y"}},
        "d": {"opus": {"limits": [], "limits_at": AT.isoformat()}},
        "e": {
            "opus": {
                "limits": {"requests-limit": "nan", "requests-remaining": "-3"},
                "limits_at": "2026-11-27T21:00:00",
            }
        },
    }
    dash.store.apply(feed.Beat(at=NOW, beat=beat(pools=nonsense)))
    assert needs(dash) == []
    dash.open("costs")
    dash.frame(120, 36, NOW)


def test_a_kind_that_no_worker_has_is_named_until_one_comes() -> None:
    dash = calm()
    dash.store.apply(feed.Beat(at=NOW, beat=beat(kinds=["echo"])))
    apply(dash, row("t-1", "retrying", kind="pdf", reason="unknown_kind"))
    (item,) = needs(dash)
    assert (item.level, item.text) == ("crit", "no worker has kind pdf")
    assert item.argument == "kind:pdf"
    dash.store.apply(feed.Beat(at=NOW + 2, beat=beat("w-2", kinds=["pdf"])))
    assert needs(dash, NOW + 2) == []


def test_a_storm_of_retries_is_one_line() -> None:
    dash = calm()
    apply(dash, *(row(f"t-{at}", "retrying", reason="overloaded") for at in range(19)))
    assert needs(dash) == []
    apply(dash, row("t-19", "retrying", reason="overloaded"))
    (item,) = needs(dash, NOW + 2)
    assert item.text == "20 tasks wait for another try"
    assert item.evidence == "20 overloaded"


def test_a_run_far_above_its_kind_and_a_backlog_of_letters_are_told() -> None:
    dash = calm()
    started = round((NOW - 400) * 1000)
    apply(
        dash,
        *(
            row(f"e-{at}", "succeeded", kind="pdf", started=started, ended=started + 40_000)
            for at in range(50)
        ),
        row("slow", "running", kind="pdf", started=started),
        row("other", "running", kind="html", started=started),
    )
    dash.store.apply(feed.Beat(at=NOW, beat=beat()))
    assert [item.argument for item in needs(dash)] == ["slow"]
    dash.store.apply(feed.Depths(at=NOW, queues=[], dead=100))
    assert [item.text for item in needs(dash, NOW + 2)][-1] == "100 dead letters"
