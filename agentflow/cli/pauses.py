"""What is paused or closed, in lines for people."""

from __future__ import annotations

from collections.abc import Iterable

from agentflow.cli import output
from agentflow.protocol.api import GateView
from agentflow.views import gates as gateviews


def lines(pauses: Iterable[GateView]) -> list[str]:
    """One line each: what happened, and how to lift it."""
    told = []
    for pause in pauses:
        mark = "ALERT: " if gateviews.alerting(pause) else ""
        lift = f". To lift it: {gateviews.remedy(pause)}" if pause.until is None else ""
        sentence = gateviews.sentence(pause).rstrip(".")
        told.append(f"{mark}{sentence}{lift}".replace("\n", " "))
    return told


def show(pauses: Iterable[GateView]) -> None:
    """Print them under something else."""
    shown = lines(pauses)
    if shown:
        output.show()
    for line in shown:
        output.show(line)
