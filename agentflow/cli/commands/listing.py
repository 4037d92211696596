"""`agentflow list`: tasks, newest first, as the master knows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from agentflow.cli import options
from agentflow.cli.options import (
    Duration,
    connection_options,
    job_option,
    json_option,
    query_option,
)

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
@click.option(
    "--state", multiple=True, metavar="STATE,...", help="Only tasks in these states. Repeatable."
)
@click.option("--queue", "-q", help="Only tasks of this queue.")
@click.option("--kind", help="Only tasks of this kind.")
@click.option("--label", multiple=True, metavar="K=V", help="Only tasks with it. Repeatable.")
@job_option
@click.option(
    "--since", type=Duration(), metavar="TIME", help="Only what changed within it: 10m, 2h."
)
@query_option
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
    state: tuple[str, ...],
    label: tuple[str, ...],
    job: str | None,
    since: float | None,
    as_json: bool,
    queue: str | None,
    kind: str | None,
    query: str | None,
    limit: int,
    **connection: str | None,
) -> None:
    """List tasks, newest first. Needs a master."""
    wanted = {
        "state": states(state),
        "queue": queue,
        "kind": kind,
        "query": query,
        "limit": limit,
        "since": None if since is None else datetime.now(UTC) - timedelta(seconds=since),
    }
    options.run_async(_list(connection, wanted, options.labels(label), job, as_json))


def states(given: tuple[str, ...]) -> list[str]:
    """The states that were named, with commas between. Raises BadParameter."""
    from difflib import get_close_matches

    named = [each for text in given for each in text.split(",") if each]
    for each in named:
        if each not in STATES:
            near = get_close_matches(each, STATES, 1)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(STATES)}"
            text = f"there is no state {each[:40]!r}; {meant}"
            raise click.BadParameter(text, param_hint="--state")
    return named


async def _list(
    connection: dict[str, str | None],
    wanted: dict[str, Any],
    label: dict[str, str],
    job: str | None,
    as_json: bool,
) -> None:
    from agentflow.cli import output
    from agentflow.views.api import task_json

    async with options.reached(connection) as client:
        label = await options.with_job(client, label, job)
        tasks = await client.list(label=label, **wanted)
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
            task.title or "",
            _text(task),
        )
        for task in tasks
    ]
    headings = ("ID", "STATE", "QUEUE", "KIND", "ATT", "AGE", "TOKENS", "COST", "TITLE", "TEXT")
    output.table(headings, rows, state=1)


def _text(task: Result) -> str:
    from agentflow.cli import output

    text = task.error.message if task.error else task.text or ""
    resumes = output.when(task.resume_at)
    return f"resumes {resumes}  {text}".rstrip() if resumes else text
