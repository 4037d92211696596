"""`agentflow mcp`: let an agent look at the stack, and operate it where it may."""

from __future__ import annotations

import importlib.util

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options
from agentflow.errors import UsageError


@click.command("mcp")
@click.option(
    "--allow-acts", is_flag=True, help="Also submit, cancel, retry, pause and resume: it may cost."
)
@connection_options
def command(allow_acts: bool, **connection: str | None) -> None:
    """Serve the Model Context Protocol on stdin and stdout, for an agent that starts it.

    Its tools only look, unless --allow-acts is given. Needs: pip install 'agentflow-nats[mcp]'
    """
    if importlib.util.find_spec("mcp") is None:
        raise UsageError("`agentflow mcp` needs the package mcp: pip install 'agentflow-nats[mcp]'")
    from agentflow.mcp import server

    options.run_async(server.serve(options.client(connection), acts=allow_acts))
