"""`agentflow results`: the results of a job once more, from the log."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options
from agentflow.cli.reached import simulate_option
from agentflow.errors import UsageError

if TYPE_CHECKING:
    from agentflow.views.ledger import Line

FORMATS = ("jsonl", "csv", "parquet")


@click.command("results")
@click.argument("job", metavar="JOB")
@click.option("--format", "format_name", type=click.Choice(FORMATS), help="[default: by -o]")
@click.option("--out", "-o", metavar="FILE", help="[default: standard output]")
@simulate_option
@connection_options
def command(
    job: str,
    format_name: str | None,
    out: str | None,
    simulate: bool,
    **connection: str | None,
) -> None:
    """Write the results of a job again, in the order of its input.

    They come from the server's log, which keeps them for seven days, so this works where the file
    of results was lost, and while the job runs. What stands in the input beside a task (columns, a
    custom_id) is read from there again, where the file is unchanged. Needs no master, and no stack
    that runs.
    """
    suffix = Path(out).suffix.lstrip(".").lower() if out and out != "-" else ""
    chosen = format_name or (suffix if suffix in FORMATS else "jsonl")
    if chosen == "parquet" and (not out or out == "-"):
        raise UsageError("a Parquet file needs a name: -o FILE")
    options.run_async(_results(connection, job, simulate, chosen, out))


async def _results(
    connection: dict[str, str | None], named: str, simulate: bool, chosen: str, out: str | None
) -> None:
    from agentflow.cli import output
    from agentflow.cli.reached import reached
    from agentflow.job.beside import Beside
    from agentflow.job.recovered import Recovered

    with tempfile.TemporaryFile() as file:
        found = Recovered(file)
        async with reached(connection, simulate=simulate) as client:
            job = await client.operate.jobs.find(named)
            if out and job.driven(client.js.now()) and str(Path(out).absolute()) == job.results:
                raise UsageError(f"{out} is being written by the job itself; name another file")
            await found.read(client, job)
        beside = Beside(job.input)
        _write(lambda: beside.joined(found.lines()), chosen, out)
    if beside.lack:
        output.note(f"without columns and custom ids of the input: {beside.lack}")
    if len(found) < job.lines:
        output.note(
            f"{len(found):,} of {job.lines:,} lines of {job.file} have a result under this job; "
            "what another job had asked before is found there, what has not run by the same "
            "`agentflow run`"
        )


def _write(lines: Callable[[], Iterator[Line]], chosen: str, out: str | None) -> None:
    from agentflow.job import outputs

    if out and out != "-":
        outputs.write(Path(out), lines, chosen)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results"
        outputs.write(path, lines, chosen)
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
