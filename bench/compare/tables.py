"""The figures as a person reads them in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from bench.compare import words
from bench.compare.comparison import Comparison, Measured


def line(measured: Measured) -> str:
    """One measurement, as it is done."""
    over = measured.overhead
    text = (
        f"{measured.trial}: {measured.makespan_s:.2f} s ({measured.over_floor:.2f} x floor), "
        f"overhead {words.ms(over.p50_ms)} / {words.ms(over.p99_ms)}, "
        f"CPU {words.ms(measured.cpu_ms)} a task, "
        f"peak {words.mb(measured.memory.peak_mb)}, started in {measured.started_s:.1f} s"
    )
    return text + (f", {measured.errors} FAILED: {measured.problem}" if measured.errors else "")


HEADINGS = ("design", "load", "time", "/ floor", "p50", "p90", "p99", "CPU", "mean", "peak", "err")


def show(comparison: Comparison, console: Console) -> None:
    """All of them."""
    facts = comparison.machine
    title = f"SIMULATED · {facts['cpu']}, {facts['cores']} cores, commit {facts['commit']}"
    if comparison.busy:
        title += f" · BUSY MACHINE, load {facts['load_before'][0]}"
    table = Table(
        title=title,
        caption="overhead: from submit to result, less the answer's latency; CPU a task; PSS of "
        "the worker with all its processes",
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in HEADINGS[:2] else "right")
    before = ""
    for measured in comparison.trials:
        name = measured.trial.design
        row = comparison.row(name)
        if name != before and before:
            table.add_section()
        table.add_row(row.title if row and name != before else "", *_cells(measured))
        before = name
    for missing in (row for row in comparison.rows if row.missing):
        table.add_section()
        table.add_row(missing.title, f"not measured: {missing.missing}", *[""] * 9)
    for failed in comparison.failed:
        table.add_section()
        table.add_row(failed.trial.design, f"FAILED: {failed.reason}", *[""] * 9)
    console.print(table)


def _cells(measured: Measured) -> list[str]:
    over = measured.overhead
    return [
        words.load(measured.trial),
        f"{measured.makespan_s:.2f} s",
        f"{measured.over_floor:.2f}",
        words.ms(over.p50_ms),
        words.ms(over.p90_ms),
        words.ms(over.p99_ms),
        words.ms(measured.cpu_ms),
        words.mb(measured.memory.mean_mb),
        words.mb(measured.memory.peak_mb),
        str(measured.errors),
    ]
