"""Followers of everything that happens: `python -m bench.scale.dashboards URL COUNT`.

What a dashboard receives is all there is here; drawing is a matter of its own.
"""

from __future__ import annotations

import asyncio
import sys

import nats
from nats.aio.msg import Msg


async def main(url: str, count: int) -> None:
    """Follow until killed; says `ready` when all do."""

    async def heard(message: Msg) -> None:
        pass

    clients = [await nats.connect(url.split(",")) for _ in range(count)]
    for client in clients:
        await client.subscribe("agentflow.live.>", cb=heard)
        await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
