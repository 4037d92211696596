"""`agentflow resume`: lift pauses, open closed pools."""

from __future__ import annotations

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option
from agentflow.errors import UsageError


@click.command("resume")
@click.argument("queue", metavar="[QUEUE]", required=False)
@click.option("--kind", metavar="KIND", help="A paused kind.")
@click.option("--pool", metavar="POOL[.FAMILY]", help="A closed pool, or one family of it.")
@click.option("--all", "everything", is_flag=True, help="All that is paused or closed.")
@json_option
@connection_options
def command(
    queue: str | None,
    kind: str | None,
    pool: str | None,
    everything: bool,
    as_json: bool,
    **connection: str | None,
) -> int:
    """Let what `agentflow pause` or a refused credential stopped go on.

    Workers go on at once. Exits 1 where nothing was paused or closed. Needs no master.
    """
    if sum((queue is not None, kind is not None, pool is not None, everything)) != 1:
        raise UsageError("say what to resume: a queue, --kind, --pool or --all (one of them)")
    return options.run_async(_resume(connection, queue, kind, pool, everything, as_json))


async def _resume(
    connection: dict[str, str | None],
    queue: str | None,
    kind: str | None,
    pool: str | None,
    everything: bool,
    as_json: bool,
) -> int:
    from agentflow.cli import output

    async with options.client(connection) as client:
        lifted = await client.resume(queue, kind=kind, pool=pool, all=everything)
    for pause in lifted:
        if as_json:
            output.show_json(pause)
        else:
            output.show(f"{pause.what} {pause.name} goes on")
    if not lifted:
        output.warn("nothing of that is paused or closed; `agentflow pause` lists what is")
    return 0 if lifted or everything else 1
