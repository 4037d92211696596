"""`agentflow master`: one master process."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import click

from agentflow.cli.options import connection_options, resolve
from agentflow.cli.telemetry import log_options, metrics_option, start_log
from agentflow.protocol import limits


@click.command("master")
@click.option("--name", help="Name to show for this master.")
@click.option(
    "--retention",
    # Tasks may be parked for six days, and their logs must outlive that.
    type=click.IntRange(limits.RETENTION // limits.DAY, 365),
    default=limits.RETENTION // limits.DAY,
    show_default=True,
    metavar="DAYS",
    help="How long records are kept, when the streams are created.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for NATS at the start.",
)
@click.option("--durable", is_flag=True, help="Warn unless what is acknowledged is on disk.")
@click.option(
    "--monitor",
    metavar="URL",
    help="The server's monitoring port. [default: port 8222 of its host]",
)
@metrics_option("Serve Prometheus metrics here.")
@log_options
@connection_options
def command(
    name: str | None,
    retention: int,
    wait: float,
    durable: bool,
    monitor: str | None,
    metrics: tuple[str, int] | None,
    **connection: Any,
) -> None:
    """Create the streams, answer list, get, stats and workers, notice what is lost.

    Tasks run without a master. Several may run; all of them answer. SIGTERM and SIGINT stop it.
    """
    start_log(connection)
    from agentflow.local.parent import stop_with_parent
    from agentflow.master import serve

    stop_with_parent()
    # It gives way to those who do the work: what it knows may be late, no task waits for it.
    with contextlib.suppress(OSError):
        os.nice(15)
    asyncio.run(
        serve(
            resolve(connection),
            name=name,
            retention=float(retention * limits.DAY),
            wait=wait,
            durable=durable,
            monitor=monitor,
            metrics=metrics,
        )
    )
