"""`agentflow budget`: how much may be spent, by whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from agentflow.cli import options
from agentflow.cli.options import Dollars, connection_options, json_option

if TYPE_CHECKING:
    from agentflow.client import Client
    from agentflow.client.operate.budgets import Standing

_SCOPE = "[queue:NAME|pool:NAME|job:ID|LABEL=VALUE|*]"


@click.group("budget")
def command() -> None:
    """Limit what a queue, a pool, a label, a job or everything (*) may cost.

    What a request may cost is held of each budget that it counts against before it is sent, so none
    is exceeded. What finds no room waits, until the budget is raised or its next day or month
    begins. Needs no master.
    """


@command.command("set")
@click.argument("scope", metavar=_SCOPE)
@click.argument("usd", type=Dollars())
@click.option("--per", type=click.Choice(["day", "month", "job"]), help="Begins anew each, in UTC.")
@click.option(
    "--on-limit",
    type=click.Choice(["wait", "fail"]),
    default="wait",
    show_default=True,
    help="What becomes of a task that finds no room.",
)
@json_option
@connection_options
def _set(
    scope: str,
    usd: float,
    per: str | None,
    on_limit: str,
    as_json: bool,
    **connection: str | None,
) -> None:
    """Let SCOPE cost at most USD. What was spent of a budget that is there still counts."""
    from agentflow.client.operate import budgets
    from agentflow.rules.records import micro

    each = "" if per in (None, "job") else str(per)

    async def work(client: Client) -> list[Standing]:
        return [await budgets.set_to(client.js, scope, micro(usd), per=each, on_limit=on_limit)]

    _show(connection, work, as_json)


@command.command("raise")
@click.argument("scope", metavar=_SCOPE)
@click.argument("usd", type=Dollars())
@json_option
@connection_options
def _raise(scope: str, usd: float, as_json: bool, **connection: str | None) -> None:
    """Give the budget of SCOPE another limit: what waits for it goes on at once."""
    from agentflow.client.operate import budgets
    from agentflow.rules.records import micro

    async def work(client: Client) -> list[Standing]:
        return [await budgets.raised(client.js, scope, micro(usd))]

    _show(connection, work, as_json)


@command.command("list")
@json_option
@connection_options
def _list(as_json: bool, **connection: str | None) -> None:
    """List the budgets: what is spent, what is held, and which have no room."""
    from agentflow.client.operate import budgets

    async def work(client: Client) -> list[Standing]:
        return await budgets.standing(client.js)

    _show(connection, work, as_json)


@command.command("rm")
@click.argument("scope", metavar=_SCOPE)
@connection_options
def _rm(scope: str, **connection: str | None) -> int:
    """Remove the budget of SCOPE: nothing limits it any more. Exits 1 where there was none."""
    from agentflow.cli import output
    from agentflow.client.operate import budgets

    async def work() -> bool:
        async with options.client(connection) as client:
            return await budgets.removed(client.js, scope)

    there = options.run_async(work())
    output.show(f"budget {scope} is removed" if there else f"there is no budget {scope}")
    return 0 if there else 1


def _show(
    connection: dict[str, str | None],
    work: Callable[[Client], Awaitable[list[Standing]]],
    as_json: bool,
) -> None:
    from agentflow.cli import output

    async def show() -> list[Standing]:
        async with options.client(connection) as client:
            return await work(client)

    found = options.run_async(show())
    for budget in found:
        if as_json:
            output.show_json(budget)
        else:
            output.show(_line(budget))
    if not found and not as_json:
        output.show("there is no budget")


def _line(budget: Standing) -> str:
    per = f" a {budget.per}" if budget.per else ""
    text = f"{budget.scope}: ${budget.spent_usd:.4f} of ${budget.limit_usd:.4f}{per} spent"
    if budget.held_usd:
        text += f", ${budget.held_usd:.4f} held"
    if budget.unknown_usd:
        text += f", ${budget.unknown_usd:.4f} of it for requests whose cost is not known"
    if budget.stops:
        text += "; NO ROOM for the next request"
    return text
