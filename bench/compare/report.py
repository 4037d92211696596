"""The report of a comparison, as Markdown, made from its JSON and nothing else.

`markdown` and `section` are pure; `main` reads, draws and writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from bench.compare import claims, money, words
from bench.compare.comparison import Comparison, Measured, read
from bench.compare.money import Instance

REPORT: Final = Path(__file__).parents[1] / "report.md"
CHARTS: Final = Path(__file__).parents[1] / "charts"
README: Final = Path(__file__).parents[2] / "README.md"
BEGIN: Final = "<!-- bench report: begin -->\n"
END: Final = "<!-- bench report: end -->\n"

_RIGHT: Final = "-:"
_LEFT: Final = "-"


def main(file: Path, *, own: Instance | None, out: Path | None) -> int:
    """Write the report and its charts; those of a full run into the README too. Returns the exit
    code."""
    console = Console()
    try:
        comparison = read(file)
    except FileNotFoundError:
        console.print(f"There is no {file}: `python -m bench compare` makes it.")
        return 2
    except msgspec.ValidationError as error:
        console.print(f"{file} is of another version of this program ({error}): compare again.")
        return 2
    full = comparison.ladder == "full"
    to = out or (REPORT if full else file.with_suffix(".md"))
    charts = CHARTS if full and out is None else to.parent / f"{to.stem}-charts"
    try:
        from bench.compare import charts as drawing
    except ImportError:
        drawn: Sequence[Path] = ()
        console.print(
            "No charts: matplotlib is not installed (pip install -r requirements-bench.txt)"
        )
    else:
        drawn = drawing.draw(comparison, charts)
    links = [chart.relative_to(to.parent).as_posix() for chart in drawn]
    to.write_text(markdown(comparison, own=own, charts=links), encoding="utf-8")
    console.print(f"Written: {to}, {len(drawn)} charts in {charts}")
    if full and out is None:
        shown = [chart.relative_to(README.parent).as_posix() for chart in drawn[:1]]
        text = README.read_text(encoding="utf-8")
        README.write_text(spliced(text, section(comparison, shown)), encoding="utf-8")
        console.print(f"Written into {README}: one table" + (" and a chart" if shown else ""))
    return 0


def markdown(
    comparison: Comparison, *, own: Instance | None = None, charts: Sequence[str] = ()
) -> str:
    """The whole report."""
    parts = [
        _head(comparison),
        _pictures(charts),
        _designs(comparison),
        _figures(comparison),
        _extrapolated(comparison),
        _document(comparison),
        _money(comparison, own),
        _method(comparison),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def spliced(text: str, part: str) -> str:
    """A text with another part between the marks; without marks, as it was."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{part}\n\n{end}{after}" if begin and end else text


def section(comparison: Comparison, charts: Sequence[str] = ()) -> str:
    """A table for the README, and below it charts."""
    headings = ("design", "overhead p50 / p99", "CPU a task", "memory a task", "start-up")
    rows, width = [], comparison.common_width
    for row in comparison.rows:
        measured = comparison.measured(row.name, width)
        if measured is not None:
            over = measured.overhead
            rows.append(
                [
                    row.title,
                    f"{words.ms(over.p50_ms)} / {words.ms(over.p99_ms)}",
                    words.ms(measured.cpu_ms),
                    words.mb(measured.slot_mb),
                    _start(comparison, row.name),
                ]
            )
    facts = comparison.machine
    first = next(
        (measured for measured in comparison.trials if measured.trial.load.in_flight == width), None
    )
    latency = f" of {first.trial.load.latency}" if first else ""
    said = (
        f"SIMULATED answers{latency}, {width} tasks in flight, {facts['cores']} cores "
        f"({facts['cpu']}), commit {facts['commit']}{_later(comparison)}:"
    )
    more = "All loads, the method, and the document's claims beside what was measured: "
    parts = [said, table(headings, rows), _pictures(charts), f"{more}[report](bench/report.md)."]
    return "\n\n".join(part for part in parts if part)


