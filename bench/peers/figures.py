"""What the rounds' figures come to. No I/O."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from bench.peers.catalogue import Setting

WAVES = 4
"""The sleep shape fills a queue's slots at most so often: with few slots it would take minutes."""
AIM, LEAST = 8.0, 6.0
"""Of the fastest other queue's no-op throughput."""
MEASURES = ("tasks_per_s", "p50_ms", "p99_ms", "sleep_s", "over_floor", "memory_mb")

Turn = dict[str, Any]


class Inexact(Exception):
    """A task was lost, or ran twice."""


def sleepers(slots: int, most: int) -> int:
    """How many tasks of the sleep shape a queue gets."""
    return min(most, WAVES * slots)


def exact(submitted: int, runs: Counter[int]) -> int:
    """How many tasks there were. Raises Inexact unless each of them ran exactly once."""
    missing = [number for number in range(submitted) if number not in runs]
    twice = [number for number, count in runs.items() if count > 1]
    strange = [number for number in runs if not 0 <= number < submitted]
    if missing or twice or strange:
        raise Inexact(
            f"of {submitted} tasks {len(missing)} never ran, {len(twice)} ran more than once, "
            f"{len(strange)} runs were of no task"
        )
    return submitted


def of_turn(results: dict[str, Any], slots: int, nap: float) -> Turn:
    """The figures of one turn from what its client said of each shape."""
    noop, latency = results["noop"], results["latency"]
    turn: Turn = {
        "tasks_per_s": round(noop["tasks"] / noop["seconds"], 1),
        "p50_ms": latency["p50_ms"],
        "p99_ms": latency["p99_ms"],
        "memory_mb": noop["memory_mb"]["worker"],
        "memory": noop["memory_mb"],
        "cpu_us_per_task": {
            part: round(seconds / noop["tasks"] * 1e6) for part, seconds in noop["cpu_s"].items()
        },
    }
    if (sleep := results.get("sleep")) is not None:
        floor = math.ceil(sleep["tasks"] / slots) * nap
        turn["sleep_s"] = round(sleep["seconds"], 3)
        turn["sleep_floor_s"] = round(floor, 3)
        turn["over_floor"] = round(sleep["seconds"] / floor, 3)
    return turn


def summary(turns: Sequence[Turn]) -> dict[str, Any]:
    """Median and range of each measure over the rounds."""
    medians: dict[str, Any] = {"rounds": len(turns)}
    for measure in MEASURES:
        values = [turn[measure] for turn in turns if measure in turn]
        if values:
            medians[measure] = {
                "median": round(statistics.median(values), 3),
                "least": min(values),
                "most": max(values),
            }
    medians["cpu_us_per_task"] = _medians(turn["cpu_us_per_task"] for turn in turns)
    medians["memory"] = _medians(turn["memory"] for turn in turns)
    return medians


def _medians(turns: Iterable[dict[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for figures in turns:
        for name, value in figures.items():
            values.setdefault(name, []).append(value)
    return {name: round(statistics.median(series), 1) for name, series in values.items()}


def verdict(settings: Sequence[Setting], measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Our best throughput beside the fastest other queue's, of all and of those that keep tasks."""
    ours = [
        setting for setting in settings if setting.queue == "agentflow" and setting.key in measured
    ]
    others = [
        setting for setting in settings if setting.queue != "agentflow" and setting.key in measured
    ]
    judged: dict[str, Any] = {"aim": AIM, "least": LEAST}

    def speed(setting: Setting) -> float:
        return float(measured[setting.key]["tasks_per_s"]["median"])

    if not ours or not others:
        return judged
    best = max(ours, key=speed)
    judged["ours"] = {"setting": best.key, "tasks_per_s": speed(best)}
    for name, among in (
        ("all", others),
        ("keeping tasks and results", [setting for setting in others if setting.keeps]),
    ):
        if among:
            fastest = max(among, key=speed)
            judged[name] = {
                "setting": fastest.key,
                "tasks_per_s": speed(fastest),
                "times": round(speed(best) / speed(fastest), 2),
            }
    return judged


def rotated(settings: Sequence[Setting], number: int) -> list[Setting]:
    """The order of a round: each begins once, so none always finds the machine in one state."""
    first = number * max(1, len(settings) // 5) % len(settings)
    return [*settings[first:], *settings[:first]]


def document(
    settings: Sequence[Setting],
    rounds: dict[str, list[Turn]],
    reasons: dict[str, str],
) -> dict[str, Any]:
    """The part of the result that is about the queues."""
    measured = {key: summary(turns) for key, turns in rounds.items() if turns}
    return {
        "verdict": verdict(settings, measured),
        "settings": {
            setting.key: {
                "broker": setting.broker,
                "worker": " ".join(setting.worker),
                "slots": setting.slots,
                "keeps": setting.keeps,
                "promise": asdict(setting.promise),
                **measured.get(setting.key, {}),
            }
            for setting in settings
        },
        "not_measured": reasons,
        "turns": rounds,
    }
