"""The brokers, each started on a fresh folder and a free port of the loopback, and ended."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agentflow.local.server import LocalServer, find_binary

READY_WITHIN = 10.0


class NotMeasured(Exception):
    """Why a queue has no figures in this run."""


@dataclass(frozen=True)
class Broker:
    """One that runs."""

    url: str
    pids: tuple[int, ...]


@asynccontextmanager
async def running(kind: str, folder: Path) -> AsyncIterator[Broker]:
    """A broker of a setting's kind, or two joined by a plus. Raises NotMeasured without program."""
    first, _, second = kind.partition("+")
    if second:
        async with running(first, folder) as one, running(second, folder) as other:
            yield Broker(f"{one.url} {other.url}", (*one.pids, *other.pids))
    elif kind.startswith("nats"):
        async with LocalServer(folder / "nats", durable=kind == "nats-always") as server:
            yield Broker(server.url, (server.pid or 0,))
    else:
        async with _redis(folder, appends=kind == "redis-aof") as broker:
            yield broker


@asynccontextmanager
async def _redis(folder: Path, *, appends: bool) -> AsyncIterator[Broker]:
    program = shutil.which("redis-server")
    if program is None:
        raise NotMeasured("redis-server is not installed (Debian: apt-get install redis-server)")
    port = _free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    if appends:
        options += ["--appendonly", "yes", "--appendfsync", "everysec"]
    child = await asyncio.create_subprocess_exec(
        program, *options, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _listening(port)
        yield Broker(f"redis://127.0.0.1:{port}/0", (child.pid,))
    finally:
        if child.returncode is None:
            child.kill()  # its data is thrown away: no snapshot at the end
        await child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _listening(port: int) -> None:
    async with asyncio.timeout(READY_WITHIN):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def versions() -> dict[str, str | None]:
    """What `--version` of the brokers' programs says."""
    told: dict[str, str | None] = {}
    for name, program in (
        ("redis-server", shutil.which("redis-server")),
        ("nats-server", find_binary()),
    ):
        told[name] = None
        if program is not None:
            child = await asyncio.create_subprocess_exec(
                program, "--version", stdout=asyncio.subprocess.PIPE
            )
            said, _ = await child.communicate()
            told[name] = said.decode().strip()
    return told
