"""Figures as text: as many digits as they are worth. Pure."""

from __future__ import annotations

from bench.compare.comparison import Trial


def ms(value: float) -> str:
    """Milliseconds, as seconds from one on."""
    if abs(value) >= 1000:
        return f"{value / 1000:.2f} s"
    if abs(value) >= 100:
        return f"{value:.0f} ms"
    return f"{value:.1f} ms"


def mb(value: float | None) -> str:
    """Megabytes; a dash where the system does not tell."""
    return "–" if value is None else f"{value:,.0f} MB"


def gb(value_mb: float | None) -> str:
    """Megabytes as gigabytes of 1000."""
    if value_mb is None:
        return "–"
    value = value_mb / 1000
    return f"{value:,.0f} GB" if value >= 10 else f"{value:.1f} GB"


def times(ratio: float) -> str:
    """How many times: 1.24, 12, 340."""
    if ratio >= 100:
        return f"{round(ratio, -1):,.0f}"
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def dollars(value: float) -> str:
    """Whole dollars."""
    return f"${value:,.0f}"


def load(trial: Trial) -> str:
    """A load in a table."""
    shape = trial.load
    text = f"{shape.tasks} at {shape.in_flight}"
    if shape.latency.p99 is not None:
        text += ", log-normal"
    if trial.processes > 1:
        text += f", {trial.processes} processes"
    if trial.whole:
        text += f" (of {trial.whole})"
    return text
