"""`agentflow gateway`: HTTP, live push and the web page."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from socket import socket
from typing import Any

import click

from agentflow.cli.options import connection_options, resolve
from agentflow.cli.telemetry import log_options, start_log
from agentflow.errors import UsageError

GRACE = 10.0


@click.command("gateway")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8849,
    show_default=True,
    help="Port; 0 takes a free one.",
)
@click.option("--next-free", is_flag=True, help="Where the port is taken, take the next free one.")
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that share the port.",
)
@click.option("--allow-host", multiple=True, metavar="NAME", help="A name it is called by.")
@click.option(
    "--allow-origin", multiple=True, metavar="URL", help="A page elsewhere that may use it (CORS)."
)
@click.option(
    "--proxy",
    multiple=True,
    metavar="ADDRESS",
    help="A proxy whose forwarded headers count.",
)
@click.option("--base-path", default="", metavar="PATH", help="What stands before every path.")
@click.option("--http-cert", metavar="FILE", help="Serve HTTPS with this certificate.")
@click.option("--http-key", metavar="FILE", help="Its key.")
@click.option(
    "--connections",
    type=click.IntRange(1, 100_000),
    default=4096,
    show_default=True,
    help="Most connections of one address.",
)
@log_options
@connection_options
def command(
    host: str,
    port: int,
    next_free: bool,
    processes: int,
    allow_host: tuple[str, ...],
    allow_origin: tuple[str, ...],
    proxy: tuple[str, ...],
    base_path: str,
    http_cert: str | None,
    http_key: str | None,
    connections: int,
    **connection: Any,
) -> None:
    """Serve HTTP, live events and the web page.

    Any number of gateways may run, and nothing else needs one. On loopback, before a NATS server
    without passwords, nobody needs a token; anywhere else everybody does: agentflow token create.
    /openapi.json describes the interface, and /docs shows it.
    """
    start_log(connection)
    import msgspec

    from agentflow.gateway import process
    from agentflow.gateway.settings import Settings
    from agentflow.protocol.webhooks import hosts as webhook_hosts

    path = base_path.strip("/")
    settings = Settings(
        host=host,
        port=port,
        processes=processes,
        names=tuple(name.lower() for name in allow_host),
        origins=allow_origin,
        proxies=proxy,
        path=f"/{path}" if path else "",
        tls_cert=http_cert,
        tls_key=http_key,
        connections=connections,
        webhooks=webhook_hosts(os.environ),
    )
    if http_key and not http_cert:
        raise UsageError("--http-key is the key of --http-cert: give both")
    settings.tls()
    options = resolve(connection)
    settings = msgspec.structs.replace(settings, secured=process.is_secured(options, settings))
    asyncio.run(process.refuse_unguarded(options, settings))
    listener = process.listening(settings, next_free=next_free)
    url = process.shown(settings, listener)

    def told() -> None:
        click.echo(f"gateway at {url}")

    def work(listening: socket, ready: Callable[[], None]) -> None:
        asyncio.run(process.serve(options, settings, listening, ready=ready))

    from agentflow.local import parent

    if processes == 1:
        parent.stop_with_parent()
        work(listener, told)
        return
    from agentflow.worker.prefork import Parent

    at = msgspec.structs.replace(settings, port=listener.getsockname()[1])

    def child(number: int, lifeline: int, ready: Callable[[], None]) -> None:
        parent.stop_at_end_of(lifeline)
        # A socket of its own at the port, which the parent's keeps for all.
        work(process.listening(at), ready)

    told()
    Parent(processes, child, grace=GRACE, outer=parent.inherited_end()).run()
