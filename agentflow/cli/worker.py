"""`agentflow worker`: one worker process."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from agentflow.cli.observing import log_options, metrics_option, start_log
from agentflow.cli.options import connection_options, resolve


@click.command("worker")
@click.argument("target", metavar="[MODULE:APP]", required=False)
@click.option(
    "--queues", default="default", show_default=True, help="Queues to serve, separated by commas."
)
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="Tasks at once.",
)
@click.option(
    "--lease",
    type=click.FloatRange(0.5, 3600),
    help="Seconds a task stays with a silent worker. [default: 15, or what the consumers have]",
)
@click.option("--name", help="Name to show for this worker.")
@click.option("--kinds", help="Kinds to run, separated by commas. [default: all, or those of APP]")
@click.option(
    "--grace",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Seconds running tasks may finish in after SIGTERM.",
)
@metrics_option("Serve Prometheus metrics here.")
@log_options
@connection_options
def command(
    target: str | None,
    queues: str,
    concurrency: int,
    lease: float | None,
    name: str | None,
    kinds: str | None,
    grace: float,
    metrics: tuple[str, int] | None,
    **connection: Any,
) -> None:
    """Run tasks until told to stop.

    MODULE:APP names an agentflow.App of a module in this directory or installed: the worker then
    runs the kinds of its functions. Ours (claude, echo, sleep, claude-cli) come with --kinds, which
    chooses from both; claude-cli, which runs programs on this machine, comes in no other way.

    SIGTERM and SIGINT finish what runs, up to the grace period, and hand back the rest; a second
    signal hands back at once. Exits 0 after an orderly stop.
    """
    start_log(connection)
    from agentflow.local.parent import stop_with_parent
    from agentflow.worker.process import serve

    stop_with_parent()
    own = None
    if target is not None:
        from agentflow.cli import target as targets

        own = targets.load(target).handlers()
    asyncio.run(
        serve(
            resolve(connection),
            queues=[queue.strip() for queue in queues.split(",") if queue.strip()],
            slots=concurrency,
            lease=lease,
            name=name,
            kinds=[kind.strip() for kind in kinds.split(",")] if kinds else None,
            own=own,
            grace=grace,
            metrics=metrics,
        )
    )
