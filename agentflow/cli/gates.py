"""What is paused or closed, in lines for people."""

from __future__ import annotations

from collections.abc import Iterable

from agentflow.protocol.api import GateView
from agentflow.views import gates as gateviews


def lines(gates: Iterable[GateView]) -> list[str]:
    """One line each: what happened, and how to lift it."""
    found = []
    for gate in gates:
        mark = "ALERT: " if gateviews.alerting(gate) else ""
        lift = f". To lift it: {gateviews.remedy(gate)}" if gate.until is None else ""
        found.append(f"{mark}{gateviews.sentence(gate).rstrip('.')}{lift}")
    return found


def show_gates(gates: Iterable[GateView]) -> None:
    """Print them under something else."""
    from agentflow.cli import output

    shown = lines(gates)
    if shown:
        output.show()
    for line in shown:
        output.show(line.replace("\n", " "))
