"""`agentflow pause`: let no task of a queue or kind start; or list what is stopped."""

from __future__ import annotations

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option
from agentflow.errors import UsageError


@click.command("pause")
@click.argument("queue", metavar="[QUEUE]", required=False)
@click.option("--kind", metavar="KIND", help="Pause this kind in every queue.")
@click.option("--reason", metavar="TEXT", default="operator", help="Why; shown to who asks.")
@json_option
@connection_options
def command(
    queue: str | None, kind: str | None, reason: str, as_json: bool, **connection: str | None
) -> None:
    """Let no task of QUEUE or of a kind start, until `agentflow resume`.

    What runs goes on; submissions are stored and wait. Without a queue or kind, what is paused or
    closed now is listed. Needs no master.
    """
    if queue is not None and kind is not None:
        raise UsageError("pause a queue or a kind, one at a time")
    options.run_async(_pause(connection, queue, kind, reason, as_json))


async def _pause(
    connection: dict[str, str | None],
    queue: str | None,
    kind: str | None,
    reason: str,
    as_json: bool,
) -> None:
    from agentflow.cli import output, pauses

    async with options.client(connection) as client:
        if queue is None and kind is None:
            standing = await client.pauses()
        else:
            standing = [await client.pause(queue, kind=kind, reason=reason)]
    if as_json:
        for pause in standing:
            output.show_json(pause)
        return
    for line in pauses.lines(standing) or ["nothing is paused or closed"]:
        output.show(line)
