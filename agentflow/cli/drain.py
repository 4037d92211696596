"""`agentflow drain`: let workers finish and exit."""

from __future__ import annotations

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option
from agentflow.errors import UsageError


@click.command("drain")
@click.argument("worker", metavar="[WORKER]", required=False)
@click.option("--all", "everything", is_flag=True, help="Every worker.")
@json_option
@connection_options
def command(worker: str | None, everything: bool, as_json: bool, **connection: str | None) -> int:
    """Tell WORKER (its name, or its actor in `agentflow workers --json`) to stop in order.

    It takes no more tasks, finishes what it runs or hands it back after its grace period, and
    exits. A supervisor (systemd, docker, `agentflow up`) may start it again. Needs no master.
    """
    if (worker is None) == (not everything):
        raise UsageError("say which worker: its name, or --all (not both)")
    return options.run_async(_drain(connection, worker, everything, as_json))


async def _drain(
    connection: dict[str, str | None], worker: str | None, everything: bool, as_json: bool
) -> int:
    from agentflow.cli import output

    async with options.flow(connection) as flow:
        found = await flow.drain(worker, all=everything)
    for view in found:
        if as_json:
            output.show_json(view)
            continue
        tasks = f"{view.running:,} task" + ("" if view.running == 1 else "s")
        told = "stops already" if view.stopping else "stops"
        output.show(f"{view.name} ({view.host}) {told}; it runs {tasks}")
    if not found and not as_json:
        output.show("no workers")
    return 0
