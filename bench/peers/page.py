"""The measured part of docs/peers.md, from the result file. No I/O but `refresh`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from bench.instruments import pages

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "peers.md"
COMMAND: Final = "python -m bench peers --page"
PARTS: Final = ("client", "broker", "worker", "master")


def tables(result: dict[str, Any]) -> str:
    """Figures, promises, and where the processor's time goes, as Markdown."""
    measured = {
        key: figures for key, figures in result["settings"].items() if "tasks_per_s" in figures
    }
    order = sorted(measured, key=lambda key: -measured[key]["tasks_per_s"]["median"])
    return "\n\n".join(
        [
            about(result),
            verdict(result["verdict"]),
            "**The other aims: the least of each**\n\n" + _others(measured, result["load"]),
            "**Speed and memory**\n\n" + _speed(measured, order),
            "**What each promises**\n\n" + _promises(measured, order),
            "**Processor time of a no-op task, µs**\n\n" + _where(measured, order),
            *_missing(result["not_measured"]),
        ]
    )


def about(result: dict[str, Any]) -> str:
    """On what it was measured, with which brokers and packages."""
    load = result["load"]
    # Redis tells its build too.
    brokers = ", ".join(
        version.partition(" sha=")[0] for version in result["brokers"].values() if version
    )
    pins = ", ".join(pin for pins in result["pins"].values() for pin in pins)
    text = (
        f"{pages.machine(result['machine'], load['rounds'])} {brokers}; {pins}. No-op: up to "
        f"{load['window']:,} under way, until {load['tasks']:,} are done or {load['seconds']:g} s "
        f"have passed; p50 and p99: one task at a time; sleep: tasks of {load['nap']:g} s, four "
        f"times as many as there are slots, {load['sleepers']:,} at most. Each run is checked: "
        "every task ran once and its result came back. Median of the rounds, in brackets the range."
    )
    if result["machine"]["busy"]:
        text += " **The machine was doing other work.**"
    return text


def verdict(judged: dict[str, Any]) -> str:
    """The aim, and what came of it."""
    lines = [
        f"The aim was {judged['aim']:g} times the no-op throughput of the fastest other Python "
        f"queue, and never less than {judged['least']:g} times."
    ]
    ours = judged.get("ours")
    for name, among in (
        ("all", "all"),
        ("keeping tasks and results", "those that keep tasks and results"),
    ):
        if ours and name in judged:
            other = judged[name]
            reached = (
                "reached"
                if other["times"] >= judged["aim"]
                else ("missed" if other["times"] < judged["least"] else "nearly reached")
            )
            lines.append(
                f"Of {among} the fastest is `{other['setting']}` with "
                f"{other['tasks_per_s']:,.0f}/s; `{ours['setting']}` does "
                f"{ours['tasks_per_s']:,.0f}/s, {other['times']:.1f} times as much: **{reached}**."
            )
    return " ".join(lines)


AIMS: Final = (
    ("p50 of one task, ms", "p50_ms", False),
    ("p99 of one task, ms", "p99_ms", False),
    ("sleep ÷ floor, of settings that run all sleepers at once", "over_floor", True),
    ("memory of the workers, MB", "memory_mb", False),
)
"""What should be the least of all, by which measure, and whether only of wide settings."""


def _others(measured: dict[str, Any], load: dict[str, Any]) -> str:
    rows = []
    for title, measure, wide in AIMS:
        among = {
            key: figures[measure]["median"]
            for key, figures in measured.items()
            if measure in figures and (not wide or figures["slots"] >= load["sleepers"])
        }
        ours = [key for key in among if key.startswith("agentflow/")]
        theirs = [key for key in among if key not in ours]
        keeping = [key for key in theirs if measured[key]["keeps"]]
        if not ours or not keeping:
            continue
        best, *others = (min(keys, key=among.__getitem__) for keys in (ours, theirs, keeping))
        cells = [f"`{key}` {among[key]:.2f}, {_met(among[best] <= among[key])}" for key in others]
        rows.append([title, f"`{best}` {among[best]:.2f}", *cells])
    return _table(
        ("", "AgentFlow", "best of all others", "best that keeps tasks and results"), rows, words=4
    )


def _met(yes: bool) -> str:
    return "reached" if yes else "missed"


def _speed(measured: dict[str, Any], order: list[str]) -> str:
    rows = []
    for key in order:
        figures = measured[key]
        speed = figures["tasks_per_s"]
        rows.append(
            [
                f"`{key}`",
                f"{speed['median']:,.0f} ({speed['least']:,.0f}-{speed['most']:,.0f})",
                _spread(figures.get("p50_ms")),
                _spread(figures.get("p99_ms")),
                _spread(figures.get("over_floor")),
                f"{figures['memory']['worker']:,.0f}",
                f"{figures['memory']['broker']:,.0f}",
            ]
        )
    headings = ("", "no-op/s", "p50 ms", "p99 ms", "sleep ÷ floor", "workers MB", "broker MB")
    return _table(headings, rows, words=1)


def _promises(measured: dict[str, Any], order: list[str]) -> str:
    rows = [[f"`{key}`", *measured[key]["promise"].values()] for key in order]
    headings = ("", "a task lies in", "done when", "the same task again", "the result")
    return _table(headings, rows, words=5)


def _where(measured: dict[str, Any], order: list[str]) -> str:
    rows = []
    for key in order:
        used = measured[key]["cpu_us_per_task"]
        cells = [f"{used[part]:,.0f}" if part in used else "" for part in PARTS]
        rows.append([f"`{key}`", *cells, f"{sum(used.values()):,.0f}"])
    return _table(("", *PARTS, "all"), rows, words=1)


def _missing(reasons: dict[str, str]) -> list[str]:
    if not reasons:
        return []
    lines = [f"- `{key}`: {reason}" for key, reason in reasons.items()]
    return ["**Not measured**\n\n" + "\n".join(lines)]


def _spread(spread: dict[str, float] | None) -> str:
    """Median and range."""
    if spread is None:
        return ""
    return f"{spread['median']:.2f} ({spread['least']:.2f}-{spread['most']:.2f})"


def _table(headings: tuple[str, ...], rows: list[list[str]], *, words: int) -> str:
    """In Markdown; the first `words` columns are text, the others figures."""
    lines = [headings, ["---"] * words + ["---:"] * (len(headings) - words), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def refresh(results: Path, page: Path = PAGE) -> None:
    """Write the page's measured part from a result file."""
    result = json.loads(results.read_text())
    page.write_text(pages.filled(page.read_text(), COMMAND, tables(result)))
