"""The fleet in a line and as a grid of signs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.lines import Line, Run, cell, clip
from agentflow.dashboard.rows.workers import Worker

SIGNS: Final = ("busy", "idle", "draining", "lost")


def title(workers: Sequence[Worker]) -> str:
    """How many there are of which sort, and how many of their slots are used."""
    states = [worker.state for worker in workers]
    up = [worker for worker in workers if worker.state != "lost"]
    text = f"workers {len(up)} up"
    for state in ("lost", "draining"):
        if number := states.count(state):
            text += f"  {number} {state}"
    running = sum(worker.running for worker in up)
    return f"{text}  slots {running:,}/{sum(worker.slots for worker in up):,}"


def grid(scene: Scene, workers: list[Worker], width: int, rows: int) -> list[Line]:
    """A sign for each worker, those of a host beside each other, as many as find room."""
    hosts: dict[str, list[Worker]] = {}
    for worker in workers:
        hosts.setdefault(worker.host, []).append(worker)
    named = 1 < len(hosts) <= 12
    cells: list[tuple[str, str]] = []
    for host in sorted(hosts):
        if named:
            cells += [(char, "dim") for char in f"{cell(host, min(12, len(host)))} "]
        cells += [(scene.glyph(worker.state), f"worker.{worker.state}") for worker in hosts[host]]
        if named:
            cells += [(" ", "text")] * 2
    room = width - 2
    lines = []
    for start in range(0, min(len(cells), rows * room), room):
        part = cells[start : start + room]
        lines.append(clip(Line(((" ", "text"), *joined(part))), width))
    if len(cells) > rows * room and lines:
        more = f" +{len(cells) - rows * room:,} "
        cut = clip(lines[-1], width - len(more))
        lines[-1] = Line((*cut.runs, (more, "dim")))
    return lines


def joined(cells: list[Run]) -> list[Run]:
    """Neighbours of one token as one run."""
    runs: list[Run] = []
    for text, token in cells:
        if runs and runs[-1][1] == token:
            runs[-1] = (runs[-1][0] + text, token)
        else:
            runs.append((text, token))
    return runs
