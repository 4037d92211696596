"""`agentflow verify`: proof that no task was lost, from the streams themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import IO, TYPE_CHECKING

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option
from agentflow.errors import UsageError

if TYPE_CHECKING:
    from agentflow.audit.evidence import Calls, Submission
    from agentflow.audit.judgement import Figures, Report
    from agentflow.audit.trail import Finding

LISTEN = 5.0
"""Seconds in which each living worker sends a heartbeat, whatever happened to one of them."""
SHOWN = 50
LOOKS = 4
"""How often what the dashboard counts otherwise is compared again."""
NEWEST = 5_000_000
"""Messages of a stream: all of them."""


@click.command("verify")
@click.option(
    "--ledger",
    type=click.File("r", encoding="utf-8"),
    metavar="FILE",
    help="What was submitted: ids, or JSON lines with id (and sequence, state). - is stdin.",
)
@click.option("--complete", is_flag=True, help="The ledger has every task: others are findings.")
@click.option("--simulator", metavar="URL", help="Compare with what this simulator was asked.")
@click.option(
    "--requests", metavar="FILE", help="The same from a file: what GET /_fake/stats answered."
)
@click.option(
    "--log",
    "logs",
    type=click.File("r", encoding="utf-8", errors="replace"),
    multiple=True,
    metavar="FILE",
    help="A worker's log: it names the second submissions that were dropped. Repeatable.",
)
@click.option("--rest", is_flag=True, help="All has ended, so nothing may be left behind.")
@click.option(
    "--faults",
    type=click.IntRange(0),
    metavar="N",
    help="How often a task may have been started for nothing, at most; 0: no worker was lost.",
)
@click.option("--dashboard", is_flag=True, help="Compare with what the dashboard would count.")
@json_option
@connection_options
def command(
    ledger: IO[str] | None,
    complete: bool,
    simulator: str | None,
    requests: str | None,
    logs: tuple[IO[str], ...],
    rest: bool,
    faults: int | None,
    dashboard: bool,
    as_json: bool,
    **connection: str | None,
) -> int:
    """Prove that no task was lost or ended twice.

    Reads every stream and changes nothing; needs no master. Tasks may be running, unless --rest
    says that all have ended. Exits 1 and names the tasks when something is wrong, or cannot be
    proved: a second submission of an id leaves no trace that tells it from a loss, unless a ledger
    has its sequence or a worker's log names it.
    """
    from agentflow.audit import sources

    if simulator and requests:
        raise UsageError("--simulator and --requests are two sources of the same; give one")
    if complete and ledger is None:
        raise UsageError("--complete says something of the ledger; give it with --ledger FILE")
    known = sources.read_ledger(ledger, ledger.name) if ledger is not None else None
    calls = None
    if simulator:
        calls = sources.ask_simulator(simulator)
    elif requests:
        calls = sources.requests_file(requests)
    dropped = {key: task_id for log in logs for key, task_id in sources.read_drops(log).items()}

    async def judged() -> Report:
        return await _verify(connection, known, complete, calls, dropped, rest, faults)

    report = options.run_async(judged())
    if dashboard:
        report.findings += options.run_async(_dashboard(connection, report.figures, judged))
    _show(report, as_json)
    return 0 if report.kept else 1


async def _verify(
    connection: dict[str, str | None],
    ledger: list[Submission] | None,
    complete: bool,
    calls: Calls | None,
    dropped: dict[str, str],
    rest: bool,
    faults: int | None,
) -> Report:
    from agentflow.audit import verify
    from agentflow.bus.streams.jetstream import JetStream
    from agentflow.bus.wire.connection import Connection

    async with await Connection.open(options.resolve(connection), "agentflow verify") as opened:
        return await verify(
            JetStream(opened),
            ledger=ledger,
            complete=complete,
            calls=calls,
            dropped=dropped,
            at_rest=rest,
            faults=faults,
            listen=LISTEN if rest else 0.0,
        )


async def _dashboard(
    connection: dict[str, str | None], figures: Figures, again: Callable[[], Awaitable[Report]]
) -> list[Finding]:
    """What the dashboard counts differently; on a busy stack, what it does so each time anew.

    Between two readings tasks go on: what is only late differs in something else each time.
    """
    findings = await _compared(connection, figures)
    for _ in range(LOOKS):
        if not findings:
            break
        states = {finding.text.partition(", there")[0].split()[-1] for finding in findings}
        later = await _compared(connection, (await again()).figures)
        findings = [
            finding
            for finding in later
            if finding.text.partition(", there")[0].split()[-1] in states
        ]
    return findings


async def _compared(connection: dict[str, str | None], figures: Figures) -> list[Finding]:
    """What the dashboard's own fold of its own feed counts differently."""
    from agentflow.audit.judgement import differing
    from agentflow.dashboard.store.store import Store

    store = Store(limit=figures.tasks + 1)
    async with options.client(connection) as client:
        for item in await client.snapshot(newest=NEWEST):
            store.apply(item)
    told: Counter[str] = Counter()
    for counts in store.totals.states.values():
        told.update(counts)
    return differing(figures.states, told, "the dashboard")


def _show(report: Report, as_json: bool) -> None:
    from agentflow.cli import output

    if as_json:
        output.show_json({"kept": report.kept, "ids": report.ids, **_plain(report)})
        return
    output.fields(_lines(report.figures))
    output.show()
    if report.kept:
        output.show("Nothing is lost, nothing ended twice.")
        return
    for finding in report.findings[:SHOWN]:
        output.show(f"{finding.kind}: {finding.id + ': ' if finding.id else ''}{finding.text}")
    if len(report.findings) > SHOWN:
        output.show(f"and {len(report.findings) - SHOWN:,} more; --json has all")


def _plain(report: Report) -> dict[str, object]:
    import msgspec

    plain: dict[str, object] = msgspec.to_builtins(report)
    return plain


def _letters(figures: Figures) -> str | None:
    count = figures.letters_dropped
    return f"{count:,} failed tasks whose dead letters somebody dropped" if count else None


def _lines(figures: Figures) -> list[tuple[str, str | None]]:
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(figures.states.items()))
    told = f", {figures.named_by_the_ledger:,} in the ledger" if figures.named_by_the_ledger else ""
    drops = f", {figures.dropped:,} dropped as told" if figures.dropped else ""
    drops += f", {figures.withdrawn:,} withdrawn by jobs" if figures.withdrawn else ""
    old = f", {figures.forgotten:,} older than their records" if figures.forgotten else ""
    calls = None
    if figures.paid_calls is not None:
        calls = (
            f"{figures.paid_calls:,} paid, {figures.needed_calls:,} needed, "
            f"{figures.unrecorded_calls:,} that no record has"
        )
    return [
        ("submitted", None if figures.submitted is None else f"{figures.submitted:,}"),
        ("tasks", f"{figures.tasks:,}" + (f" ({states})" if states else "")),
        (
            "executions",
            f"{figures.executions:,}: {figures.taken_over:,} taken over, "
            f"{figures.handed_back:,} handed back, {figures.resumed:,} after a wait, "
            f"{figures.retried_by_hand:,} retried by hand",
        ),
        (
            "messages",
            f"{figures.sequences:,} were stored: {figures.named_by_a_record:,} in a log, "
            f"{figures.in_queue:,} in the queue{told}{drops}{old}, {figures.unproved:,} unproved",
        ),
        ("dropped", _letters(figures)),
        ("calls", calls),
    ]
