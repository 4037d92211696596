"""`agentflow pause`: let no task of a queue or kind start; or list what is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option
from agentflow.errors import UsageError

if TYPE_CHECKING:
    from agentflow.client import Client


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
            if queue is not None:
                await _warn_unknown(client, queue)
    if as_json:
        for pause in standing:
            output.show_json(pause)
        return
    for line in pauses.lines(standing) or ["nothing is paused or closed"]:
        output.show(line)


async def _warn_unknown(client: Client, queue: str) -> None:
    """A pause of a queue that nobody uses is a slip more often than not; it stands all the same."""
    from difflib import get_close_matches

    from agentflow.bus.streams import depths
    from agentflow.cli import output
    from agentflow.errors import BusError

    try:
        known = set((await depths.read(client.js)).depths)
        known |= {each.queue for each in (await client.stats()).queues}
    except BusError:
        return  # nobody can tell
    if queue in known:
        return
    near = get_close_matches(queue, known, 1)
    meant = f"; did you mean {near[0]}? To lift it: agentflow resume {queue}" if near else ""
    output.warn(f"no queue {queue} is known; the pause stands for when it comes{meant}")
