"""The document's own table, claim by claim: claimed, measured here, and a sentence. Pure.

A verdict is made from the figures, so a run on another machine may judge otherwise. What is not
measured is said; what is extrapolated is called so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from bench.compare import money, words
from bench.compare.comparison import Comparison, Measured

CLI: Final = ("go", "claude-p", "claude-cli")
"""What stands for the document's CLI worker: the first of these that was measured."""
SDK: Final = "sdk"
NODE: Final = "node"
ABOUT: Final = 1.25
"""A claim within this ratio of what is measured is about right."""
BOUND: Final = 0.6
"""Share of all cores in a worker's hands above which the machine, not the design's places, is the
limit: the rest goes to the client, the server, the master and the simulator."""
ABSENT: Final = "not measured"


class Verdict(msgspec.Struct, frozen=True):
    """A line of the table."""

    what: str
    claimed: str
    measured: str
    verdict: str


INCONSISTENT: Final = (
    "100 workers with 10 tasks at once are 1000 tasks in flight: 1000 tasks of 2.0 s then take 2 s "
    "at least, not 20 s. Its 20 s and 22 s are those of 100 in flight.",
    "Its CLI worker has one CLI of 100 MB, and runs 10 tasks at once. Each run is a process, so by "
    "its own figures that worker takes 25 + 10 x 100 = 1,025 MB, not 125.",
    "175 ms of overhead against 4 ms a task is 44 times the work beside the API; a CPU of 85 % "
    "against 75 % in the same run is 1.13 times. Both cannot be.",
    "1000 workers take 125 GB in one line, and 100 instances of 4 GB, which is 400 GB, in the "
    "next; for the SDK 105 GB and 350 GB.",
    "Its savings differ with the line: 16 % of memory, 12.5 % of the instance's memory, 17 % of "
    "the price, for the same change.",
    "It explains the CLI's cost by a Node runtime that starts. Today's Claude Code is one native "
    "binary; node only installs it.",
)


def table(comparison: Comparison) -> list[Verdict]:
    """All claims that can be tested on one machine."""
    return [claim(comparison) for claim in _CLAIMS]


def cli_design(comparison: Comparison) -> str:
    """The design that stands for the document's CLI worker."""
    return next((name for name in CLI if comparison.measured(name) is not None), CLI[0])


def against(claimed: float, measured: float) -> str:
    """How a claim stands to what was measured."""
    ratio = measured / claimed
    if 1 / ABOUT <= ratio <= ABOUT:
        return "about right"
    if ratio > 1:
        return f"{words.times(ratio)} times too low"
    return f"{words.times(1 / ratio)} times too high"


def _both(comparison: Comparison, in_flight: int) -> tuple[Measured | None, Measured | None]:
    return comparison.measured(cli_design(comparison), in_flight), comparison.measured(
        SDK, in_flight
    )


def _said(cli: str | None, sdk: str | None, node: str | None = None) -> str:
    parts = [f"CLI {cli or ABSENT}", f"SDK {sdk or ABSENT}"]
    return "; ".join(parts + ([f"Node SDK {node}"] if node else []))


def _overhead(comparison: Comparison) -> Verdict:
    cli, sdk = _both(comparison, 1)
    node = comparison.measured(NODE, 1)
    verdict = ABSENT
    if cli and sdk:
        ratio = cli.overhead.p50_ms / sdk.overhead.p50_ms
        verdict = (
            f"For the CLI {against(175, cli.overhead.p50_ms)}, for the SDK "
            f"{against(4, sdk.overhead.p50_ms)}, the queue included; a process a task costs "
            f"{words.times(ratio)} times as much as a call."
        )
    return Verdict(
        "overhead per task, one at a time (p50)",
        "CLI 175 ms; SDK 4 ms",
        _said(_p50(cli), _p50(sdk), _p50(node)),
        verdict,
    )


def _p50(measured: Measured | None) -> str | None:
    return words.ms(measured.overhead.p50_ms) if measured else None


