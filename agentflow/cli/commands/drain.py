"""`agentflow drain`: let what runs finish, and start nothing more: a worker, a queue or a kind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from agentflow.cli import options
from agentflow.cli.confirm import counted
from agentflow.cli.options import Duration, connection_options, json_option
from agentflow.errors import UsageError

if TYPE_CHECKING:
    from agentflow.rules.draining import Busy, DrainView


@click.command("drain")
@click.argument("worker", metavar="[WORKER]", required=False)
@click.option("--all", "everything", is_flag=True, help="Every worker.")
@click.option("--queue", metavar="QUEUE", help="Pause this queue, and wait until none of it runs.")
@click.option("--kind", metavar="KIND", help="The same for a kind, in every queue.")
@click.option("--reason", metavar="TEXT", default="drain", help="Of the pause; shown to who asks.")
@click.option(
    "--timeout",
    type=Duration(),
    metavar="DURATION",
    help="With --queue or --kind: wait no longer, e.g. 10m. [default: as long as it takes]",
)
@json_option
@connection_options
def command(
    worker: str | None,
    everything: bool,
    queue: str | None,
    kind: str | None,
    reason: str,
    timeout: float | None,
    as_json: bool,
    **connection: str | None,
) -> int:
    """Let what runs finish, and start nothing more. Needs no master.

    WORKER (its name, or its actor in `agentflow workers --json`) takes no more tasks, finishes what
    it runs or hands it back after its grace period, and exits. Under `agentflow up` it stays down;
    systemd or docker may start it again.

    A queue or a kind is paused, for all workers and those to come, until `agentflow resume`; the
    command returns when nothing of it runs. Interrupted, or after --timeout (exit code 1), the
    pause stays.
    """
    if sum((worker is not None, everything, queue is not None, kind is not None)) != 1:
        raise UsageError("say what to drain: a worker, --all, --queue or --kind (one of them)")
    if queue is not None or kind is not None:
        return options.run_async(_tasks(connection, queue, kind, reason, timeout, as_json))
    if timeout is not None:
        raise UsageError("--timeout is for --queue and --kind; a worker has its grace period")
    return options.run_async(_workers(connection, worker, everything, as_json))


async def _workers(
    connection: dict[str, str | None], worker: str | None, everything: bool, as_json: bool
) -> int:
    from agentflow.cli import output

    async with options.client(connection) as client:
        drained = await client.drain(worker, all=everything)
    for view in drained:
        if as_json:
            output.show_json(view)
            continue
        told = "stops already" if view.stopping else "stops"
        output.show(f"{view.name} ({view.host}) {told}; it runs {counted(view.running, 'task')}")
    if not drained and not as_json:
        output.show("no workers")
    return 0


async def _tasks(
    connection: dict[str, str | None],
    queue: str | None,
    kind: str | None,
    reason: str,
    timeout: float | None,
    as_json: bool,
) -> int:
    from agentflow.cli import output
    from agentflow.views import gates as gateviews

    last = ""

    def told(view: DrainView) -> None:
        nonlocal last
        still = _still(view)
        if not as_json and still and still != last:
            last = still
            output.warn(f"paused; {still}")

    async with options.client(connection) as client:
        try:
            view = await client.drain_tasks(
                queue, kind=kind, reason=reason, timeout=timeout, told=told
            )
        except asyncio.CancelledError:
            output.warn("interrupted; the pause stays: `agentflow pause` shows it")
            raise
    if as_json:
        output.show_json(view)
        return 0 if view.done else 1
    what = f"{view.gate.what} {view.gate.name}"
    waits = f"; {counted(view.waiting, 'task')} of it wait" if view.waiting else ""
    lift = f"To let it go on: {gateviews.remedy(view.gate)}"
    for lost in view.silent:
        output.warn(
            f"{lost.name} ({lost.host}) ran {counted(lost.running, 'task')} and is silent; "
            "another worker takes them up after the pause"
        )
    if view.done:
        output.show(f"{what} is drained: nothing of it runs{waits}. {lift}")
        return 0
    output.show(f"{what} is paused, and {_still(view) or 'not every worker has spoken'}. {lift}")
    return 1


def _still(view: DrainView) -> str:
    """What still runs, and where; empty when nothing does."""
    if not view.running:
        return ""
    where = ", ".join(f"{busy.running:,} at {_where(busy)}" for busy in view.workers[:10])
    more = ", ..." if len(view.workers) > 10 else ""
    still = "still runs" if view.running == 1 else "still run"
    return f"{counted(view.running, 'task')} {still}: {where}{more}"


def _where(busy: Busy) -> str:
    return f"{busy.name} ({busy.host})"
