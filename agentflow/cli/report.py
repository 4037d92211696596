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
from agentflow.rules.answers import TITLES
from agentflow.rules.records import micro
from agentflow.views.display import one_line

if TYPE_CHECKING:
    from agentflow.cli.bar import Bar
    from agentflow.job.spec import Held
    from agentflow.rules.routes.budgets import Budget

PLAIN_EVERY: Final = 5.0
WAITS_EVERY: Final = 60.0
"""Seconds between two lines that say what is waited for, where there is no terminal."""
GROUPS_SHOWN: Final = 5
MESSAGE_SHOWN: Final = 200


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
    entries.append(("answers that are none", f"{tally.flaws.total():,}"))
    entries += [
        (f"  {title}", f"{tally.flaws[name]:,}")
        for name, title in TITLES.items()
        if tally.flaws[name]
    ]
    entries.append(("retried", f"{tally.retried:,}"))
    if tally.repaired:
        turns, cost = tally.repair.turns, tally.repair.cost_usd
        entries += [
            ("asked again for the schema", f"{tally.repaired:,} in {turns:,} turns"),
            ("  of the tokens", f"{tally.repair.usage.total:,}"),
            ("  of the cost", "unknown" if cost is None else dollars(micro(cost))),
        ]
    cached = usage.cached
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
    if usage.cache_read_input_tokens:
        saved = dollars(tally.read_micro) + (" (SIMULATED)" if tally.simulated else "")
        read = f"{usage.cache_read_input_tokens:,} tokens read"
        entries.append((f"  saved by the prompt cache ({read})", saved))
    if tally.unpriced:
        entries.append(("  not known", "; ".join(sorted(tally.why_unpriced))))
    if tally.unknown_micro:
        most = dollars(tally.unknown_micro)
        entries.append(("  not known, and counted at its most", most))
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

    console = Console(highlight=False, stderr=to_stderr)
    if tally.simulated:
        console.print("SIMULATED run: no answer is real, nothing was paid", style="italic")
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right", overflow="fold")
    for what, figure in rows(tally, results):
        table.add_row(what, figure)
    console.print(table)


def next_steps(tally: Tally, command: str, results: str) -> list[str]:
    """What failed and why, and the commands that go on from here; none where nothing did."""
    sentences = []
    for group in tally.failures[:GROUPS_SHOWN]:
        lines = ", ".join(f"{line:,}" for line in group.lines)
        more = ", ..." if group.count > len(group.lines) else ""
        said = one_line(group.message)[:MESSAGE_SHOWN]
        where = f"line {lines}" if group.count == 1 else f"lines {lines}{more}"
        sentences.append(f"{group.count:,} x {group.reason}: {said or 'no message'} ({where})")
    if len(tally.failures) > GROUPS_SHOWN:
        sentences.append(f"... and {len(tally.failures) - GROUPS_SHOWN} other kinds of failures")
    if tally.failed:
        sentences.append(f"To run what failed again: {command} --retry-failed")
        sentences.append(f"The whole error of each stands in {results}")
    if tally.flaws:
        kinds = ",".join(name for name in TITLES if tally.flaws[name])
        sentences.append(f"To ask again where the answer is none: {command} --again {kinds}")
    return sentences


def limit_reached(tally: Tally, budget: Budget | None, limit: float) -> str:
    """What a job has cost that its limit has ended, and how it goes on."""
    left = tally.total - tally.done
    text = f"Stopped by --max-cost {limit:g} with {left} tasks not asked"
    text += f": the job has cost {tally.cost_text}"
    if budget is not None and (rest := budget.spent - budget.unknown - tally.cost_micro) > 0:
        text += f"; {dollars(rest)} more by tasks that have no result yet"
    if tally.unknown_micro:
        text += f"; {dollars(tally.unknown_micro)} count for requests whose cost is not known"
    if budget is not None and budget.short:
        text += f", and the next request may cost {dollars(budget.short)}"
        if budget.short > budget.limit - budget.spent and not tally.cost_micro:
            text += " (with --max-tokens it may cost less)"
    return f"{text}. Run the same command with a higher --max-cost to go on."


class Display:
    """The progress of a job on standard error: its front end."""

    def __init__(self, tally: Tally, *, quiet: bool) -> None:
        self._tally = tally
        self._quiet = quiet
        self._bar: Bar | None = None
        self._next_line = 0.0
        self._next_waits = 0.0
        self._waits = ""

    def begin(self) -> None:
        """Show the bar, where there is a terminal."""
        if self._quiet or not sys.stderr.isatty():
            return
        from agentflow.cli.bar import Bar

        mark = "[yellow]SIMULATED[/] " if self._tally.simulated else ""
        self._bar = Bar(self._tally.total, mark, self._fields())
        self._bar.line = self._waits
        self._bar.start()

    def end(self) -> None:
        """Leave the bar as it is last."""
        if self._bar is not None:
            self.update()
            self._bar.stop()

    def update(self) -> None:
        """Show the tally as it is now."""
        if self._bar is not None:
            self._bar.show(self._tally.done, self._fields())
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
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            sys.stderr.write(text + "\n")

    def waits(self, held: Held | None) -> None:
        """What the tasks wait for: under the bar, or as a line a minute."""
        self._waits = "" if held is None else one_line(held.text)
        if self._bar is not None:
            self._bar.line = self._waits
        elif held is not None and not self._quiet and time.monotonic() >= self._next_waits:
            self._next_waits = time.monotonic() + WAITS_EVERY
            sys.stderr.write(self._waits + "\n")

    def stopping(self, grace: float | None) -> None:
        """What becomes of the tasks that run when the job is interrupted."""
        if grace is None:
            self.say(
                "stopping; what waits is withdrawn, and what runs goes on where it runs "
                "(its results are waited for; Ctrl-C again to hurry)"
            )
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
