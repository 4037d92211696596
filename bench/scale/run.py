"""`python -m bench scale`: every point in turn, round after round."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from bench.instruments import machine
from bench.scale import axes, page, point

RESULTS = Path(__file__).parent.parent / "results" / "scale.json"
PART = RESULTS.with_stem("scale-part")


async def main(rounds: int, quick: bool, only: tuple[str, ...], out: Path = RESULTS) -> int:
    """Measure, print, write JSON; returns the exit code."""
    points = axes.points(quick=quick, only=only)
    facts = machine.describe() if quick else machine.settled()
    if machine.busy(facts):
        print(f"note: the machine was busy when this began (load {facts['load_before'][0]})")
    figures_of: list[list[dict[str, Any]]] = [[] for _ in points]
    failed: dict[int, str] = {}
    for number in range(rounds):
        for place, varied in enumerate(points):
            name = f"round {number + 1} {varied.axis} {varied.value}"
            try:
                figures = await point.measure(varied)
            except Exception as error:  # one point that fails must not cost the others
                failed[place] = f"{type(error).__name__}: {error}"[:200]
                print(f"{name}: failed: {failed[place]}", flush=True)
                continue
            figures_of[place].append(figures)
            print(f"{name}: {json.dumps(figures)}", flush=True)
    facts["busy"] = machine.busy(facts)
    measured = {name: facts[name] for name in ("commit", "time", "load_before", "busy")}
    result = {
        "machine": facts,
        "rounds": rounds,
        "quick": quick,
        "window": point.WINDOW,
        "points": [
            {
                "axis": varied.axis,
                "value": varied.value,
                "measured": measured | {"rounds": rounds},
                "setting": asdict(varied),
                "figures": median(figures_of[place]),
                "rounds": figures_of[place],
                **({"failed": failed[place]} if place in failed and not figures_of[place] else {}),
            }
            for place, varied in enumerate(points)
        ],
    }
    if only and out.exists():
        result = merged(json.loads(out.read_text()), result)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    Console(width=140).print(Markdown(page.tables(result)))
    print(f"written to {out}")
    return 1 if failed else 0


def merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """A result with some axes measured anew; each point says when and of which commit."""
    axes_now = {row["axis"] for row in now["points"]}
    kept = [row for row in before["points"] if row["axis"] not in axes_now]
    return {**(before if kept else now), "points": [*kept, *now["points"]]}


def median(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure, also of those within figures."""
    medians: dict[str, Any] = {}
    # A short backlog is gone before a figure could be taken of it, in one round or another.
    for name in dict.fromkeys(name for figures in rounds for name in figures):
        values = [figures[name] for figures in rounds if name in figures]
        medians[name] = (
            median(values) if isinstance(values[0], dict) else round(statistics.median(values), 3)
        )
    return medians
