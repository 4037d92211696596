"""`python -m bench peers`: every queue in turn, round after round, and the table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.instruments import machine
from bench.peers import brokers, catalogue, figures, turn
from bench.peers.brokers import NotMeasured
from bench.peers.shapes import Load

RESULTS = Path(__file__).parent.parent / "results" / "peers.json"
PART = RESULTS.with_stem("peers-part")
FULL = Load(tasks=20_000, singles=500, sleepers=1000, window=1000, seconds=10.0, nap=2.0)
QUICK = Load(tasks=1_000, singles=50, sleepers=100, window=200, seconds=3.0, nap=0.5)


async def main(rounds: int, quick: bool, only: tuple[str, ...], out: Path = RESULTS) -> int:
    """Measure, print, write JSON; returns the exit code."""
    load = QUICK if quick else FULL
    settings = catalogue.chosen(only)
    facts = machine.describe() if quick else machine.settled()
    if machine.busy(facts):
        print(f"note: the machine was busy when this began (load {facts['load_before'][0]})")
    turns: dict[str, list[figures.Turn]] = {setting.key: [] for setting in settings}
    reasons = dict(catalogue.UNMEASURED)
    for number in range(rounds):
        for setting in figures.rotated(settings, number):
            if setting.key in reasons:
                continue
            try:
                measured = await turn.run(setting, load)
            except (NotMeasured, figures.Inexact) as error:
                reasons[setting.key] = str(error)
                print(f"round {number + 1} {setting.key}: not measured: {error}", flush=True)
                continue
            turns[setting.key].append(measured)
            print(f"round {number + 1} {setting.key}: {json.dumps(measured)}", flush=True)
    result = {
        "machine": facts | {"busy": machine.busy(facts)},
        "brokers": await brokers.versions(),
        "pins": pins(),
        "load": asdict(load) | {"rounds": rounds},
        **figures.document(settings, turns, reasons),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    table(result)
    print(f"written to {out}")
    return 0


def pins() -> dict[str, list[str]]:
    """The versions that were asked for."""
    folder = Path(__file__).parent / "requirements"
    return {path.stem: path.read_text().split() for path in sorted(folder.glob("*.in"))}


def table(result: dict[str, Any]) -> None:
    """The result as a person reads it."""
    facts = result["machine"]
    shown = Table(title=f"{facts['cpu']}, {facts['cores']} cores, load {facts['load_before'][0]}")
    headings = ("", "no-op/s", "range", "p50 ms", "p99 ms", "sleep/floor", "MB", "promise")
    for heading in headings:
        shown.add_column(heading, justify="left" if heading in ("", "promise") else "right")
    for key, queue in result["settings"].items():
        promise = "; ".join(queue["promise"].values())
        if "tasks_per_s" not in queue:
            why = result["not_measured"].get(key, "")
            shown.add_row(key, *[""] * 6, f"not measured: {why}")
            continue
        speed = queue["tasks_per_s"]
        row = [f"{speed['median']:,.0f}", f"{speed['least']:,.0f}-{speed['most']:,.0f}"]
        for measure in ("p50_ms", "p99_ms", "over_floor", "memory_mb"):
            row.append(f"{queue[measure]['median']:.2f}" if measure in queue else "")
        shown.add_row(key, *row, promise)
    console = Console(width=180)
    console.print(shown)
    for name, why in result["not_measured"].items():
        console.print(f"{name}: not measured: {why}", highlight=False)
    console.print(f"verdict: {json.dumps(result['verdict'])}", highlight=False)
