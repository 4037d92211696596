"""`agentflow costs`: what tasks have cost, by what they have in common."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option
from agentflow.errors import UsageError

if TYPE_CHECKING:
    from agentflow.views.spending import Spending

_AGO: Final = re.compile(r"(\d{1,6})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


@click.command("costs")
@click.option(
    "--by",
    metavar="NAME,...",
    default="",
    help="Divide by queue, kind, model, day, or the name of a label.",
)
@click.option("--since", metavar="WHEN", help="30m, 12h, 7d, or an instant such as 2026-11-30.")
@json_option
@connection_options
def command(by: str, since: str | None, as_json: bool, **connection: str | None) -> None:
    """Show what tasks have cost, from the records of the last seven days. Needs no master.

    A task counts with all of its attempts. What simulated answers would have cost is not in it.
    """
    names = [name.strip() for name in by.split(",") if name.strip()]
    options.run_async(_costs(connection, names, _instant(since), as_json))


async def _costs(
    connection: dict[str, str | None], by: list[str], since: datetime | None, as_json: bool
) -> None:
    from agentflow.cli import output
    from agentflow.client.operate.costs import costs

    async with options.client(connection) as client:
        found = await costs(client.js, by, since=since)
    if as_json:
        for one in found:
            output.show_json(one)
        return
    headings = (*(name.upper() for name in by), "TASKS", "TOKENS IN", "TOKENS OUT", "COST", "")
    output.table(headings, [_row(one) for one in found])


def _row(one: Spending) -> list[str]:
    from agentflow.cli import output

    notes = [f"{one.unknown:,} of unknown cost"] if one.unknown else []
    if one.simulated:
        notes.append(f"{one.simulated:,} {output.SIMULATED}")
    return [
        *(value or "-" for value in one.group.values()),
        f"{one.tasks:,}",
        f"{one.input_tokens:,}",
        f"{one.output_tokens:,}",
        output.money(one.cost_usd),
        ", ".join(notes),
    ]


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    if ago := _AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--since {text[:40]!r} is neither 30m, 12h or 7d nor an instant such as 2026-11-30"
        ) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
