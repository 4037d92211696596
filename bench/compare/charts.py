"""The charts of a comparison, as SVG: the same bytes from the same JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.compare import claims, words
from bench.compare.comparison import Comparison, Measured, Row

CALL: Final = "#1b7f79"
"""Designs whose task is a call."""
PROCESS: Final = "#c8553d"
"""Designs whose task is a process, or a process's turn."""
FLOOR: Final = "#8a8f98"
INK: Final = "#22262b"
FAINT: Final = "#d9dce1"

_STYLE: Final[Any] = {
    "svg.hashsalt": "agentflow",  # ids are random without it, and every run a new file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


def draw(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the charts; returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(_STYLE):
        charts = {"designs": _designs(comparison), "floor": _over_floor(comparison)}
        files = []
        for name, figure in charts.items():
            if figure is not None:
                file = folder / f"{name}.svg"
                figure.savefig(
                    file, metadata={"Date": None}, bbox_inches="tight", facecolor="white"
                )
                files.append(file)
    return files


def _figure(width: float, height: float) -> Figure:
    """An empty one, in inches; without pyplot, which would keep it and look for a screen."""
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure


def _colour(row: Row) -> str:
    if row.name == "alone":
        return FLOOR
    return PROCESS if row.runs_cli else CALL


def _designs(comparison: Comparison) -> Figure | None:
    """Overhead, CPU and memory of each design, at the load that all of them have."""
    width = comparison.common_width
    rows = [
        (row, measured)
        for row in comparison.rows
        if (measured := comparison.measured(row.name, width)) is not None
    ]
    if not rows:
        return None
    rows.reverse()  # the first one on top
    panels: Sequence[tuple[str, Callable[[Measured], float], Callable[[float], str]]] = (
        ("overhead per task, p50 (and p99)", lambda measured: measured.overhead.p50_ms, words.ms),
        ("CPU per task", lambda measured: measured.cpu_ms, words.ms),
        ("memory per task in flight", lambda measured: measured.slot_mb or 0.0, _megabytes),
    )
    figure = _figure(12.5, 0.4 * len(rows) + 1.5)
    axes = figure.subplots(1, len(panels), sharey=True)
    for axis, (title, value, text) in zip(axes, panels, strict=True):
        # Dots, not bars: on a logarithmic axis a bar's length means nothing.
        values = [max(value(measured), 0.1) for _, measured in rows]
        spread = "p99" in title
        ends = [
            max(measured.overhead.p99_ms, here) if spread else here
            for (_, measured), here in zip(rows, values, strict=True)
        ]
        axis.set_xscale("log")
        axis.set_xlim(min(values) / 1.8, max(ends) * (30 if spread else 8))  # room for the text
        axis.set_ylim(-0.6, len(rows) - 0.4)
        axis.set_title(title, loc="left", fontsize=10.5, fontweight="bold", pad=8)
        axis.xaxis.set_major_formatter(lambda number, _, text=text: _tick(number, text))
        axis.grid(color=FAINT, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(axis="both", length=0)
        axis.minorticks_off()
        for place, (row, measured) in enumerate(rows):
            here, end, shown = values[place], ends[place], text(value(measured))
            if spread:
                axis.plot([here, end], [place, place], color=_colour(row), linewidth=2, alpha=0.45)
                axis.plot([end], [place], "|", color=_colour(row), markersize=8)
                shown = f"{shown}  ({text(measured.overhead.p99_ms)})"
            axis.plot([here], [place], "o", color=_colour(row), markersize=8)
            axis.annotate(
                shown, (end, place), (9, 0), textcoords="offset points", va="center", fontsize=8.5
            )
    axes[0].set_yticks(range(len(rows)), [row.title for row, _ in rows])
    figure.suptitle(
        f"{_load(comparison, width)}: the same tasks through the same queue",
        x=0.005,
        ha="left",
        fontsize=12.5,
        fontweight="bold",
    )
    figure.legend(
        handles=[
            Patch(color=colour, label=label)
            for colour, label in (
                (FLOOR, "no queue: the floor"),
                (CALL, "a task is a call"),
                (PROCESS, "a task is a CLI's run or turn"),
            )
        ],
        loc="lower left",
        bbox_to_anchor=(0.0, -0.06),
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    figure.text(0.995, -0.035, _signed(comparison), ha="right", fontsize=8, color=FLOOR)
    figure.tight_layout()
    return figure


def _tick(number: float, text: Callable[[float], str]) -> str:
    """The figure of a tick in the words of its panel, without the digits behind the point."""
    return text(number).replace(".00", "").replace(".0", "")


def _megabytes(value: float) -> str:
    return f"{value:,.0f} MB" if value >= 10 else f"{value:.1f} MB"


def _load(comparison: Comparison, width: int) -> str:
    measured = comparison.measured(claims.SDK, width) or next(
        measured for measured in comparison.trials if measured.trial.load.in_flight == width
    )
    return f"Answers of {measured.trial.load.latency}, {width} tasks in flight"


def _signed(comparison: Comparison) -> str:
    facts = comparison.machine
    busy = f" · BUSY MACHINE (load {facts['load_before'][0]})" if comparison.busy else ""
    return f"SIMULATED API · {facts['cpu']}, {facts['cores']} cores · {facts['commit']}{busy}"


def _over_floor(comparison: Comparison) -> Figure | None:
    """How each design keeps to the floor as more is in flight."""
    constant = comparison.constant
    widths = sorted({measured.trial.load.in_flight for measured in constant})
    if not widths:
        return None
    figure = _figure(9.0, 4.4)
    axis = figure.subplots()
    labels: list[tuple[float, float, str, str]] = []
    for row in comparison.rows:
        for processes in sorted({measured.trial.processes for measured in constant}):
            line = sorted(
                (
                    measured
                    for measured in constant
                    if (measured.trial.design, measured.trial.processes) == (row.name, processes)
                ),
                key=lambda measured: measured.trial.load.in_flight,
            )
            if not line or row.name.endswith("-lean"):
                continue
            xs = [widths.index(measured.trial.load.in_flight) for measured in line]
            ys = [measured.over_floor for measured in line]
            style = "-" if processes == 1 else ":"
            axis.plot(xs, ys, style, marker="o", markersize=4.5, linewidth=1.7, color=_colour(row))
            several = f", {processes} processes" if processes > 1 else ""
            labels.append((xs[-1], ys[-1], row.title + several, _colour(row)))
    axis.axhline(1.0, color=INK, linewidth=0.9)
    axis.set_yscale("log")
    highest = max(measured.over_floor for measured in constant)
    steps = [step for step in (1, 1.5, 2, 3, 5, 10, 20, 50, 100) if step <= highest * 1.5]
    axis.set_yticks(steps, [f"{step:g} x" for step in steps])
    axis.minorticks_off()
    axis.set_ylim(0.93, highest * 1.3)
    axis.set_xticks(range(len(widths)), [f"{width:,} in flight" for width in widths])
    axis.set_xlim(-0.15, len(widths) - 1 + 1.15)
    axis.grid(axis="y", color=FAINT, linewidth=0.6)
    axis.tick_params(axis="both", length=0, which="both")
    axis.set_title(
        "Total time against the floor (1 = the answers alone)",
        loc="left",
        fontsize=12.5,
        fontweight="bold",
        pad=12,
    )
    for x, y, text, colour in _apart(labels, axis.get_ylim()):
        axis.text(x + 0.06, y, text, color=colour, fontsize=8.5, va="center")
    figure.text(0.995, -0.02, _signed(comparison), ha="right", fontsize=8, color=FLOOR)
    figure.tight_layout()
    return figure


def _apart(
    labels: Sequence[tuple[float, float, str, str]], limits: tuple[float, float]
) -> list[tuple[float, float, str, str]]:
    """Labels of one column moved upwards until none lies on another; heights are logarithmic."""
    step = (limits[1] / limits[0]) ** 0.052
    placed: list[tuple[float, float, str, str]] = []
    for x in sorted({label[0] for label in labels}):
        height = 0.0
        for _, y, text, colour in sorted(label for label in labels if label[0] == x):
            height = max(y, height * step)
            placed.append((x, height, text, colour))
    return placed
