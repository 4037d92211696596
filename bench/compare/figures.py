"""From the answers and looks of a trial to its figures. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.compare.comparison import Memory, Overhead
from bench.compare.drive import Answer
from bench.compare.ladders import Latency
from bench.instruments.tree import Look


def overhead(answers: Sequence[Answer], latency: Latency) -> Overhead:
    """Of the tasks that succeeded; all zero where none did."""
    beyond = [
        answer.seconds - latency.of(answer.prompt) for answer in answers if not answer.problem
    ]
    if not beyond:
        return Overhead(0.0, 0.0, 0.0, 0.0)
    cuts = percentiles(beyond, (50, 90, 99))
    return Overhead(*(round(seconds * 1000, 2) for seconds in (*cuts, max(beyond))))


def percentiles(values: Sequence[float], wanted: Sequence[int]) -> list[float]:
    """By linear interpolation between the values; of one value, that value."""
    if len(values) == 1:
        return [values[0]] * len(wanted)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return [cuts[share - 1] for share in wanted]


def memory(idle_mb: float | None, looks: Sequence[Look]) -> Memory:
    """Mean and peak over the looks; None where the system has no PSS."""
    seen = [look.pss_mb for look in looks if look.processes]
    known = [mb for mb in seen if mb is not None]
    most = max((look.processes for look in looks), default=0)
    if not known or len(known) < len(seen):
        return Memory(idle_mb, None, None, len(looks), most)
    mean = round(statistics.fmean(known), 1)
    return Memory(idle_mb, mean, max(known), len(looks), most)


def first_problem(answers: Sequence[Answer]) -> tuple[int, str]:
    """How many failed, and what the first of them said."""
    bad = [answer.problem for answer in answers if answer.problem]
    return len(bad), bad[0] if bad else ""
