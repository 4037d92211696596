"""What a person sees of a job: a progress bar while it runs, a summary when it ends.

`Tally` is pure; drawing is rich's. Where standard error is no terminal, a line now and then takes
the bar's place, so that a log file of a night's run can be read.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agentflow.protocol.record import State, Usage
from agentflow.rules.records import micro
from agentflow.views.ledger import Line

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_EVERY: Final = 5.0
CUT: Final = frozenset({"max_tokens", "model_context_window_exceeded"})


class Tally:
    """The figures of a job."""

    def __init__(self, total: int, *, simulated: bool) -> None:
        self.total = total
        self.simulated = simulated
        self.before = 0
        """Tasks that had a result before this run."""
        self.submitted = 0
        self.running: set[str] = set()
        self.states: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.usage = Usage()
        self.cost_micro = 0
        self.unpriced: set[str] = set()
        """Models whose price is unknown."""
        self.retried = 0
        self.cut = 0
        self.refused = 0
        self.latencies: list[float] = []
        self.began = time.monotonic()
        self.seconds = 0.0

    @property
    def done(self) -> int:
        """Tasks with a result of any kind, earlier runs included."""
        return sum(self.states.values())

    @property
    def failed(self) -> int:
        """Tasks that ended without success."""
        return self.states[State.FAILED] + self.states[State.CANCELLED]

    def add(self, line: Line, *, before: bool = False) -> None:
        """Count a result; `before` for one of an earlier run."""
        self.states[line.state] += 1
        self.running.discard(line.id)
        if line.state != State.SUCCEEDED:
            self.reasons[line.reason or line.state] += 1
        self.cut += line.stop_reason in CUT
        self.refused += line.stop_reason == "refusal"
        self.usage += line.usage
        if line.cost_usd is None:
            self.unpriced.add(line.model or "unknown")
        else:
            self.cost_micro += micro(line.cost_usd)
        if before:
            self.before += 1
            return
        self.retried += line.attempts > 1
        submitted, ended = line.timings.submitted, line.timings.ended
        if submitted is not None and ended is not None:
            self.latencies.append(max(0.0, (ended - submitted).total_seconds()))

    def finish(self) -> None:
        """Stop the clock."""
        self.seconds = time.monotonic() - self.began

    @property
    def cost_text(self) -> str:
        """Dollars as a person reads them; marked where a price is unknown."""
        text = dollars(self.cost_micro)
        return f"{text} + unknown" if self.unpriced else text

    def percentile(self, share: float) -> float | None:
        """The latency below which this share of the run's tasks stayed, in seconds."""
        if not self.latencies:
            return None
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def as_json(self) -> dict[str, Any]:
        """The summary for programs."""
        return {
            "tasks": self.total,
            "succeeded": self.states[State.SUCCEEDED],
            "failed": self.states[State.FAILED],
            "cancelled": self.states[State.CANCELLED],
            "not_run": self.total - self.done,
            "had_results_before": self.before,
            "reasons": dict(self.reasons),
            "cut_by_max_tokens": self.cut,
            "refused": self.refused,
            "retried": self.retried,
            "usage": msgspec.to_builtins(self.usage),
            "cost_usd": None if self.unpriced else self.cost_micro / 1_000_000,
            "unpriced_models": sorted(self.unpriced),
            "seconds": round(self.seconds, 3),
            "latency_p50_s": self.percentile(0.50),
            "latency_p99_s": self.percentile(0.99),
            "simulated": self.simulated,
        }


def dollars(micro_usd: int) -> str:
    """Micro-USD as dollars, with more places the smaller the sum."""
    value = micro_usd / 1_000_000
    return f"${value:,.2f}" if value >= 100 else f"${value:,.4f}"


