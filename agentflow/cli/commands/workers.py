"""`agentflow workers`: who works, where, at what."""

from __future__ import annotations

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option


@click.command("workers")
@json_option
@connection_options
def command(as_json: bool, **connection: str | None) -> None:
    """List the workers, the lost ones last. Needs a master."""
    options.run_async(_workers(connection, as_json))


async def _workers(connection: dict[str, str | None], as_json: bool) -> None:
    from agentflow.cli import output, pauses

    async with options.client(connection) as client:
        workers = await client.workers()
        stopped = [] if as_json else await client.pauses()
    if as_json:
        for worker in workers:
            output.show_json(worker)
        return
    if not workers:
        output.show("no workers; start one with: agentflow worker")
        pauses.show(stopped)
        return
    rows = [
        (
            worker.name,
            "lost" if worker.lost else "stopping" if worker.stopping else "working",
            str(worker.pid),
            worker.host,
            ",".join(worker.queues),
            f"{worker.running}/{worker.slots}",
            str(worker.held or ""),
            output.size(worker.rss_bytes),
            f"{output.seconds(worker.age_s)} ago",
            " ".join([output.SIMULATED] * worker.simulated + worker.notes),
        )
        for worker in workers
    ]
    headings = ("NAME", "STATE", "PID", "HOST", "QUEUES", "RUNNING", "HELD", "RSS", "SEEN", "")
    output.table(headings, rows, state=1)
    pauses.show(stopped)