def _time(comparison: Comparison) -> Verdict:
    cli, sdk = _both(comparison, 1)

    def seconds(measured: Measured | None) -> float | None:
        return (
            measured.trial.load.latency.p50 + measured.overhead.p50_ms / 1000 if measured else None
        )

    one, other = seconds(cli), seconds(sdk)
    verdict = ABSENT
    if cli and one is not None and other is not None:
        least = cli.trial.load.latency.p50
        verdict = (
            f"An answer alone takes {least:g} s here: the SDK adds "
            f"{(other - least) / least * 100:.1f} %, the CLI {(one - least) / least * 100:.0f} % "
            "when nothing else runs, and more when ten start at once."
        )
    return Verdict(
        "time per task, one at a time",
        "CLI 2.2 s; SDK 2.0 s",
        _said(_seconds(one), _seconds(other)),
        verdict,
    )


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f} s"


def _memory(comparison: Comparison) -> Verdict:
    cli, sdk = _both(comparison, 1)
    node = comparison.measured(NODE, 1)
    wide = money.basis(comparison, SDK)
    verdict = ABSENT
    one, other = (measured.memory.peak_mb if measured else None for measured in (cli, sdk))
    if one and other:
        verdict = f"For the CLI {against(125, one)}, for the SDK {against(105, other)}"
        if wide and wide.slot_mb:
            verdict += (
                f"; but a worker is not what matters: at {wide.trial.load.in_flight} in flight the "
                f"SDK takes {wide.slot_mb:.1f} MB a task"
            )
        verdict += "."
    return Verdict(
        "memory per worker with one task (peak PSS)",
        "CLI 125 MB; SDK 105 MB",
        _said(_peak(cli), _peak(sdk), _peak(node)),
        verdict,
    )


def _peak(measured: Measured | None) -> str | None:
    return words.mb(measured.memory.peak_mb) if measured and measured.memory.peak_mb else None


def crowd(comparison: Comparison) -> Measured | None:
    """The document's setting: the most processes that were measured."""
    many = [
        measured
        for measured in comparison.trials
        if measured.trial.design == SDK and measured.trial.processes > 1
    ]
    return max(many, key=lambda measured: measured.trial.processes, default=None)


def _thousand(comparison: Comparison) -> Verdict:
    cli = money.basis(comparison, cli_design(comparison))
    sdk = crowd(comparison)
    cli_mb = cli.slot_mb * 1000 if cli and cli.slot_mb else None
    sdk_mb = sdk.memory.peak_mb if sdk else None
    setting = ABSENT
    verdict = ABSENT
    if sdk and sdk_mb:
        load = sdk.trial
        setting = f"{words.gb(sdk_mb)} ({load.processes} processes x {load.slots} tasks)"
        verdict = f"For the SDK {against(105_000 * load.load.in_flight / 1000, sdk_mb)}"
        verdict += ": forked workers share what they import, and a slot is no process"
        if cli_mb:
            verdict += f". For the CLI {against(125_000, cli_mb)}, extrapolated"
        verdict += "."
    said = f"{words.gb(cli_mb)} (extrapolated from {cli.trial.load.in_flight})" if cli else None
    return Verdict(
        "memory of 1000 tasks at once",
        "CLI 125 GB; SDK 105 GB",
        _said(said, setting),
        verdict,
    )


def _run(comparison: Comparison) -> Verdict:
    cli = money.basis(comparison, cli_design(comparison))
    narrow, wide = comparison.measured(SDK, 100), crowd(comparison)
    parts = []
    if narrow:
        load = narrow.trial.load
        parts.append(
            f"{narrow.makespan_s:.1f} s ({words.load(narrow.trial)}; floor {load.floor():g} s)"
        )
    if wide:
        load = wide.trial.load
        parts.append(
            f"{wide.makespan_s:.1f} s ({words.load(wide.trial)}; floor {load.floor():g} s)"
        )
    said = None
    if cli:
        whole = cli.makespan_s / cli.trial.load.tasks * 1000
        said = f"{whole:,.0f} s (extrapolated from {words.load(cli.trial)})"
    verdict = ABSENT
    if narrow and wide:
        verdict = (
            "Two settings in one line: with 100 in flight the SDK comes to "
            f"{narrow.over_floor:.2f} times the floor, with {wide.trial.load.in_flight} to "
            f"{wide.over_floor:.2f} times."
        )
        if cli and _share(comparison, cli) > BOUND:
            verdict += " The CLI is bound by this machine's cores, not by its places."
    return Verdict(
        "1000 tasks, 100 workers x 10 at once",
        "CLI 22 s; SDK 20 s",
        _said(said, " and ".join(parts) or None),
        verdict,
    )


