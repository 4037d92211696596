"""`agentflow health`: for whoever restarts containers; says in a second or two whether all is well.

A process that hangs still has its pid and its connection, but its event loop sends no heartbeat. So
a worker or a master is well when a heartbeat of its role comes from this very host.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import click

from agentflow.cli import output
from agentflow.cli.options import connection_options, resolve, run_async
from agentflow.config import Connect
from agentflow.protocol import limits

UNWELL: Final = 1


@click.command("health")
@click.argument("role", required=False, type=click.Choice(["master", "worker"]))
@click.option(
    "--within",
    type=click.FloatRange(0.1, 60),
    default=limits.LOST_AFTER,
    show_default=True,
    metavar="SECONDS",
    help="How long to listen.",
)
@connection_options
def command(role: str | None, within: float, **connection: str | None) -> int:
    """Is the server there, and does this host's ROLE beat?

    Exits 0 when all is well, 1 when no heartbeat of a master or worker on this host is heard, 3
    when NATS cannot be reached.
    """
    beats = run_async(_listen(resolve(connection), role, within))
    if not beats:
        output.warn(f"no {role} on {socket.gethostname()} sent a heartbeat within {within:g} s")
        return UNWELL
    output.show("ok")
    return 0


async def _listen(options: Connect, role: str | None, within: float) -> bool:
    from agentflow.bus.streams import provision
    from agentflow.bus.streams.jetstream import JetStream
    from agentflow.bus.wire.connection import Connection
    from agentflow.bus.wire.message import Message
    from agentflow.errors import BusError
    from agentflow.protocol import control, subjects
    from agentflow.rules.presence import said_goodbye

    host = socket.gethostname()
    heard = asyncio.Event()

    def received(message: Message) -> None:
        beat = control.decode_heartbeat(message.data)
        if beat is not None and beat.host == host and not said_goodbye(beat):
            heard.set()

    async with await Connection.open(options, "agentflow health") as opened:
        if role is not None:
            await opened.subscribe(subjects.presence(role, "*"), received)
        try:
            await provision.wait_ready(JetStream(opened), within)
        except TimeoutError:
            raise BusError(
                f"JetStream does not answer at {options.shown}; `agentflow doctor` says why"
            ) from None
        if role is None:
            return True
        try:
            async with asyncio.timeout(within):
                await heard.wait()
        except TimeoutError:
            return False
        return True
