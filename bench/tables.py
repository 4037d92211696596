"""The figures as a person reads them in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from bench import words
from bench.comparison import Comparison, Measured


def line(each: Measured) -> str:
    """One measurement, as it is done."""
    over = each.overhead
    found = (
        f"{each.trial}: {each.makespan_s:.2f} s ({each.over_floor:.2f} x floor), overhead "
        f"{words.ms(over.p50_ms)} / {words.ms(over.p99_ms)}, CPU {words.ms(each.cpu_ms)} a task, "
        f"peak {words.mb(each.memory.peak_mb)}, started in {each.started_s:.1f} s"
    )
    return found + (f", {each.errors} FAILED: {each.problem}" if each.errors else "")


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
    for each in comparison.trials:
        name = each.trial.design
        row = comparison.row(name)
        if name != before and before:
            table.add_section()
        table.add_row(row.title if row and name != before else "", *_cells(each))
        before = name
    for missing in (row for row in comparison.rows if row.missing):
        table.add_section()
        table.add_row(missing.title, f"not measured: {missing.missing}", *[""] * 9)
    for failed in comparison.failed:
        table.add_section()
        table.add_row(failed.trial.design, f"FAILED: {failed.reason}", *[""] * 9)
    console.print(table)


def _cells(each: Measured) -> list[str]:
    over = each.overhead
    return [
        words.load(each.trial),
        f"{each.makespan_s:.2f} s",
        f"{each.over_floor:.2f}",
        words.ms(over.p50_ms),
        words.ms(over.p90_ms),
        words.ms(over.p99_ms),
        words.ms(each.cpu_ms),
        words.mb(each.memory.mean_mb),
        words.mb(each.memory.peak_mb),
        str(each.errors),
    ]
