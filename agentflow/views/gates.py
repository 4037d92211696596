"""What is paused or closed, as people and programs are shown it. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from agentflow.protocol.api import GateView
from agentflow.rules.routes import budgets, closures, gates
from agentflow.rules.routes.budgets import OnLimit

QUEUE: Final = "queue"
KIND: Final = "kind"
POOL: Final = "pool"
BUDGET: Final = "budget"

_CLOSED_BY: Final = {
    "auth": "Claude refused its credential",
    "spend": "its spend limit is reached",
    "rate": "its rate limit is reached",
    "overload": "Claude is overloaded",
    "unreachable": "Claude cannot be reached",
    "server": "Claude answers with errors",
    "operator": "somebody closed it",
}


_PERSON: Final = frozenset({"auth", "spend"})
"""What only a person mends; then it opens by itself, or at once by `agentflow resume`."""


def view(key: str, value: bytes, now: datetime) -> GateView | None:
    """What a key of the bucket stops now, None where it stops nothing."""
    if key.startswith(gates.CLOSED):
        closed = closures.read(value)
        if closed is None or not closed.holds(now):
            return None
        return GateView(
            key=key,
            what=POOL,
            name=key.removeprefix(gates.CLOSED),
            since=closed.since,
            until=closed.until,
            reason=closed.reason,
            actor=closed.actor,
            error_code=closed.error_code,
            request_id=closed.request_id,
            message=closed.message,
        )
    if key.startswith(budgets.PREFIX):
        return _budget(key, value, now)
    if not key.startswith(gates.PAUSED):
        return None
    paused = gates.read_paused(value)
    if paused is None:
        return None
    kind = key.startswith(gates.PAUSED_KIND)
    return GateView(
        key=key,
        what=KIND if kind else QUEUE,
        name=key.removeprefix(gates.PAUSED_KIND if kind else gates.PAUSED),
        since=paused.since,
        reason=paused.reason,
        actor=paused.actor,
    )


def _budget(key: str, value: bytes, now: datetime) -> GateView | None:
    """A budget that tasks wait for; one that fails them, or ends their job, stops nobody."""
    budget = budgets.read(value)
    budget = budget and budgets.current(budget, now)
    if budget is None or not budget.stops or budget.on_limit != OnLimit.WAIT:
        return None
    return GateView(
        key=key,
        what=BUDGET,
        name=budgets.shown(key.removeprefix(budgets.PREFIX)),
        since=budget.since or now,
        until=budgets.next_period(budget.per, now),
        reason=BUDGET,
        actor=budget.actor,
        message=f"${budget.spent / 1e6:.4f} of ${budget.limit / 1e6:.4f} are spent, and the next "
        f"request may cost ${budget.short / 1e6:.4f}",
    )


def views(items: Iterable[tuple[str, bytes]], now: datetime) -> list[GateView]:
    """All that is paused or closed now: what needs a person first, then by key."""
    stopped = [gate for key, value in items if (gate := view(key, value, now)) is not None]
    return sorted(stopped, key=lambda gate: (not alerting(gate), gate.key))


def word(gate: GateView) -> str:
    """What it is: paused, closed, without room."""
    return {POOL: "closed", BUDGET: "spent"}.get(gate.what, "paused")


def alerting(gate: GateView) -> bool:
    """Whether something went wrong that only a person ends."""
    return gate.what == POOL and gate.reason in _PERSON


def remedy(gate: GateView) -> str:
    """The command that lifts it."""
    if gate.what == BUDGET:
        return f"agentflow budget raise {shlex.quote(gate.name)} USD"
    option = {QUEUE: "", KIND: "--kind ", POOL: "--pool "}[gate.what]
    return f"agentflow resume {option}{shlex.quote(gate.name)}"


def sentence(gate: GateView) -> str:
    """What is stopped, why, since when and by whom."""
    by = f" by {gate.actor}" if gate.actor else ""
    since = f"since {clock(gate.since)}{by}"
    if gate.what == BUDGET:
        until = f" until {clock(gate.until)}" if gate.until is not None else ""
        return f"budget {gate.name} has no room{until}, since {clock(gate.since)}: {gate.message}"
    if gate.what != POOL:
        why = f" ({gate.reason})" if gate.reason not in ("", "operator") else ""
        return f"{gate.what} {gate.name} is paused {since}{why}"
    until = f" until {clock(gate.until)}" if gate.until is not None else ""
    text = f"pool {gate.name} is closed{until}, {since}"
    text += f": {_CLOSED_BY.get(gate.reason, gate.reason)}"
    detail = ", ".join(text for text in (gate.error_code, gate.request_id) if text)
    said = f" ({detail})" if detail else ""
    return text + said + (f": {gate.message}" if gate.message else "")


def clock(instant: datetime) -> str:
    """An instant to the second, in this machine's zone, which is told."""
    here = instant.astimezone()
    zone = here.tzname() or f"{here:%z}"
    return f"{here:%Y-%m-%d %H:%M:%S}" + ("Z" if zone == "UTC" else f" {zone}")
