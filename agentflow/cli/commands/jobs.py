"""`agentflow jobs`: the jobs that a server knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option
from agentflow.cli.reached import simulate_option

if TYPE_CHECKING:
    from agentflow.views.jobs import JobRow


@click.command("jobs")
@simulate_option
@json_option
@connection_options
def command(as_json: bool, simulate: bool, **connection: str | None) -> None:
    """List the jobs: how far they are, what they cost, what they wait for. The latest first.

    A job is what `agentflow run` makes of a file. Needs no master, and no stack that runs.
    """
    options.run_async(_jobs(connection, simulate, as_json))


async def _jobs(connection: dict[str, str | None], simulate: bool, as_json: bool) -> None:
    from agentflow.cli import output
    from agentflow.cli.reached import reached
    from agentflow.views.jobs import row_of_job

    async with reached(connection, simulate=simulate) as client:
        known = await client.operate.jobs.all()
        rows = [row_of_job(job, client.js.now()) for job in known]
    if as_json:
        for row in rows:
            output.show_json(row)
        return
    if not rows:
        output.show("no jobs")
        return
    headings = ("JOB", "STATE", "DONE", "FAILED", "COST", "AGE", "FILE", "WAITS")
    output.table(headings, [_cells(row) for row in rows], state=1)


def _cells(row: JobRow) -> tuple[str, ...]:
    from agentflow.cli import output

    return (
        row.id,
        row.state + (f" {output.SIMULATED}" if row.simulated else ""),
        f"{row.done:,}/{row.lines:,} ({row.progress:.0%})",
        f"{row.failed:,}" if row.failed else "",
        output.money(row.cost_usd),
        output.ago(row.started),
        row.file,
        row.waiting,
    )
