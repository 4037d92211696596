"""`agentflow withdraw`: take back what waits of a job."""

from __future__ import annotations

from collections import Counter

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option
from agentflow.cli.reached import simulate_option


@click.command("withdraw")
@click.argument("job", metavar="JOB")
@simulate_option
@json_option
@connection_options
def command(job: str, simulate: bool, as_json: bool, **connection: str | None) -> None:
    """Take back what waits of a job, so that nobody runs or pays for it. What runs goes on.

    Nothing is lost by it: the same `agentflow run` goes on with what was withdrawn. Needs no
    master, and no stack that runs.
    """
    options.run_async(_withdraw(connection, job, simulate, as_json))


async def _withdraw(
    connection: dict[str, str | None], named: str, simulate: bool, as_json: bool
) -> None:
    from agentflow.cli import output
    from agentflow.cli.confirm import counted
    from agentflow.cli.reached import reached
    from agentflow.rules.withdrawal import Step

    counts: Counter[str] = Counter()
    async with reached(connection, simulate=simulate) as client:
        job = await client.operate.jobs.find(named)
        async for one in client.operate.withdrawing.job(job.id):
            counts["running" if one.step == Step.ASK else "withdrawn"] += 1
    if as_json:
        output.show_json({"job": job.id, "withdrawn": 0, "running": 0, **counts})
        return
    runs = f"; {counts['running']:,} run and go on" if counts["running"] else ""
    output.show(f"withdrew {counted(counts['withdrawn'], 'task')} of job {job.id}{runs}")
