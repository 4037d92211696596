"""One attempt to connect: nats-py's options, and what its many errors mean."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import nats.errors

from agentflow.bus.wire.absence import LOOK, Absence, absence, said, silent
from agentflow.bus.wire.client import MendedClient
from agentflow.config import DEFAULT_URL, Connect
from agentflow.errors import UsageError

RECONNECT_WAIT: Final = 0.25
CONNECT_TIMEOUT: Final = 2.0
PING_EVERY: Final = 10
PINGS_UNANSWERED: Final = 2
PENDING_BYTES: Final = 32 * 1024 * 1024


class DialFailed(Exception):
    """No connection; `denied` when the server does not accept who we are."""

    def __init__(self, reason: str, remedy: str = "", *, denied: bool = False) -> None:
        super().__init__(reason)
        self.remedy = remedy
        self.denied = denied


Callbacks = Callable[[MendedClient], dict[str, Callable[..., Awaitable[None]]]]


async def dial(options: Connect, name: str, timeout: float, callbacks: Callbacks) -> MendedClient:
    """A connected client, which reconnects by itself from now on.

    Raises DialFailed within `timeout` seconds, UsageError when the options cannot be used.
    """
    servers = list(options.urls or (DEFAULT_URL,))
    random.shuffle(servers)
    arguments = _arguments(options, name)
    share = timeout / len(servers)
    failure = DialFailed("no server is named")
    task = asyncio.current_task()
    assert task is not None
    cancelled_before = task.cancelling()
    # nats-py gives up at the first server that accepts a connection and then says nothing.
    for _ in range(len(servers)):
        client = None
        try:
            client = await _attempt({**arguments, "servers": servers}, share, options, callbacks)
        except DialFailed as error:
            failure = error
        if task.cancelling() > cancelled_before:
            # Before Python 3.12 wait_for loses a cancellation that comes with its result.
            if client is not None:
                client.abandon()
            raise asyncio.CancelledError
        if client is not None:
            return client
        servers = servers[1:] + servers[:1]
    raise failure


def _arguments(options: Connect, name: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "name": name,
        "dont_randomize": True,
        # The first attempt tries each server, at most twice, and ends.
        "allow_reconnect": False,
        "max_reconnect_attempts": 1,
        "reconnect_time_wait": RECONNECT_WAIT * random.uniform(0.8, 1.2),
        "ping_interval": PING_EVERY,
        "max_outstanding_pings": PINGS_UNANSWERED,
        "pending_size": PENDING_BYTES,
        "inbox_prefix": options.inbox_prefix,
    }
    if options.creds:
        arguments["user_credentials"] = str(Path(options.creds).expanduser())
    if options.user:
        arguments["user"] = options.user
        arguments["password"] = options.password or ""
    if options.token:
        arguments["token"] = options.token
    if options.wants_tls:
        arguments["tls"] = _tls(options)
        arguments["tls_handshake_first"] = options.tls_first
    return arguments


async def _attempt(
    arguments: dict[str, Any], timeout: float, options: Connect, callbacks: Callbacks
) -> MendedClient:
    client = MendedClient(tls=options.wants_tls)
    errors: list[Absence] = []
    chosen = callbacks(client)

    def why(error: Exception) -> Absence:
        return absence(error, options, client._server_info)

    async def note(error: Exception) -> None:
        errors.append(why(error))

    try:
        async with asyncio.timeout(timeout):
            await client.connect(
                **{**arguments, **chosen, "error_cb": note, "connect_timeout": timeout}
            )
    except BaseException as error:
        client.abandon()
        if isinstance(error, ImportError) and error.name == "nkeys":
            raise UsageError(
                f"the credentials in {options.creds} need a package that is not installed; "
                "install it with: pip install 'agentflow-nats[creds]'"
            ) from None
        if isinstance(error, TimeoutError):
            late = Absence(f"no answer within {timeout:g} s", silent(options))
            raise DialFailed(*(errors[-1] if errors else late)) from None
        if isinstance(error, nats.errors.NoServersError):
            none = Absence("no server answers", LOOK)
            raise DialFailed(*(errors[-1] if errors else none)) from None
        if isinstance(error, nats.errors.Error | OSError | ValueError | AssertionError):
            raise DialFailed(*why(error), denied=_denied(error)) from None
        raise
    client.options |= {
        "dont_randomize": False,
        "allow_reconnect": True,
        "max_reconnect_attempts": -1,
        "connect_timeout": CONNECT_TIMEOUT,
    }
    client._error_cb = chosen["error_cb"]
    return client


def _denied(error: Exception) -> bool:
    text = said(error).lower()
    return "authorization" in text or "authentication" in text


def _tls(options: Connect) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=str(Path(options.tls_ca).expanduser()) if options.tls_ca else None
        )
        if options.tls_cert:
            key = str(Path(options.tls_key).expanduser()) if options.tls_key else None
            context.load_cert_chain(str(Path(options.tls_cert).expanduser()), key)
    except (OSError, ValueError) as error:
        files = ", ".join(
            path for path in (options.tls_ca, options.tls_cert, options.tls_key) if path
        )
        raise UsageError(f"the TLS files {files} cannot be used: {said(error)}") from None
    return context