def _share(comparison: Comparison, measured: Measured) -> float:
    """Of all cores that the worker used while it was measured."""
    return measured.cpu_s / (sum(measured.makespans_s) * int(comparison.machine.get("cores") or 1))


def _cpu(comparison: Comparison) -> Verdict:
    cli = money.basis(comparison, cli_design(comparison))
    sdk = money.basis(comparison, SDK)
    cores = int(comparison.machine.get("cores") or 1)

    def said(measured: Measured | None) -> str | None:
        if measured is None:
            return None
        share = _share(comparison, measured) * 100
        return f"{share:.0f} % of {cores} cores, {words.ms(measured.cpu_ms)} a task"

    verdict = ABSENT
    if cli and sdk:
        verdict = (
            "A share says little where one side waits for the other; a task costs "
            f"{words.times(cli.cpu_ms / sdk.cpu_ms)} times as much CPU with a CLI, not 1.1 times."
            if sdk.cpu_ms
            else ABSENT
        )
    return Verdict("CPU in that run", "CLI 85 %; SDK 75 %", _said(said(cli), said(sdk)), verdict)


def _size(comparison: Comparison) -> Verdict:
    cli, sdk = comparison.row(cli_design(comparison)), comparison.row(SDK)
    node = comparison.row(NODE)
    sizes = [
        row.size.own_mb + row.size.interpreter_mb if row and row.size else None
        for row in (cli, sdk, node)
    ]
    image, why = comparison.image
    verdict = ABSENT
    if sizes[0] and sizes[1]:
        verdict = (
            f"For the CLI {against(190, sizes[0])} and for the SDK {against(155, sizes[1])}, "
            "without the image's base system; "
            + (f"our image has {words.mb(image)}." if image else f"no image was measured: {why}.")
        )
    return Verdict(
        "container image; here what is installed, interpreter included",
        "CLI 190 MB; SDK 155 MB",
        _said(*(words.mb(size) if size else None for size in sizes)),
        verdict,
    )


def start(comparison: Comparison, design: str) -> float | None:
    """Seconds from the start of a worker of one process to its first result; the median."""
    starts = sorted(
        measured.started_s
        for measured in comparison.trials
        if measured.trial.design == design and measured.trial.processes == 1
    )
    return starts[len(starts) // 2] if starts else None


def _start(comparison: Comparison) -> Verdict:
    cli, sdk = start(comparison, cli_design(comparison)), start(comparison, SDK)
    node = start(comparison, NODE)
    verdict = ABSENT
    if cli is not None and sdk is not None:
        verdict = (
            f"For the CLI {against(0.5, cli)}, for the SDK in Python {against(0.3, sdk)}: it is "
            "imported once for the life of a worker, and once for all processes that are forked"
            + (f"; Node imports it faster ({node:.2f} s)." if node and node < sdk else ".")
        )
    return Verdict(
        "start-up, to the first result",
        "CLI 500 ms; SDK 300 ms",
        _said(*(_seconds(measured) for measured in (cli, sdk, node))),
        verdict,
    )


def _year(comparison: Comparison) -> Verdict:
    name = cli_design(comparison)
    cli, sdk = money.need(comparison, name), money.need(comparison, SDK)
    verdict, said = ABSENT, _said(None, None)
    if cli and sdk:
        bills = [
            money.bill(cli, money.DOCUMENT[0]),
            money.bill(sdk, money.DOCUMENT[1]),
        ]
        one, other = (
            f"{bill.instances:,} instances, {words.dollars(bill.year_usd)} a year" for bill in bills
        )
        said = _said(one, other)
        verdict = (
            f"Extrapolated, for {money.TASKS_PER_S:.0f} tasks a second: the difference is "
            f"{words.times(bills[0].year_usd / bills[1].year_usd)} times, not 1.2 times"
        )
        if bills[0].by_cpu > bills[0].by_memory:
            verdict += ", and CPU decides it, which the document leaves out"
        verdict += "."
    return Verdict(
        "1000 tasks at once, all year",
        "CLI 100 x 4 GB, $36,000; SDK 100 x 3.5 GB, $30,000",
        said,
        verdict,
    )


_CLAIMS: Final[tuple[Callable[[Comparison], Verdict], ...]] = (
    _overhead,
    _time,
    _memory,
    _thousand,
    _run,
    _cpu,
    _size,
    _start,
    _year,
)
