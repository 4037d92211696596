"""Who listens on a loopback port: a NATS server says so itself, at once, to whoever connects."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import msgspec

HOST: Final = "127.0.0.1"
ANSWER_WITHIN: Final = 1.0


class Listener(msgspec.Struct, frozen=True):
    """What the greeting of a port says. `nats` is False when it is no NATS server's."""

    nats: bool
    name: str = ""
    version: str = ""
    jetstream: bool = False


class _Info(msgspec.Struct):
    server_name: str = ""
    server_id: str = ""
    version: str = ""
    jetstream: bool = False


async def on_port(port: int) -> Listener | None:
    """Who listens on this port; None when nobody does."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            reader, writer = await asyncio.open_connection(HOST, port, limit=1 << 20)
    except OSError:
        return None
    greeting = b""
    # Silence, a reset, a line without an end: all the same, it is no NATS server.
    with suppress(OSError, ValueError):
        async with asyncio.timeout(ANSWER_WITHIN):
            greeting = await reader.readline()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    verb, _, rest = greeting.partition(b" ")
    if verb != b"INFO":
        return Listener(nats=False)
    try:
        info = msgspec.json.decode(rest, type=_Info)
    except msgspec.MsgspecError:
        return Listener(nats=False)
    return Listener(True, info.server_name or info.server_id, info.version, info.jetstream)


async def healthy(monitor: str) -> bool:
    """Whether the server calls itself healthy, its streams included."""
    address = urlsplit(monitor)
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
                status = await reader.readline()
            finally:
                writer.close()
                await writer.wait_closed()
    except OSError:
        return False
    return status.split()[1:2] == [b"200"]
