"""`agentflow worker`: one worker process, or several under one parent."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import click

from agentflow.cli.options import connection_options, resolve
from agentflow.cli.telemetry import log_options, metrics_option, start_log
from agentflow.cli.workforce import (
    ISOLATE,
    LEASE,
    QUEUES,
    REDACT,
    SLOTS,
    limit_options,
    limits_of,
    separated,
)
from agentflow.errors import UsageError
from agentflow.handlers.registry import ALL
from agentflow.protocol.identity import process_name


@click.command("worker")
@click.argument("target", metavar="[MODULE:APP]", required=False)
@QUEUES
@SLOTS
@LEASE
@click.option(
    "--name", help="Name to show for this worker; with --processes, NAME.1, NAME.2, and so on."
)
@click.option(
    "--kinds",
    metavar="KIND,...",
    help="Kinds to run; all means APP's and ours. [default: ours, or those of APP]",
)
@click.option(
    "--grace",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Seconds running tasks may finish in after SIGTERM.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Worker processes under this one, each with --concurrency slots; SIGHUP loads new code.",
)
@click.option(
    "--batches/--no-batches",
    default=True,
    show_default=True,
    help="Gather tasks that may wait into batches of the Message Batches API; for kind claude.",
)
@ISOLATE
@REDACT
@click.option("--reload", is_flag=True, help="For development: load new code when a file changes.")
@limit_options
@metrics_option("Serve Prometheus metrics here; with --processes N on N ports from here on.")
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
    processes: int | None,
    batches: bool,
    reload: bool,
    metrics: tuple[str, int] | None,
    **connection: Any,
) -> int:
    """Run tasks until told to stop.

    MODULE:APP names an agentflow.App of a module in this directory or installed: the worker then
    runs the kinds of its functions. Ours (claude, echo, sleep, claude-cli) come with --kinds, which
    chooses from both; claude-cli, which runs programs on this machine, comes in no other way.

    SIGTERM, SIGINT and SIGHUP finish what runs, up to the grace period, and hand back the rest; a
    second signal hands back at once. Exits 0 after an orderly stop.

    With --processes, one that dies is replaced, and SIGHUP replaces one after the other by a
    process with the code as it is then; no task is lost or run twice.
    """
    start_log(connection)
    limits = limits_of(connection)
    from agentflow.local import parent
    from agentflow.telemetry import logs
    from agentflow.worker import orderly
    from agentflow.worker.process import run, serve

    status = orderly.asked_for()
    wanted = [kind.strip() for kind in kinds.split(",")] if kinds else None

    def work(
        ready: Callable[[], None] = lambda: None, shown: str | None = name, ends: int = status
    ) -> None:
        own = None
        if target is not None:
            from agentflow.cli import apps

            own = apps.load(target).handlers()
            logs.hold()
        run(
            serve(
                resolve(connection),
                queues=separated(queues),
                slots=concurrency,
                lease=lease,
                name=shown,
                kinds=wanted,
                own=own,
                grace=grace,
                metrics=metrics,
                metrics_shared=processes or int(reload),
                ready=ready,
                orderly=ends,
                batches=batches,
                route_limits=limits,
            )
        )

    if processes is None and not reload:
        parent.stop_with_parent()
        work()
        return status
    from agentflow.worker.prefork import Parent

    watch = _watcher(target) if reload else None
    resolve(connection)  # what is wrong there is wrong for all
    _preload(wanted, target)

    def child(number: int, lifeline: int, ready: Callable[[], None]) -> None:
        parent.stop_at_end_of(lifeline)
        several = (processes or 1) > 1
        shown = process_name(name, number + 1) if name and several else name
        work(ready, shown, orderly.STATUS)

    Parent(processes or 1, child, grace=grace, outer=parent.inherited_end(), watch=watch).run()
    return status


def _preload(kinds: Sequence[str] | None, target: str | None) -> None:
    """Import what is ours and large, once for all processes."""
    if kinds is None:
        kinds = () if target else ("claude",)
    if not {"claude", ALL}.isdisjoint(kinds):
        importlib.import_module("agentflow.handlers.claude.handler")


def _watcher(target: str | None) -> Callable[[int], None]:
    if importlib.util.find_spec("watchfiles") is None:
        raise UsageError("--reload needs watchfiles: pip install 'agentflow-nats[reload]'")

    def watch(lifeline: int) -> None:
        from agentflow.cli.reload import watch as watch_files
        from agentflow.local import parent

        parent.stop_at_end_of(lifeline)
        watch_files(target)

    return watch
