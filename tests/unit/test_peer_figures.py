"""What the benchmark beside other queues makes of what it measured."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bench.peers import catalogue, figures, shapes


def found(tasks: int = 1000, seconds: float = 2.0) -> dict[str, Any]:
    return {
        "latency": {"tasks": 10, "p50_ms": 1.0, "p99_ms": 3.0},
        "noop": {
            "tasks": tasks,
            "seconds": seconds,
            "cpu_s": {"worker": 0.5},
            "memory_mb": {"worker": 40.0, "broker": 10.0},
        },
        "sleep": {"tasks": 25, "seconds": 3.3},
    }


def test_a_run_is_exact_only_when_every_task_ran_once() -> None:
    assert figures.exact(3, Counter({0: 1, 1: 1, 2: 1})) == 3
    for runs in ({0: 1, 1: 1}, {0: 1, 1: 2, 2: 1}, {0: 1, 1: 1, 2: 1, 3: 1}):
        with pytest.raises(figures.Inexact):
            figures.exact(3, Counter(runs))


def test_the_floor_of_sleeping_follows_from_the_slots() -> None:
    turn = figures.of_turn(found(), slots=10, nap=1.0)
    assert turn["sleep_floor_s"] == 3.0
    assert turn["over_floor"] == 1.1
    assert figures.sleepers(2, 1000) == 8
    assert figures.sleepers(1200, 1000) == 1000


def test_cost_is_told_per_task() -> None:
    turn = figures.of_turn(found(), slots=10, nap=1.0)
    assert turn["tasks_per_s"] == 500.0
    assert turn["cpu_us_per_task"] == {"worker": 500}
    assert turn["memory_mb"] == 40.0


def test_the_median_and_the_range_of_the_rounds_count() -> None:
    turns = [figures.of_turn(found(seconds=seconds), 10, 1.0) for seconds in (1.0, 2.0, 4.0)]
    assert figures.summary(turns)["tasks_per_s"] == {"median": 500.0, "least": 250.0, "most": 1000}


def test_the_verdict_names_the_fastest_of_all_and_of_those_that_keep_tasks() -> None:
    speeds = {"agentflow/tuned": 8000.0, "faststream-nats/core": 2000.0, "arq/tuned": 500.0}
    measured = {key: {"tasks_per_s": {"median": speed}} for key, speed in speeds.items()}
    verdict = figures.verdict(catalogue.SETTINGS, measured)
    assert verdict["all"]["setting"] == "faststream-nats/core"
    assert verdict["all"]["times"] == 4.0
    assert verdict["keeping tasks and results"]["times"] == 16.0


def test_every_setting_comes_first_in_some_round_and_none_is_left_out() -> None:
    settings = catalogue.SETTINGS
    firsts = {figures.rotated(settings, number)[0].key for number in range(5)}
    assert len(firsts) == 5
    assert {each.key for each in figures.rotated(settings, 3)} == {each.key for each in settings}


def test_settings_are_chosen_by_the_beginning_of_their_name() -> None:
    assert {each.queue for each in catalogue.chosen(("taskiq",))} == {"taskiq-nats", "taskiq-redis"}
    with pytest.raises(ValueError, match="nothing measured is called 'sidekiq'"):
        catalogue.chosen(("sidekiq",))


def test_a_missing_result_is_told() -> None:
    check = shapes.Check()
    first, second = check.take(), check.take()
    check.back(second)
    with pytest.raises(RuntimeError, match="1 results did not come back"):
        check.done()
    check.back(first)
    assert check.done() == 2
    with pytest.raises(KeyError):
        check.back(first)
