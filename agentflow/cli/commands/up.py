"""`agentflow up`: a local stack that stays."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import click

from agentflow.cli.options import connection_options, resolve
from agentflow.cli.telemetry import log_environment, log_options, metrics_option
from agentflow.cli.workforce import (
    LEASE,
    QUEUES,
    SLOTS,
    chosen,
    limit_options,
    limits_of,
    separated,
    workforce_options,
)
from agentflow.config import Connect, connection_environment, store_dir

if TYPE_CHECKING:
    from agentflow.local.stack import LocalStack
    from agentflow.local.supervisor import Event


@click.command("up")
@click.option(
    "--workers", type=click.IntRange(0, 200), default=2, show_default=True, help="Worker processes."
)
@SLOTS
@QUEUES
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=4222,
    show_default=True,
    help="Port of the NATS server; 0 takes a free one.",
)
@click.option("--store", help="Directory of the data. [default: the user's own]")
@click.option(
    "--simulate", is_flag=True, help="Answer from a local simulator: costs nothing, needs no key."
)
@click.option(
    "--latency",
    type=click.FloatRange(0, 600),
    default=1.5,
    show_default=True,
    help="With --simulate: seconds an answer takes.",
)
@LEASE
@click.option(
    "--durable", is_flag=True, help="Write every message to disk before it is acknowledged."
)
@click.option(
    "--open",
    "open_",
    is_flag=True,
    help="Ask for no password: every user of this machine may submit, read, and spend.",
)
@click.option(
    "--gateway-port",
    type=click.IntRange(0, 65_535),
    default=8849,
    show_default=True,
    help="Port of HTTP and the web page, or the next free one; 0: none.",
)
@workforce_options
@limit_options
@metrics_option("Serve Prometheus metrics: the master's here, the workers' on the next ports.")
@log_options
@connection_options(store=False)
def command(
    workers: int,
    concurrency: int,
    queues: str,
    port: int,
    store: str | None,
    simulate: bool,
    latency: float,
    lease: float | None,
    durable: bool,
    open_: bool,
    gateway_port: int,
    processes: int | None,
    app: str | None,
    kinds: str | None,
    metrics: tuple[str, int] | None,
    **connection: Any,
) -> None:
    """Start NATS server, master, workers and the gateway, and keep them running.

    With a real key the server asks for a password, which lies in the store and which agentflow's
    own commands find there; `agentflow env` and the context `agentflow` of the nats CLI have it
    too. With --simulate, which spends nothing, it asks for none, unless kind claude-cli runs
    programs.

    With --nats URL the stack works on a server that is there already. Ctrl-C stops everything in
    order: workers finish or hand back what they run. A second Ctrl-C makes it faster.

    What crashes is started again; a worker that `agentflow drain` stopped stays down.
    """
    from agentflow.local.stack import LocalStack

    log = log_environment(connection)
    limits = limits_of(connection)
    options = resolve(connection, local=False)
    stack = LocalStack(
        store_dir(store, simulate=simulate),
        port=port,
        workers=workers,
        concurrency=concurrency,
        queues=separated(queues),
        processes=processes,
        app=app,
        kinds=chosen(app, kinds),
        limits=limits,
        lease=lease,
        simulate=simulate,
        locked=False if open_ else None,
        simulator_args=["--latency", str(latency)],
        nats=",".join(options.urls) or None,
        env=(connection_environment(options) if options.urls else {}) | log,
        metrics=metrics,
        gateway=gateway_port,
        durable=durable,
        on_event=_tell,
    )
    asyncio.run(_stay(stack, options, workers * (processes or 1), simulate))


def _tell(event: Event) -> None:
    if event.kind == "drained":
        _say(f"{event.part} was drained and stays down; {event.detail}")
    if event.kind in ("crashed", "restarted"):
        _say(f"{event.part} {event.kind}" + (f": {event.detail}" if event.detail else ""))


def _say(text: str) -> None:
    """For the person at the terminal, who may be gone with it: the stack goes on, and stops."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


async def _stay(stack: LocalStack, options: Connect, workers: int, simulate: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def asked() -> None:
        again = stop.is_set()
        stop.set()
        if again:
            stack.hurry()
        else:
            _say("stopping ... (again to hurry)")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked)
    _say(f"starting the stack, {workers} workers in it (their imports take some seconds) ...")
    starting = asyncio.ensure_future(stack.start())
    ended = asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    try:
        await starting
    except asyncio.CancelledError:
        return
    waiting = asyncio.ensure_future(stack.wait())
    over: set[asyncio.Future[Any]] = {waiting, ended}
    try:
        await _until_served(stack, options, workers, over)
        if not any(future.done() for future in over):
            _next_steps(stack, simulate)
        await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()
        waiting.cancel()
    finally:
        await stack.stop()
        ended.cancel()
    _say("stopped")


async def _until_served(
    stack: LocalStack,
    options: Connect,
    workers: int,
    over: Collection[asyncio.Future[Any]],
    patience: float = 15.0,
) -> None:
    """Wait for a heartbeat of each worker, so that the first task typed does not find none.

    A worker imports the SDK first, which takes a second or two. One that never comes is the
    supervisor's business; this only stops waiting for it.
    """
    from agentflow.bus.wire.connection import Connection
    from agentflow.protocol import subjects

    seen: set[str] = set()
    served = asyncio.Event()

    def heard(subject: str) -> None:
        seen.add(subject)
        if len(seen) >= workers:
            served.set()

    if not workers:
        return
    async with await Connection.open(stack_options(stack, options), "agentflow up") as connection:
        await connection.subscribe(subjects.presence("worker", "*"), lambda m: heard(m.subject))
        waiting = asyncio.ensure_future(served.wait())
        await asyncio.wait({waiting, *over}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()


def stack_options(stack: LocalStack, options: Connect) -> Connect:
    """How to reach the server that the stack works on."""
    return options if options.urls else stack.connect


def _page(stack: LocalStack) -> str:
    return f"The web page is at {stack.gateway_url}. " if stack.gateway_url else ""


def _next_steps(stack: LocalStack, simulate: bool) -> None:
    url, store = stack.url, stack.store.path
    mark = "SIMULATED: answers come from a local simulator.\n" if simulate else ""
    if stack.exposed:
        mark += "OPEN: every user of this machine may submit tasks, read all, and spend.\n"
    nats, hint = _nats(stack, url)
    sys.stdout.write(
        f"{mark}AgentFlow runs at {url} (data in {store}). {_page(stack)}"
        f"Try, in another terminal:\n\n{hint}"
        f"  {nats} pub agentflow.tasks.default 'Write a haiku about queues'\n"
        f"  {nats} sub 'agentflow.live.results.>'\n"
        f"  agentflow submit 'Write a haiku about queues' --wait\n"
        f"  agentflow list\n"
        f"  agentflow doctor\n\n"
        "Ctrl-C stops it.\n"
    )
    sys.stdout.flush()


def _nats(stack: LocalStack, url: str) -> tuple[str, str]:
    """How the nats CLI is called, and a line of what it needs before."""
    from agentflow.local import nats_context

    if not stack.own_server or not stack.server.locked:
        # It looks at the standard port by itself.
        return "nats" if url.endswith(":4222") else f"nats -s {url}", ""
    if nats_context.write(stack.connect):
        return nats_context.command(), ""
    store = shlex.quote(str(stack.store.path))
    return "nats", f'  eval "$(agentflow env --store {store})"\n'
