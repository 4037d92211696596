"""`agentflow list`: tasks, newest first, as the master knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, job_option, json_option

if TYPE_CHECKING:
    from agentflow.views.result import Result

STATES = (
    "queued",
    "running",
    "scheduled",
    "retrying",
    "waiting",
    "succeeded",
    "failed",
    "cancelled",
)


@click.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only tasks in this state.")
@click.option("--queue", "-q", help="Only tasks of this queue.")
@click.option("--label", multiple=True, metavar="K=V", help="Only tasks with it. Repeatable.")
@job_option
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=1, max=1_000_000),
    default=50,
    show_default=True,
    help="Most tasks to show.",
)
@json_option
@connection_options
def command(
    state: str | None,
    queue: str | None,
    label: tuple[str, ...],
    job: str | None,
    limit: int,
    as_json: bool,
    **connection: str | None,
) -> None:
    """List tasks, newest first. Needs a master."""
    options.run_async(_list(connection, state, queue, options.labels(label), job, limit, as_json))


async def _list(
    connection: dict[str, str | None],
    state: str | None,
    queue: str | None,
    label: dict[str, str],
    job: str | None,
    limit: int,
    as_json: bool,
) -> None:
    from agentflow.cli import output
    from agentflow.views.api import task_json

    async with options.reached(connection) as client:
        label = await options.with_job(client, label, job)
        tasks = await client.list(state=state, queue=queue, label=label, limit=limit)
    if as_json:
        for task in tasks:
            output.show_json(task_json(task))
        return
    if not tasks:
        output.show("no tasks")
        return
    rows = [
        (
            task.id,
            task.state + (f" {output.SIMULATED}" if task.simulated else ""),
            task.queue,
            task.kind,
            str(task.attempts or ""),
            output.ago(task.timings.submitted),
            f"{task.usage.output_tokens:,}" if task.usage.output_tokens else "",
            output.money(task.cost_usd) if task.attempts else "",
            _text(task),
        )
        for task in tasks
    ]
    headings = ("ID", "STATE", "QUEUE", "KIND", "ATT", "AGE", "TOKENS", "COST", "TEXT")
    output.table(headings, rows, state=1)


def _text(task: Result) -> str:
    from agentflow.cli import output

    text = task.error.message if task.error else task.text or ""
    resumes = output.when(task.resume_at)
    return f"resumes {resumes}  {text}".rstrip() if resumes else text
