"""`agentflow retry`: run failed tasks again."""

from __future__ import annotations

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option, query_option
from agentflow.errors import UsageError


@click.command("retry")
@click.argument("ids", metavar="ID...", nargs=-1)
@query_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask, however many they are.")
@json_option
@connection_options
def command(
    ids: tuple[str, ...], query: str | None, yes: bool, as_json: bool, **connection: str | None
) -> int:
    """Run failed tasks again, with what was kept of them.

    Their failures count from 0 again; attempts, usage and history stay. `agentflow dead retry` does
    so for all that failed in one way. Exits 1 where one could not be retried.
    """
    from agentflow.cli.commands.dead import retry_found, retry_ids

    if bool(ids) == bool(query):
        raise UsageError("say which failed tasks: ids, or --query (not both)")
    if query:
        return options.run_async(retry_found(connection, query, yes, as_json))
    return options.run_async(retry_ids(connection, ids, yes, as_json))
