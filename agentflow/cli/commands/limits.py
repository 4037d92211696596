"""`agentflow limits`: how much of each rate limit is used, and who waits for it."""

from __future__ import annotations

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option


@click.command("limits")
@json_option
@connection_options
def command(as_json: bool, **connection: str | None) -> None:
    """Show the limits of each route (credential and model family) a minute.

    USED is what of its bucket is gone, PACE how much of its refill may start now, QUEUED how many
    seconds of it wait. A route that is free is far from its limits: nothing waits for it.
    """
    options.run_async(_limits(connection, as_json))


async def _limits(connection: dict[str, str | None], as_json: bool) -> None:
    from agentflow.cli import output
    from agentflow.views.limits import sentence

    async with options.client(connection) as client:
        routes = await client.limits()
    if as_json:
        for route in routes:
            output.show_json(route)
        return
    if not routes:
        output.show("no limits are known yet; the first answer of a worker tells them")
        return
    rows = [
        (
            route.route if axis is route.axes[0] else "",
            axis.axis,
            f"{axis.limit:,.0f}",
            "" if axis.used is None else f"{axis.used:.0%}",
            f"{axis.rate:.0%}",
            output.seconds(axis.queued_s) if axis.queued_s and route.state == "governed" else "",
            str(route.waiting) if axis.axis == route.axis else "",
            output.seconds(route.starts_s)
            if axis.axis == route.axis and route.starts_s is not None
            else "",
        )
        for route in routes
        for axis in route.axes
    ]
    headings = ("ROUTE", "LIMIT", "A MINUTE", "USED", "PACE", "QUEUED", "WAIT", "NEXT IN")
    if rows:
        output.table(headings, rows)
    for route in routes:
        output.show(sentence(route))
