"""One server, or a cluster of three, on the loopback, with the streams made."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.errors import BusError
from agentflow.local.server import LocalServer, find_binary

READY_WITHIN = 60.0
CONFIG = """\
server_name: {name}
listen: "127.0.0.1:{port}"
max_payload: 8MB
jetstream {{
  store_dir: {store}
  sync_interval: "1s"
  max_buffered_msgs: 50000
}}
feature_flags {{
  js_ack_fc_v2: false
}}
cluster {{
  name: bench
  listen: "127.0.0.1:{route}"
  routes: {routes}
}}
"""


@dataclass(frozen=True)
class Servers:
    """Where to connect, and which processes they are."""

    url: str
    pids: tuple[int, ...]


@asynccontextmanager
async def running(kind: str, folder: Path) -> AsyncIterator[Servers]:
    """`r1`, `always` or `r3` (see axes.Point), ready to take tasks."""
    if kind == "r3":
        async with _cluster(folder) as servers:
            yield servers
        return
    async with LocalServer(folder / "store", durable=kind == "always") as server:
        await _provide(server.url, 1)
        yield Servers(server.url, (server.pid or 0,))


@asynccontextmanager
async def _cluster(folder: Path) -> AsyncIterator[Servers]:
    ports, routes = _free_ports(3), _free_ports(3)
    children = []
    async with AsyncExitStack() as stack:
        for number, (port, route) in enumerate(zip(ports, routes, strict=True)):
            file = folder / f"n{number}.conf"
            file.write_text(
                CONFIG.format(
                    name=f"n{number}",
                    port=port,
                    store=json.dumps(str(folder / f"n{number}")),
                    route=route,
                    routes=json.dumps([f"nats://127.0.0.1:{port}" for port in routes]),
                )
            )
            child = await asyncio.create_subprocess_exec(
                find_binary(),
                "-c",
                str(file),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            stack.push_async_callback(_end, child)
            children.append(child.pid)
        url = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
        await _provide(url, 3)
        yield Servers(url, tuple(children))


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        child.kill()
    await child.wait()


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


async def _provide(url: str, replicas: int) -> None:
    """Make the streams; a cluster refuses until it has elected who decides."""
    end = asyncio.get_running_loop().time() + READY_WITHIN
    while True:
        try:
            options = Connect(urls=tuple(url.split(",")))
            async with await Connection.open(options) as connection:
                await provision.ensure_streams(JetStream(connection), replicas=replicas)
                return
        except BusError:
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(0.2)
