"""`agentflow why`: the reason why a task waits."""

from __future__ import annotations

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option


@click.command("why")
@click.argument("task_id", metavar="ID")
@json_option
@connection_options
def command(task_id: str, as_json: bool, **connection: str | None) -> None:
    """Say in one or two sentences why a task waits, or where it stands.

    Of a task that no worker has seen yet only a master knows the place in its queue.
    """
    options.run_async(_why(connection, task_id, as_json))


async def _why(connection: dict[str, str | None], task_id: str, as_json: bool) -> None:
    from agentflow.cli import output

    async with options.client(connection) as client:
        why = await client.why(task_id)
    if as_json:
        output.show_json(why)
    else:
        output.show(f"{why.state}: {why.text}".replace("\n", " "))
