"""`agentflow wait`: until a job, or all tasks with a label, have ended; for scripts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from agentflow.cli import options
from agentflow.cli.options import Duration, connection_options, json_option
from agentflow.errors import UsageError

if TYPE_CHECKING:
    from agentflow.client import Client
    from agentflow.protocol.jobs import Job

EVERY = 1.0
TIMED_OUT = 124
"""As timeout(1) says it."""
KILLED = timedelta(seconds=20)
"""Who drives a job says so every 5 s."""
ENDED = ("succeeded", "failed", "cancelled")


@click.command("wait")
@click.option("--job", metavar="JOB", help="Wait for this job (`agentflow jobs`).")
@click.option("--label", multiple=True, metavar="K=V", help="Wait for all with it. Repeatable.")
@click.option("--fail-fast", is_flag=True, help="Exit 1 as soon as one has failed.")
@click.option("--timeout", type=Duration(), metavar="TIME", help="Wait no longer; exits 124 then.")
@json_option
@connection_options
def command(
    job: str | None,
    label: tuple[str, ...],
    fail_fast: bool,
    timeout: float | None,
    as_json: bool,
    **connection: str | None,
) -> int:
    """Wait until all tasks of a job, or with a label, have ended. Needs a master.

    Exit codes: 0 all succeeded, 1 some failed or were cancelled, or the job was broken off, 124
    after --timeout.
    """
    labels = options.labels(label)
    if not (job or labels):
        raise UsageError("say what to wait for: --job JOB, or --label K=V")
    work = _wait(connection, labels, job, fail_fast, timeout, as_json)
    return options.run_async(work)


async def _wait(
    connection: dict[str, str | None],
    label: dict[str, str],
    job: str | None,
    fail_fast: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    from agentflow.cli import output

    loop = asyncio.get_running_loop()
    end = None if timeout is None else loop.time() + timeout
    told = ""
    async with options.client(connection) as client:
        label = await options.with_job(client, label, job)
        while True:
            known = await client.operate.jobs.find(job) if job is not None else None
            counts = await _counts(client, label)
            if not counts and known is None:
                raise UsageError("no task has this label; `agentflow list` shows what there is")
            said = ", ".join(f"{count:,} {state}" for state, count in counts.items()) or "no tasks"
            if said != told and not as_json:
                output.note(said)
            told = said
            failed = sum(counts.get(state, 0) for state in ENDED[1:])
            over = end is not None and loop.time() >= end
            broken = known is not None and _is_broken(client, known)
            if _is_over(counts, known, broken) or (fail_fast and failed) or over:
                break
            await asyncio.sleep(EVERY)
    if as_json:
        output.show_json({"counts": counts, "failed": failed, "ended": not over})
    if over and not _is_over(counts, known, broken):
        return TIMED_OUT
    if broken and not failed:
        output.warn("whoever drove the job ended before it was done; `agentflow jobs` has more")
    return 1 if failed or broken else 0


async def _counts(client: Client, label: dict[str, str]) -> dict[str, int]:
    """How many tasks are in each state, by the master's index."""
    from agentflow.client.operate.bulk import UNENDED

    counts = {}
    for state in (*map(str, UNENDED), *ENDED):
        total = await client.operate.bulk.total(state, label)
        if total:
            counts[state] = total
    return counts


def _is_over(counts: dict[str, int], job: Job | None, broken: bool) -> bool:
    """Whether nothing is left to end. Of a job not all lines may have been submitted yet."""
    if any(state not in ENDED for state in counts):
        return False
    return job is None or broken or job.ended is not None or job.done + job.failed >= job.lines


def _is_broken(client: Client, job: Job) -> bool:
    """Whether nobody drives the job any more, and it was not done."""
    if job.ended is not None:
        return job.done + job.failed < job.lines
    return client.js.now() - job.seen > KILLED
