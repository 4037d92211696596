"""The measured part of docs/scaling.md, from the result file. No I/O but `refresh`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from agentflow.protocol.limits import HEARTBEAT
from bench.instruments import pages
from bench.scale.axes import AXES

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "scaling.md"
COMMAND: Final = "python -m bench scale --page"
DAY: Final = 86_400
A_DAY: Final = 1_000_000
KEPT_DAYS: Final = 7
WORKERS: Final = 1_000
SERVERS: Final = (("r1", "One server"), ("always", "Synced always"), ("r3", "Three copies"))


def tables(result: dict[str, Any]) -> str:
    """All tables and the arithmetic, as Markdown."""
    parts = [about(result)]
    for axis in AXES:
        rows = [point for point in result["points"] if point["axis"] == axis.field]
        if rows:
            parts.append(f"**By {axis.title}**{_since(rows, result)}\n\n{table(axis.title, rows)}")
    parts.append(arithmetic(result["points"]))
    return "\n\n".join(parts)


def about(result: dict[str, Any]) -> str:
    """On what it was measured, and whether that machine had other work."""
    facts = result["machine"]
    text = (
        f"{pages.machine(facts, result['rounds'])} Server, master, workers and client were on one "
        "machine."
    )
    if result["quick"]:
        text += " **A quick run of small loads: orders of magnitude, not figures to plan with.**"
    if facts["busy"]:
        text += " **The machine was doing other work.**"
    return text


def _since(rows: list[dict[str, Any]], result: dict[str, Any]) -> str:
    """What an axis that was measured by itself says of that."""
    alone = rows[0].get("measured")
    if alone is None or alone["time"] == result["machine"]["time"]:
        return ""
    busy = "; **the machine was doing other work**" if alone["busy"] else ""
    rounds = f"{alone['rounds']} round{'s' * (alone['rounds'] > 1)}"
    return (
        f", measured by itself: commit {alone['commit']}, {alone['time'][:10]}, load "
        f"{alone['load_before'][0]}, {rounds}{busy}"
    )


COLUMNS: Final = (
    ("tasks/s", "tasks_per_s"),
    ("submits/s", "submit_per_s"),
    ("p50 ms", "p50_ms"),
    ("p99 ms", "p99_ms"),
    ("server CPU µs", "cpu_us_per_task.servers"),
    ("worker CPU µs", "cpu_us_per_task.worker"),
    ("server MB", "memory_mb.servers"),
    ("workers MB", "memory_mb.worker"),
    ("bytes stored", "server_bytes"),
)


def table(first: str, rows: list[dict[str, Any]]) -> str:
    """One axis; columns that no row has are left out."""
    columns = [
        (title, path) for title, path in COLUMNS if any(pick(row, path) is not None for row in rows)
    ]
    lines = [
        f"| {first} | " + " | ".join(title for title, _ in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for row in rows:
        cells = [shown(pick(row, path)) for _, path in columns]
        lines.append(f"| {shown_value(row['value'])} | " + " | ".join(cells) + " |")
        if "failed" in row:
            lines[-1] = f"| {shown_value(row['value'])} | not measured: {row['failed']} |"
    return "\n".join(lines)


def pick(row: dict[str, Any], path: str) -> float | None:
    """A figure of a point, by its dotted path."""
    value: Any = row.get("figures", {})
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return float(value)


def shown(value: float | None) -> str:
    """A figure for a person."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def shown_value(value: str) -> str:
    """A value of an axis."""
    return f"{int(value):,}" if value.isdigit() else value


def figure(points: list[dict[str, Any]], axis: str, value: str, path: str) -> float | None:
    """A figure of one point; None when it was not measured."""
    for row in points:
        if row["axis"] == axis and row["value"] == value:
            return pick(row, path)
    return None


def arithmetic(points: list[dict[str, Any]]) -> str:
    """A million tasks a day, and a thousand workers, in the figures above."""
    lines = ["**A million tasks a day**", ""]
    mean = A_DAY / DAY
    lines.append(
        f"1,000,000 / 86,400 s = {mean:.1f} tasks/s in the mean; a day whose load comes in eight "
        f"hours, {A_DAY / 28_800:.0f}/s; a peak of ten times the mean, {mean * 10:.0f}/s."
    )
    for server, words in (
        ("r1", "One server"),
        ("always", "Synced always"),
        ("r3", "Three copies"),
    ):
        speed = figure(points, "server", server, "tasks_per_s")
        if speed:
            lines.append(
                f"{words}: {speed:,.0f}/s measured, {speed / mean:,.0f} times the mean, "
                f"{speed * DAY / 1e6:,.0f} million a day if it never rested."
            )
    size = figure(points, "server", "r1", "server_bytes")
    if size:
        kept = size * A_DAY * KEPT_DAYS / 2**30
        lines.append(
            f"Records of {size:,.0f} bytes a task (payload and result of 168 bytes) kept for "
            f"{KEPT_DAYS} days: {kept:,.1f} GiB on each server that has a copy."
        )
    lines += ["", "**A thousand worker processes**", ""]
    one = figure(points, "workers", "1", "memory_mb.worker")
    most = [row for row in points if row["axis"] == "workers" and pick(row, "memory_mb.worker")]
    if one and most:
        last = max(most, key=lambda row: int(row["value"]))
        share = (pick(last, "memory_mb.worker") or 0.0) / int(last["value"])
        lines.append(
            f"Memory: {share:.0f} MB each with {int(last['value']):,} under one parent "
            f"(a single one {one:.0f} MB), so {share * WORKERS / 1024:.0f} GiB over the fleet."
        )
    lines.append(
        f"Heartbeats: {WORKERS:,} / {HEARTBEAT:g} s = {WORKERS / HEARTBEAT:.0f} messages/s, "
        "unstored. Connections: one each."
    )
    lines.append(
        "Tasks: with 10 slots and Claude calls of 20 s each worker ends 0.5/s, the fleet "
        f"{WORKERS * 10 / 20:.0f}/s, {WORKERS * 10 / 20 * DAY / 1e6:.0f} million a day: the calls "
        "are the cost, not the queue."
    )
    return "\n".join(line if not line or line.startswith("**") else f"- {line}" for line in lines)


def refresh(results: Path, page: Path = PAGE) -> None:
    """Write the page's measured part from a result file."""
    result = json.loads(results.read_text())
    page.write_text(pages.filled(page.read_text(), COMMAND, tables(result)))
