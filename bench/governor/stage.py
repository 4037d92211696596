"""A real server, real workers, and a simulator whose buckets are told what to hold."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import tempfile
from collections.abc import AsyncIterator

import msgspec
import psutil

import agentflow
from agentflow.errors import MasterAbsent
from agentflow.local.server import LocalServer
from bench.claude.sides import simulator
from bench.governor.shapes import LATENCY, PACE, Shape
from bench.instruments.child import process

WITHIN = 120.0
"""Seconds in which all workers have started."""
AT_ONCE = 200


class Used(msgspec.Struct):
    """What the simulator has given so far."""

    requests: float
    input: float
    output: float
    answered: int
    refused: int


class Stage:
    """What runs."""

    def __init__(self, shape: Shape, url: str, worker: int, client: agentflow.Client) -> None:
        self.shape = shape
        self._url = url
        self._worker = worker
        self.client = client

    async def used(self) -> Used:
        """What was given so far."""
        stats = json.loads(await _http(self._url, "GET", "/_fake/stats?log=0"))
        outcomes = stats["outcomes"]
        answered = outcomes.get("200", 0)
        return Used(
            requests=answered + stats["in_flight"],
            input=stats["input_tokens"],
            output=stats["output_tokens"],
            answered=answered,
            refused=outcomes.get("429", 0),
        )

    async def http(self, method: str, path: str) -> str:
        """What the simulator answers."""
        return await _http(self._url, method, path)

    async def limit(self, factor: float) -> None:
        """Set the limits."""
        mode = {
            "limits": self.shape.limits(factor),
            "latency": LATENCY,
            "tokens_per_s": PACE,
        }
        await _http(self._url, "POST", "/_fake/mode", json.dumps(mode))

    async def submit(self, count: int) -> None:
        """Put tasks into the queue."""
        chance = random.Random(7)
        tasks = [self.shape.task(number, chance) for number in range(count)]
        for start in range(0, count, AT_ONCE):
            part = tasks[start : start + AT_ONCE]
            await asyncio.gather(*(self.client.submit(**task) for task in part))

    def kill(self) -> int:
        """Kill a fifth of the worker processes; how many."""
        children = psutil.Process(self._worker).children()
        chosen = children[: max(1, len(children) // 5)]
        for child in chosen:
            child.kill()
        return len(chosen)


@contextlib.asynccontextmanager
async def stage(shape: Shape, *, governed: bool) -> AsyncIterator[Stage]:
    """Everything started and no task submitted yet."""
    async with simulator(0.0) as (url, _):
        os.environ |= {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "simulated"}
        os.environ |= {"AGENTFLOW_SIMULATED": "1", "NO_PROXY": "127.0.0.1"}
        os.environ["AGENTFLOW_GOVERNOR"] = "on" if governed else "off"
        with tempfile.TemporaryDirectory() as folder:
            async with LocalServer(folder) as server:
                common = ("-m", "agentflow")
                work = ["worker", "--nats", server.url, "--kinds", "claude"]
                work += ["-c", str(shape.slots), "--processes", str(shape.processes)]
                async with (
                    process(*common, "master", "--nats", server.url),
                    process(*common, *work) as worker,
                    agentflow.connect(server.url) as client,
                ):
                    there = Stage(shape, url, worker.pid, client)
                    await there.limit(1.0)
                    await _until_there(client, shape.processes)
                    yield there


async def _until_there(client: agentflow.Client, processes: int) -> None:
    async with asyncio.timeout(WITHIN):
        serving = 0
        while serving < processes:
            await asyncio.sleep(0.2)
            with contextlib.suppress(MasterAbsent):
                serving = len(await client.workers())


async def _http(url: str, method: str, path: str, body: str = "") -> str:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        answer = (await reader.read()).decode()
    finally:
        writer.close()
    head, _, rest = answer.partition("\r\n\r\n")
    if " 200 " not in head.splitlines()[0]:
        raise RuntimeError(f"the simulator answered {head.splitlines()[0]}: {rest[:200]}")
    return rest