def _later(comparison: Comparison) -> str:
    """What was measured later than the rest."""
    return "".join(
        f"; {' and '.join(one.designs)} at {one.machine['commit']}" for one in comparison.renewals
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """In Markdown; the first `left` columns are text, the others figures."""
    lines = [list(headings), [_LEFT] * left + [_RIGHT] * (len(headings) - left)]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _head(comparison: Comparison) -> str:
    facts = comparison.machine
    lines = [
        "# A function call or a process a task: measured",
        "",
        f"SIMULATED: the API is AgentFlow's simulator. {facts['cpu']}, {facts['cores']} cores, "
        f"{facts['memory_gib']} GiB, {facts['system']}, Python {facts['python']}; commit "
        f"{facts['commit']}, {facts['time']}; load {facts['load_before'][0]} before and "
        f"{facts['load_after'][0]} after; {comparison.seconds / 60:.0f} minutes; seed "
        f"{comparison.seed}.",
    ]
    for renewal in comparison.renewals:
        titles = [row.title for row in comparison.rows if row.name in renewal.designs]
        later = renewal.machine
        lines += [
            "",
            f"Measured again in one run of their own at commit {later['commit']}, {later['time']}, "
            f"load {later['load_before'][0]} before: {'; '.join(titles)}.",
        ]
    if comparison.busy:
        lines += ["", "**The machine was busy: these figures are not to be compared.**"]
    if comparison.ladder != "full":
        lines += [
            "",
            f"**The `{comparison.ladder}` loads: to see that it works, not to judge by.**",
        ]
    lines += ["", "This file is made by `python -m bench report` from the results' JSON."]
    return "\n".join(lines)


def _pictures(charts: Sequence[str]) -> str:
    return "\n\n".join(f"![{Path(chart).stem}]({chart})" for chart in charts)


def _designs(comparison: Comparison) -> str:
    rows = []
    for row in comparison.rows:
        size = row.size
        rows.append(
            [
                f"**{row.title}**: {row.text}",
                ", ".join(f"{name} {version}" for name, version in row.versions.items()) or "–",
                _start(comparison, row.name) if not row.missing else f"not measured: {row.missing}",
                f"{size.own_mb:.0f} + {size.interpreter_mb:.0f}" if size else "–",
            ]
        )
    image, why = comparison.image
    said = f"{image:.0f} MB ({why})" if image else f"not measured: {why}"
    return "\n".join(
        [
            "## The designs",
            "",
            table(("design", "versions", "start-up", "MB on disk"), rows, left=2),
            "",
            "Start-up is from starting the worker to its first result, of an answer that takes no "
            "time; the median over its loads. On disk: what the design brings, and the interpreter "
            f"that it needs. AgentFlow's container image: {said}.",
        ]
    )


def _start(comparison: Comparison, design: str) -> str:
    seconds = claims.start(comparison, design)
    return "–" if seconds is None else f"{seconds:.2f} s"


def _figures(comparison: Comparison) -> str:
    headings = (
        *("design", "time", "/ floor", "overhead p50", "p90", "p99"),
        *("CPU a task", "PSS idle", "mean", "peak", "errors"),
    )
    parts = [
        "## Figures",
        "",
        "Time: the median round's. Overhead: from submit to result at the client, less the "
        "answer's latency. CPU and PSS: of the worker with all its processes, ended ones too; the "
        "client, the server, the master and the simulator share the machine and are not in it.",
    ]
    for label, group in _groups(comparison).items():
        rows = [_figures_row(comparison, measured) for measured in group]
        parts += ["", f"### {label}", "", table(headings, rows)]
    for failed in comparison.failed:
        parts += ["", f"Failed: {failed.trial}: {failed.reason}"]
    return "\n".join(parts)


def _groups(comparison: Comparison) -> dict[str, list[Measured]]:
    groups: dict[str, list[Measured]] = {}
    for measured in sorted(comparison.constant, key=lambda measured: measured.trial.load.in_flight):
        groups.setdefault(f"{measured.trial.load.in_flight} in flight", []).append(measured)
    for measured in comparison.trials:
        if measured.trial.load.latency.p99 is not None:
            load = measured.trial.load
            groups.setdefault(f"{load.in_flight} in flight, {load.latency}", []).append(measured)
    return groups


def _figures_row(comparison: Comparison, measured: Measured) -> list[str]:
    row = comparison.row(measured.trial.design)
    load, over = measured.trial.load, measured.overhead
    name = row.title if row else measured.trial.design
    several = f" in {measured.trial.processes} processes" if measured.trial.processes > 1 else ""
    rounds = f", {load.rounds} rounds" if load.rounds > 1 else ""
    fewer = f" of {measured.trial.whole}" if measured.trial.whole else ""
    failed = f"{measured.errors} of {measured.tasks}" if measured.errors else "0"
    return [
        f"{name}{several}, {load.tasks}{fewer} tasks{rounds}",
        f"{measured.makespan_s:.2f} s",
        f"{measured.over_floor:.2f}",
        words.ms(over.p50_ms),
        words.ms(over.p90_ms),
        words.ms(over.p99_ms),
        words.ms(measured.cpu_ms),
        words.mb(measured.memory.idle_mb),
        words.mb(measured.memory.mean_mb),
        words.mb(measured.memory.peak_mb),
        failed,
    ]


def _extrapolated(comparison: Comparison) -> str:
    rows = []
    for row in comparison.rows:
        measured = comparison.measured(row.name, comparison.common_width)
        if row.runs_cli and measured is not None:
            factor = 1000 / measured.trial.load.tasks
            rows.append(
                [
                    row.title,
                    words.load(measured.trial),
                    f"{measured.makespan_s * factor:,.0f} s",
                    f"{measured.cpu_s * factor:,.0f} s",
                    f"{measured.input_tokens / measured.tasks:,.0f}",
                ]
            )
    if not rows:
        return ""
    headings = ("design", "measured with", "1000 tasks", "their CPU", "input tokens a task")
    return "\n".join(
        [
            "## Extrapolated, not measured",
            "",
            f"Designs that run a CLI stay at {comparison.common_width} in flight. 1000 tasks at "
            "that width, by proportion; the tokens are measured, as the simulator counts them: a "
            "run of the CLI sends its system prompt and tools along, and a conversation that stays "
            "sends all that was said before.",
            "",
            table(headings, rows, left=2),
        ]
    )


def _document(comparison: Comparison) -> str:
    cli = comparison.row(claims.cli_design(comparison))
    rows = [
        [claim.what, claim.claimed, claim.measured, claim.verdict]
        for claim in claims.table(comparison)
    ]
    return "\n".join(
        [
            "## The document's table, again",
            "",
            'Its figures have no measurement behind them. "CLI" here is '
            f"{cli.title if cli else 'not measured'}, "
            '"SDK" AgentFlow\'s own worker, "Node SDK" the worker that it proposes.',
            "",
            table(("what", "claimed", "measured here", "verdict"), rows, left=4),
            "",
            "Where it contradicts itself:",
            "",
            *(f"- {text}" for text in claims.INCONSISTENT),
        ]
    )


def _money(comparison: Comparison, own: Instance | None) -> str:
    rows = []
    for row in comparison.rows:
        wanted = money.need(comparison, row.name)
        if wanted is None:
            continue
        instance = money.instance_of(row.name, runs_cli=row.runs_cli, own=own)
        bill = money.bill(wanted, instance)
        rows.append(
            [
                row.title,
                f"{wanted.places:,.0f}",
                words.gb(wanted.memory_gb * 1000),
                f"{wanted.cores:,.1f}",
                f"{bill.by_memory:,}",
                f"{bill.by_cpu:,}",
                words.dollars(bill.year_usd),
            ]
        )
    if not rows:
        return ""
    shown = [own] if own else money.DOCUMENT
    prices = "; ".join(
        f"{kind.name}: {kind.memory_gb:g} GB, {kind.cores} cores, {words.dollars(kind.month_usd)} "
        "a month"
        for kind in shown
    )
    headings = ("design", "places", "memory", "cores", "by memory", "by CPU", "a year")
    return "\n".join(
        [
            "## Money",
            "",
            f"Extrapolated: {money.TASKS_PER_S:.0f} tasks of {money.LATENCY_S:g} s a second, all "
            f"year, which is 1000 at once. Prices: {prices}. "
            + (
                ""
                if own
                else f"The document names no cores, so {money.CORES} are assumed; "
                "`python -m bench report --instance-memory 8 --instance-cores 4 "
                "--instance-price 60` takes yours. "
            )
            + "Instances are filled to the brim; server, master and tokens are left out.",
            "",
            table(headings, rows),
        ]
    )


def _method(comparison: Comparison) -> str:
    beside = [
        measured.beside_s for measured in comparison.trials if measured.trial.design == claims.SDK
    ]
    return "\n".join(
        [
            "## How it was measured",
            "",
            "- All designs but the floor take the same tasks from AgentFlow's queue, over NATS, "
            "and store the same claim and result for each. Node and Go do so by themselves, in a "
            "small program that has only the way of a task that goes well.",
            "- Every measurement is on a fresh server, master, simulator and worker. All slots are "
            "warm (connections open, staying CLIs started); a CLI that is started for each task is "
            "warmed by one run.",
            "- A fixed number is in flight: the next task is submitted when one is back. The floor "
            "is what the answers alone take with that many places.",
            "- The log-normal latencies are drawn from the prompt, so they are the same for all.",
            "- PSS is sampled from beside, at most a tenth of a core; CPU is read from the kernel, "
            "and has all processes that have ended.",
            "- The CLI runs in an empty folder and with its calls to other hosts switched off; it "
            "is faster so.",
            "- Where Linux shares the cores by session, whoever opens one for each run, as kind "
            "`claude-cli` does, gets more of a busy machine than the others do: one more reason "
            "to compare on a quiet one.",
            "- One attempt a task: whatever fails is counted as an error.",
            *(
                [
                    "- Beside the SDK's worker, in CPU seconds over its measurements: "
                    + ", ".join(
                        f"{name} {sum(used.get(name, 0.0) for used in beside):.1f}"
                        for name in beside[0]
                    )
                    + "."
                ]
                if beside
                else []
            ),
        ]
    )
