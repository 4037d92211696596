"""What budgets hold for batches: money that is spent by nobody's leave once a create is done.

A batch is its own holder, by the name of its create. Whoever builds it reserves for all of its
requests at once, before it may be sent; whoever writes its results settles it, in one step, which
done again changes nothing. No worker's lease is over it: batches outlive the workers that made
them. Each function gives the value that follows.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from agentflow.rules.routes import budgets
from agentflow.rules.routes.budgets import Budget, Holder

_PREFIX: Final = "batch."
HELD_FOR: Final = timedelta(days=31)
"""Nobody will settle it after that: results of a batch can be read for 29 days."""


def holder(pool: str, queue: str, nonce: str) -> str:
    """A create as it holds money."""
    return f"{_PREFIX}{pool}.{queue}.{nonce}"


def nonces(budget: Budget, pool: str, queue: str) -> list[str]:
    """The creates of a pool and queue that hold money of a budget."""
    ours = holder(pool, queue, "")
    return [name.removeprefix(ours) for name in budget.held if name.startswith(ours)]


def room(budget: Budget, name: str) -> int:
    """What a create may hold in all."""
    return budget.room + budgets.held(budget, name)


def reserve(budget: Budget, name: str, micro: int, now: datetime) -> Budget | None:
    """The budget with at least so much held by a create; None where there is no room for it.

    Of two that build the same create whoever sends it has enough.
    """
    budget = budgets.lapse(budgets.current(budget, now), now)
    micro = max(micro, budgets.held(budget, name))
    if micro > room(budget, name):
        return None
    return msgspec.structs.replace(
        budget, held={**budget.held, name: Holder(micro, now + HELD_FOR)}
    )


def settle(budget: Budget, name: str, cost: int, unknown: int = 0) -> Budget:
    """The budget after a batch has cost so much, `unknown` of it at the most it may have been.

    Unchanged where it holds nothing: it was settled before.
    """
    if name not in budget.held:
        return budget
    return msgspec.structs.replace(
        budget,
        held={other: held for other, held in budget.held.items() if other != name},
        spent=budget.spent + cost + unknown,
        unknown=budget.unknown + unknown,
    )


def forfeit(budget: Budget, name: str) -> Budget:
    """The budget after a batch that nobody can read: all that it held counts as spent."""
    return settle(budget, name, 0, budgets.held(budget, name))
