"""Connect to a server that may be just starting: in a cluster everything starts at once."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.errors import NotConnected

_log = logging.getLogger(__name__)

TRY_EVERY: Final = 0.25


async def connect_patiently(options: Connect, name: str, patience: float) -> Connection:
    """Connect, waiting for the server up to `patience` seconds. Raises NotConnected."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    told = False
    while True:
        try:
            return await Connection.open(options, name)
        except NotConnected:
            if loop.time() >= end:
                raise
            if not told:
                _log.info("waiting for NATS at %s", options.shown)
                told = True
            await asyncio.sleep(TRY_EVERY)