def rows(tally: Tally, out: str) -> list[tuple[str, str]]:
    """The summary as (what, how much)."""
    usage = tally.usage
    entries = [("tasks", f"{tally.total:,}"), ("succeeded", f"{tally.states[State.SUCCEEDED]:,}")]
    if tally.before:
        entries.append(("  (had a result before this run)", f"{tally.before:,}"))
    entries.append(("failed", f"{tally.states[State.FAILED]:,}"))
    if tally.states[State.CANCELLED]:
        entries.append(("cancelled", f"{tally.states[State.CANCELLED]:,}"))
    entries += [(f"  {reason}", f"{count:,}") for reason, count in tally.reasons.most_common(8)]
    if tally.total > tally.done:
        entries.append(("not run", f"{tally.total - tally.done:,}"))
    entries.append(("answers cut by max_tokens", f"{tally.cut:,}"))
    if tally.refused:
        entries.append(("refused by the model", f"{tally.refused:,}"))
    entries.append(("retried", f"{tally.retried:,}"))
    cached = usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    entries += [
        ("tokens in", f"{usage.input_tokens:,}" + (f" + {cached:,} cached" if cached else "")),
        ("tokens out", f"{usage.output_tokens:,}"),
        ("cost", tally.cost_text + (" (SIMULATED)" if tally.simulated else "")),
    ]
    if tally.unpriced:
        entries.append(("  no price for", ", ".join(sorted(tally.unpriced))))
    entries.append(("time", f"{tally.seconds:.1f} s"))
    p50, p99 = tally.percentile(0.5), tally.percentile(0.99)
    if p50 is not None and p99 is not None:
        entries.append(("latency p50 / p99", f"{p50:.2f} s / {p99:.2f} s"))
    entries.append(("results", out))
    return entries


def print_summary(tally: Tally, out: str) -> None:
    """The summary as a table on standard output."""
    from rich.console import Console
    from rich.table import Table

    title = "SIMULATED run: no answer is real, nothing was paid" if tally.simulated else None
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right", overflow="fold")
    for what, figure in rows(tally, out):
        table.add_row(what, figure)
    Console(highlight=False).print(table)


class Display:
    """The progress of a job on standard error."""

    def __init__(self, tally: Tally, *, quiet: bool) -> None:
        self._tally = tally
        self._quiet = quiet
        self._progress: Progress | None = None
        self._bar: Any = None
        self._next_line = 0.0

    def __enter__(self) -> Display:
        if self._quiet or not sys.stderr.isatty():
            return self
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        prefix = "[yellow]SIMULATED[/] " if self._tally.simulated else ""
        self._progress = Progress(
            TextColumn(prefix + "{task.completed:>,}/{task.total:,}"),
            BarColumn(bar_width=None),
            TextColumn(
                "[green]{task.fields[succeeded]} ok[/] [red]{task.fields[failed]} failed[/]"
            ),
            TextColumn("{task.fields[running]} running"),
            TextColumn("{task.fields[tokens]} tok {task.fields[cost]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            expand=True,
            refresh_per_second=8,
        )
        self._bar = self._progress.add_task("", total=self._tally.total, **self._fields())
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self.update()
            self._progress.stop()

    def update(self) -> None:
        """Show the tally as it is now."""
        if self._progress is not None:
            self._progress.update(self._bar, completed=self._tally.done, **self._fields())
        elif not self._quiet and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + PLAIN_EVERY
            fields = self._fields()
            mark = "SIMULATED " if self._tally.simulated else ""
            sys.stderr.write(
                f"{mark}{self._tally.done}/{self._tally.total} done, {fields['failed']} failed, "
                f"{fields['running']} running, {fields['tokens']} tokens, {fields['cost']}\n"
            )

    def say(self, text: str) -> None:
        """A sentence above the bar."""
        if not self._quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """A sentence that has to be read, also by whoever wanted none."""
        if self._progress is not None:
            self._progress.console.print(text, highlight=False, markup=False)
        else:
            sys.stderr.write(text + "\n")

    def _fields(self) -> dict[str, Any]:
        tally = self._tally
        return {
            "succeeded": f"{tally.states[State.SUCCEEDED]:,}",
            "failed": f"{tally.failed:,}",
            "running": f"{len(tally.running):,}",
            "tokens": f"{tally.usage.total:,}",
            "cost": tally.cost_text,
        }
