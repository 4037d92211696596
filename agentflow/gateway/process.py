"""A gateway process: listens, follows, serves, and leaves in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable
from typing import Final

from agentflow.client import Client
from agentflow.config import Connect
from agentflow.errors import PortTaken, UsageError
from agentflow.gateway.gateway import Gateway
from agentflow.gateway.routes.table import routes
from agentflow.gateway.server import HttpServer, bound
from agentflow.gateway.settings import Settings
from agentflow.rules import authority

_log = logging.getLogger(__name__)

TRIES: Final = 20
"""Ports that are tried where the first is taken."""


def listening(settings: Settings, *, next_free: bool = False) -> socket.socket:
    """The socket that is served, and keeps its port for this process. Raises PortTaken."""
    try:
        tries = TRIES if next_free and settings.port else 1
        return bound(settings, shared=settings.processes > 1, tries=tries)
    except OSError as error:
        raise PortTaken(
            f"the gateway cannot listen at {settings.host}:{settings.port}: "
            f"{error.strerror or error}; choose another --port"
        ) from None


async def refuse_unguarded(options: Connect, settings: Settings) -> None:
    """Raise UsageError where others than this machine may come in and there is no token."""
    if authority.is_loopback(settings.host):
        return
    async with Client(options, patience=5.0) as client:
        if await client.operate.tokens.all():
            return
    raise UsageError(
        f"at {settings.host} others than this machine reach the gateway, and there is no token "
        "that keeps them out; make one first: agentflow token create --role admin"
    )


async def serve(
    options: Connect,
    settings: Settings,
    listener: socket.socket,
    *,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until told to stop. Raises UsageError."""
    gateway = Gateway(options, settings)
    server = HttpServer(gateway, routes())
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    running = loop.create_task(gateway.run(), name="gateway")
    stopping = loop.create_task(stop.wait(), name="stop")
    try:
        await server.start(listener)
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        ready()
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        gateway.closing.set()
        await server.close()
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)


def shown(settings: Settings, listener: socket.socket) -> str:
    """Where the gateway is reached."""
    return settings.url(listener.getsockname()[1])


def is_secured(options: Connect, settings: Settings) -> bool:
    """Whether everybody needs a token: where NATS has passwords, or others may come in."""
    named = options.user or options.password or options.creds or options.token or options.tls_cert
    in_url = any("@" in url for url in options.urls)
    away = not authority.is_loopback(settings.host)
    return bool(named or in_url or away or settings.proxies)
