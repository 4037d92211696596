"""Budgets: keys of the bucket, changed by compare-and-set. Nothing here needs a master."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from agentflow.bus.streams import provision
from agentflow.bus.streams.bucket import Board, read_all
from agentflow.bus.streams.jetstream import JetStream
from agentflow.client.session import orderer
from agentflow.errors import NoStream, NotFound, UsageError
from agentflow.rules.routes import budgets
from agentflow.rules.routes.budgets import Budget


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A budget as people and programs are shown it, in USD."""

    scope: str
    limit_usd: float
    spent_usd: float
    held_usd: float
    unknown_usd: float
    per: str
    on_limit: str
    stops: bool
    """Whether a request has no room."""


async def standing(js: JetStream) -> list[Standing]:
    """All budgets, by scope. Raises BusError."""
    found: dict[str, Budget] = {}
    try:
        async for key, _, value in read_all(js):
            if key.startswith(budgets.PREFIX):
                found.pop(key, None)
                if (budget := budgets.read(value)) is not None:
                    found[key] = budgets.current(budget, js.now())
    except NoStream:
        return []  # a server that nobody has used
    return [_shown(key, budget) for key, budget in sorted(found.items())]


async def set_to(
    js: JetStream, scope: str, micro: int, *, per: str = "", on_limit: str = "wait"
) -> Standing:
    """Set a budget; what of one that is there was spent in the same period still counts.

    Raises UsageError, BusError.
    """
    return await _changed(
        js,
        scope,
        lambda before: budgets.set_to(
            before, micro, per=per, on_limit=on_limit, now=js.now(), actor=orderer()
        ),
    )


async def raised(js: JetStream, scope: str, micro: int) -> Standing:
    """Give a budget another limit; what waits for it goes on. Raises UsageError, BusError."""

    def change(before: Budget | None) -> Budget:
        if before is None:
            raise UsageError(f"there is no budget {scope}; `agentflow budget set` makes one")
        return budgets.raised(before, micro, orderer())

    return await _changed(js, scope, change)


async def removed(js: JetStream, scope: str) -> bool:
    """Remove a budget; whether there was one. Raises UsageError, BusError."""
    there = False

    def change(value: bytes | None) -> None:
        nonlocal there
        there = value is not None

    await Board(js).change(_key(scope), change)
    return there


async def _changed(
    js: JetStream, scope: str, change: Callable[[Budget | None], Budget]
) -> Standing:
    key, board = _key(scope), Board(js)

    def changed(value: bytes | None) -> bytes | None:
        return budgets.encode(change(budgets.read(value)))

    try:
        value = await board.change(key, changed)
    except (NotFound, NoStream):
        await provision.ensure_streams(js)
        value = await board.change(key, changed)
    budget = budgets.read(value)
    assert budget is not None
    return _shown(key, budget)


def _key(text: str) -> str:
    scope = budgets.scope_of(text)
    if scope is None:
        raise UsageError(
            f"{text[:80]!r} is no scope of a budget, which is queue:NAME, pool:NAME, job:ID, "
            "label=value or *"
        )
    return budgets.key(scope)


def _shown(key: str, budget: Budget) -> Standing:
    return Standing(
        scope=budgets.shown(key.removeprefix(budgets.PREFIX)),
        limit_usd=budget.limit / 1e6,
        spent_usd=budget.spent / 1e6,
        held_usd=budget.held_micro / 1e6,
        unknown_usd=budget.unknown / 1e6,
        per=budget.per,
        on_limit=budget.on_limit,
        stops=budget.stops,
    )
