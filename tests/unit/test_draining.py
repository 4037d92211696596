"""Whether a queue or a kind is drained: what the workers said, and when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agentflow.protocol import limits
from agentflow.protocol.api import GateView
from agentflow.protocol.control import Heartbeat, RunningTask
from agentflow.rules.draining import SETTLE, view
from agentflow.rules.presence import ONE_BEAT, Seen, running_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GATE = GateView(key="pause.q", what="queue", name="q", since=NOW)
ENOUGH = SETTLE + ONE_BEAT


def beat(name: str = "w", **fields: Any) -> Heartbeat:
    given = {
        "role": "worker", "actor": f"{name}-1", "name": name, "host": "h", "pid": 1,
        "version": "0", "started": NOW, "time": NOW, "interval_s": 2.0, **fields,
    }  # fmt: skip
    return Heartbeat(**given)


@pytest.mark.parametrize(
    ("queue", "kind", "running"),
    [("q", None, 3), (None, "echo", 5), (None, "sleep", 1), ("x", None, 0)],
)
def test_running_tasks_are_counted_by_queue_and_by_kind(
    queue: str | None, kind: str | None, running: int
) -> None:
    worker = beat(running=6, work={"q": {"echo": 2, "sleep": 1}, "other": {"echo": 3}})
    assert running_of(worker, queue, kind) == running


def test_an_older_worker_is_counted_by_the_tasks_it_names_and_by_those_it_does_not() -> None:
    named = [
        RunningTask(id=str(number), kind="echo", queue=queue, attempt=1, since=NOW)
        for number, queue in enumerate(("q", "q", "other"))
    ]
    assert running_of(beat(running=3, tasks=named), "q", None) == 2
    assert running_of(beat(running=10, tasks=named), "q", None) == 9


def test_it_takes_a_word_of_every_worker_that_came_after_the_pause() -> None:
    def done(now: float, *at: float) -> bool:
        return view(GATE, [Seen(beat(), each) for each in at], now, "q", None).done

    assert not done(ENOUGH - 0.1, SETTLE)  # another one may live
    assert done(ENOUGH, SETTLE)
    assert done(ENOUGH)  # there is no worker
    assert not done(ENOUGH, SETTLE, -0.5)  # one has not spoken since
    assert not done(ENOUGH, SETTLE, SETTLE - 0.1)  # nor long enough after it


def test_what_runs_is_told_with_its_place() -> None:
    busy = beat("w1", running=2, work={"q": {"echo": 2}})
    idle = beat("w2", running=1, work={"other": {"echo": 1}})
    found = view(GATE, [Seen(busy, 4.0), Seen(idle, 4.0)], 5.0, "q", None)
    assert (found.done, found.running) == (False, 2)
    assert [(each.name, each.running) for each in found.workers] == [("w1", 2)]


def test_a_silent_worker_is_not_waited_for() -> None:
    lost = beat("w1", running=2, work={"q": {"echo": 2}})
    found = view(GATE, [Seen(lost, -1.0)], limits.LOST_AFTER, "q", None)
    assert found.done
    assert [each.name for each in found.silent] == ["w1"]


def test_one_that_said_goodbye_counts_for_nothing() -> None:
    gone = beat(interval_s=0.0, running=1, work={"q": {"echo": 1}})
    assert view(GATE, [Seen(gone, 0.0)], ENOUGH, "q", None).done
