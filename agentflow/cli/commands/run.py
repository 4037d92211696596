"""`agentflow run FILE`: a whole job, from a file of prompts to a file of results."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentflow.cli.options import connection_options, resolve
from agentflow.cli.workforce import chosen, workforce_options
from agentflow.errors import CostLimitReached

if TYPE_CHECKING:
    from agentflow.cli.report import Display
    from agentflow.job.job import Job
    from agentflow.job.spec import Ending
    from agentflow.job.tally import Tally

INTERRUPTED = 130


@click.command("run")
@click.argument("file")
@click.option(
    "--out",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("results.jsonl"),
    show_default=True,
    help="File of the results; one that is there is continued.",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 200),
    help="Worker processes to start. [default: 2, with --nats 0]",
)
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="Tasks at once in each worker.",
)
@workforce_options
@click.option("--queue", default="default", show_default=True, help="Queue to use.")
@click.option(
    "--simulate", is_flag=True, help="Answer from a local simulator: costs nothing, needs no key."
)
@click.option("--store", help="Directory of the local stack's data. [default: the user's own]")
@click.option("--model", help="Model for lines that name none.")
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0, min_open=True),
    metavar="USD",
    help="Stop submitting when the job has cost this much, earlier runs included.",
)
@click.option("--retry-failed", is_flag=True, help="Run failed tasks again.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and no progress.")
@connection_options(store=False)
def command(
    file: str,
    out: Path,
    workers: int | None,
    concurrency: int,
    processes: int | None,
    app: str | None,
    kinds: str | None,
    queue: str,
    simulate: bool,
    store: str | None,
    model: str | None,
    max_cost: float | None,
    retry_failed: bool,
    as_json: bool,
    **connection: str | None,
) -> int:
    """Run all tasks of FILE and write their results.

    FILE is .jsonl (a task object a line), .txt (a prompt a line) or - for standard input. It is
    checked whole before anything is spent. Interrupted and started again, the job goes on where it
    was: what has succeeded is neither run nor paid again.

    Exit codes: 0 all succeeded, 1 some failed, 2 wrong usage or input, 3 the stack could not start,
    4 stopped by the cost limit, 130 interrupted.
    """
    from agentflow.cli.report import Display, print_summary
    from agentflow.job import source
    from agentflow.job.job import Job
    from agentflow.job.spec import JobSpec
    from agentflow.protocol import subjects
    from agentflow.rules.records import micro

    spec = JobSpec(
        results=out,
        queue=queue,
        simulate=simulate,
        connect=resolve(connection, local=False),
        store=store,
        workers=workers,
        processes=processes,
        concurrency=concurrency,
        app=app,
        kinds=tuple(chosen(app, kinds)),
        max_cost_micro=None if max_cost is None else micro(max_cost),
        retry_failed=retry_failed,
    )
    subjects.check_queue(queue)
    job = Job(spec, source.load(file, sys.stdin.buffer, model=model, simulate=simulate))
    ending = asyncio.run(_run(job, Display(job.tally, quiet=as_json)))
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode({**job.tally.as_json(), "results": str(out)}))
    else:
        print_summary(job.tally, str(out))
    return _told(ending, job.tally, max_cost)


async def _run(job: Job, display: Display) -> Ending:
    """Run it; Ctrl-C becomes an orderly end."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, job.stop)
    return await job.run(display)


def _told(ending: Ending, tally: Tally, max_cost: float | None) -> int:
    """The exit code, after a sentence about what is left. Raises CostLimitReached."""
    from agentflow.job.spec import Ending

    left = tally.total - tally.done
    if ending is Ending.INTERRUPTED:
        click.echo(
            f"Interrupted with {left} of {tally.total} tasks left. "
            "Run the same command again to go on; what has succeeded is not paid twice.",
            err=True,
        )
        return INTERRUPTED
    if ending is Ending.COST_LIMIT:
        why = (
            f"no price is known for {', '.join(sorted(tally.unpriced))}, so no limit can hold"
            if tally.unpriced
            else f"the job has cost {tally.cost_text}, the limit is ${max_cost:g}"
        )
        raise CostLimitReached(f"Stopped with {left} tasks not submitted: {why}.")
    return 1 if tally.failed else 0
