"""The server's monitoring port, which alone tells how soon a message is on disk."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from agentflow.bus.wire.connection import Connection
from agentflow.rules.durability import Sync

PORT: Final = 8222
WITHIN: Final = 0.5


async def sync_of(connection: Connection, monitor: str | None = None) -> Sync | None:
    """How the server writes to disk; None where its monitoring port cannot be read.

    `monitor` is the port's URL; else the usual port of the server's host.
    """
    varz = await asyncio.to_thread(_varz, connection, monitor)
    if varz is None:
        return None
    config: dict[str, Any] = (varz.get("jetstream") or {}).get("config") or {}
    every = config.get("sync_interval", 0) / 1e9
    return Sync(always=bool(config.get("sync_always")), every=every)


def _varz(connection: Connection, monitor: str | None) -> dict[str, Any] | None:
    host = urlsplit((connection.options.urls or ("",))[0]).hostname or "127.0.0.1"
    url = f"{monitor or f'http://{host}:{PORT}'}/varz"
    try:
        with urllib.request.urlopen(url, timeout=WITHIN) as answer:
            varz: dict[str, Any] = msgspec.json.decode(answer.read())
    except (OSError, ValueError):
        return None
    # Another server may listen on the usual port.
    return varz if varz.get("server_id") == connection.server.get("server_id") else None
