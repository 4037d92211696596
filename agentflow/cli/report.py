"""What a person sees of a job: a progress bar while it runs, a summary when it ends.

Drawing is rich's. Where standard error is no terminal, a line now and then takes the bar's place,
so that a log file of a night's run can be read.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

from agentflow.job.tally import Tally, dollars
from agentflow.protocol.record import State
from agentflow.rules.records import micro

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_EVERY: Final = 5.0


def rows(tally: Tally, results: str) -> list[tuple[str, str]]:
    """The summary as (what, how much)."""
    usage = tally.usage
    entries = [("tasks", f"{tally.total:,}"), ("succeeded", f"{tally.states[State.SUCCEEDED]:,}")]
    if tally.before:
        entries.append(("  (had a result before this run)", f"{tally.before:,}"))
    if tally.cached:
        saved = dollars(tally.cached_micro)
        entries.append(("  (answered from the cache)", f"{tally.cached:,}, {saved} not paid"))
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
    if tally.repaired:
        turns, cost = tally.repair.turns, tally.repair.cost_usd
        entries += [
            ("asked again for the schema", f"{tally.repaired:,} in {turns:,} turns"),
            ("  of the tokens", f"{tally.repair.usage.total:,}"),
            ("  of the cost", "unknown" if cost is None else dollars(micro(cost))),
        ]
    cached = usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    entries += [
        ("tokens in", f"{usage.input_tokens:,}" + (f" + {cached:,} cached" if cached else "")),
        ("tokens out", f"{usage.output_tokens:,}"),
        ("cost", tally.cost_text + (" (SIMULATED)" if tally.simulated else "")),
    ]
    if tally.answered:
        text = f"{tally.answered:,} answered from before, {tally.spared_text} not paid"
        entries.append(("  of it", text))
    if tally.batched:
        saved = dollars(tally.saved_micro) + (" (SIMULATED)" if tally.simulated else "")
        entries.append((f"  saved by batches ({tally.batched:,} tasks)", saved))
    if tally.unpriced:
        entries.append(("  not known", "; ".join(sorted(tally.why_unpriced))))
    entries.append(("time", f"{tally.seconds:.1f} s"))
    p50, p99 = tally.percentile(0.5), tally.percentile(0.99)
    if p50 is not None and p99 is not None:
        entries.append(("latency p50 / p99", f"{p50:.2f} s / {p99:.2f} s"))
    entries.append(("results", results))
    return entries


def print_summary(tally: Tally, results: str, *, to_stderr: bool = False) -> None:
    """The summary as a table on standard output, or on standard error."""
    from rich.console import Console
    from rich.table import Table

    title = "SIMULATED run: no answer is real, nothing was paid" if tally.simulated else None
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right", overflow="fold")
    for what, figure in rows(tally, results):
        table.add_row(what, figure)
    Console(highlight=False, stderr=to_stderr).print(table)


class Display:
    """The progress of a job on standard error: its front end."""

    def __init__(self, tally: Tally, *, quiet: bool) -> None:
        self._tally = tally
        self._quiet = quiet
        self._progress: Progress | None = None
        self._bar: Any = None
        self._next_line = 0.0

    def begin(self) -> None:
        """Show the bar, where there is a terminal."""
        if self._quiet or not sys.stderr.isatty():
            return
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

    def end(self) -> None:
        """Leave the bar as it is last."""
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

    def stopping(self, grace: float | None) -> None:
        """What becomes of the tasks that run when the job is interrupted."""
        if grace is None:
            self.say("stopping; what was submitted goes on in the stack it runs on")
        else:
            self.say(f"stopping; running tasks have {grace:g} s (Ctrl-C again to hurry)")

    def _fields(self) -> dict[str, Any]:
        tally = self._tally
        return {
            "succeeded": f"{tally.states[State.SUCCEEDED]:,}",
            "failed": f"{tally.failed:,}",
            "running": f"{len(tally.running):,}",
            "tokens": f"{tally.usage.total:,}",
            "cost": tally.cost_text,
        }
