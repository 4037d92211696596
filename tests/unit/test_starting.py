"""Whether a task is started, parked, or has come too late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentflow.protocol.record import State
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task
from agentflow.rules import starting
from agentflow.rules.starting import Arrival, Park, TooLate, Verdict

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def task(**fields: Any) -> Task:
    given = {"id": "t", "queue": "default", "priority": Priority.NORMAL, "kind": "echo", **fields}
    return Task(**given)


def verdict(
    task: Task,
    *kinds: str,
    attempts: int = 0,
    original: bool = True,
    unknown_kind_for: float = 300.0,
) -> Verdict:
    submitted = NOW - timedelta(seconds=60)
    arrival = Arrival(submitted=submitted, attempts=attempts, original=original)
    return starting.verdict(task, arrival, kinds, now=NOW, unknown_kind_for=unknown_kind_for)


def seconds(number: float) -> datetime:
    return NOW + timedelta(seconds=number)


@pytest.mark.parametrize(
    ("fields", "changes", "reason"),
    [
        ({}, {}, None),
        ({"not_before": seconds(10)}, {}, "not_before"),
        ({"not_before": seconds(-10)}, {}, None),
        # A continuation is due by definition.
        ({"not_before": seconds(10)}, {"original": False}, None),
        ({"deadline": seconds(1)}, {}, None),
        ({"deadline": NOW}, {}, "deadline"),
        ({"deadline": seconds(-1)}, {"attempts": 3, "original": False}, "deadline"),
        ({"deadline": seconds(-1), "not_before": seconds(10)}, {}, "deadline"),
        ({"start_within": 61.0}, {}, None),
        ({"start_within": 59.0}, {}, "start_within"),
        # Started once, it is not judged by the queue's patience again.
        ({"start_within": 59.0}, {"attempts": 1}, None),
        # Its time in the queue begins when it may start.
        ({"start_within": 20.0, "not_before": seconds(-10)}, {}, None),
        ({"kind": "mine"}, {}, "unknown_kind"),
        ({"kind": "mine"}, {"unknown_kind_for": 59.0}, "unknown_kind"),
    ],
)
def test_verdict(fields: dict[str, Any], changes: dict[str, Any], reason: str | None) -> None:
    judged = verdict(task(**fields), "echo", **changes)
    assert (judged.reason if judged else None) == reason


def test_an_unknown_kind_is_parked_while_a_deploy_may_bring_it() -> None:
    judged = verdict(task(kind="mine"), "echo")
    assert isinstance(judged, Park)
    assert judged.state is State.RETRYING
    assert NOW < judged.until <= seconds(15)


def test_an_unknown_kind_fails_after_a_while_and_names_what_there_is() -> None:
    judged = verdict(task(kind="mine"), "echo", "sleep", unknown_kind_for=30.0)
    assert isinstance(judged, TooLate)
    assert "'mine'" in judged.text
    assert "echo, sleep" in judged.text


def test_a_try_ends_with_the_deadline() -> None:
    assert starting.time_left(task(timeout=100.0), NOW) == 100.0
    assert starting.time_left(task(timeout=100.0, deadline=seconds(7)), NOW) == 7.0
    assert starting.time_left(task(timeout=5.0, deadline=seconds(7)), NOW) == 5.0
    assert 0 < starting.time_left(task(deadline=seconds(-7)), NOW) < 0.01
