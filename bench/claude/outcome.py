"""The outcome as a person reads it: the rows, then the aims."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table


class Aim(msgspec.Struct, frozen=True):
    """What is aimed at, at most, and what was found."""

    what: str
    most: float
    found: float

    @property
    def met(self) -> bool:
        """Whether the aim is met."""
        return self.found <= self.most


def show(
    facts: dict[str, Any], rows: list[dict[str, Any]], crowd: dict[str, Any], aims: list[Aim]
) -> None:
    """Print all of it."""
    console = Console(width=120)
    title = f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, SIMULATED"
    legend = "each: AgentFlow / bare SDK; p50 and p99 are what a call takes beyond the latency"
    shown = Table(title=title, caption=legend)
    shown.add_column("calls, in flight,\nprocesses", no_wrap=True)
    for heading in ("makespan s", "ratio", "floor s", "p50 ms", "p99 ms", "CPU s", "PSS MB"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in [*rows, crowd]:
        ours, bare = row["agentflow"], row["bare"]
        shown.add_row(
            f"{row['calls']}, {row['in_flight']}, {row['processes']}",
            f"{ours['makespan_s']} / {bare['makespan_s']}",
            f"{ours['makespan_s'] / bare['makespan_s']:.2f}",
            f"{row['floor_s']:g}",
            f"{ours['p50_ms']} / {bare['p50_ms']}",
            f"{ours['p99_ms']} / {bare['p99_ms']}",
            f"{ours['cpu_s']['workers']} / {bare['cpu_s']['workers']}",
            f"{ours['pss_mb']} / {bare['pss_mb']}",
        )
    console.print(shown)
    for aim in aims:
        verdict = "met   " if aim.met else "MISSED"
        console.print(f"{verdict} {aim.what}: {aim.found} (at most {aim.most})")
    if all(aim.met for aim in aims):
        return
    for row in rows:
        parts = row["agentflow"]["parts"]
        console.print(
            f"{row['calls']} at {row['in_flight']} in {row['processes']}: until the claim "
            f"{parts['claim_ms']} ms, in the call {parts['call_ms']} ms, from its end to the "
            f"client {parts['rest_ms']} ms"
        )
