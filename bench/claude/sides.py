"""The two sides, each ready to run a round: our tasks, and the SDK alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

import agentflow
from agentflow.errors import MasterAbsent
from agentflow.local.server import LocalServer
from agentflow.views.result import Result
from bench.claude import load
from bench.claude.load import Shape
from bench.instruments.child import process

WITHIN: Final = 180.0
"""Seconds in which a hundred processes have started, on two cores."""


class Round(msgspec.Struct):
    """One round: its makespan, the seconds of each call, and where ours were spent."""

    makespan_s: float
    times: list[float]
    results: list[Result] = []


class Side(msgspec.Struct):
    """A side that is ready: the root of its processes, those beside it, and its rounds."""

    pid: int
    beside: dict[str, int]
    round: Callable[[], Awaitable[Round]]


@asynccontextmanager
async def simulator(latency: float) -> AsyncIterator[tuple[str, int]]:
    """A simulator of its own process: where it is, and its process id."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agentflow", "simulator", "--latency", str(latency)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        url = re.search(r"http://\S+", (await child.stdout.readline()).decode())
        assert url is not None, "the simulator did not start"
        yield url[0], child.pid
    finally:
        child.terminate()
        await child.wait()


@asynccontextmanager
async def bare(shape: Shape, url: str) -> AsyncIterator[Side]:
    """The SDK alone."""
    arguments = (url, shape.processes, shape.calls, shape.in_flight)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.claude.sdk", *map(str, arguments)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    assert child.stdin is not None and child.stdout is not None
    orders, answers = child.stdin, child.stdout

    async def one() -> Round:
        orders.write(b"\n")
        return msgspec.json.decode(await answers.readline(), type=Round)

    try:
        async with asyncio.timeout(WITHIN):
            assert await answers.readline() == b"ready\n", "the bare SDK did not start"
        yield Side(child.pid, {}, one)
    finally:
        orders.close()
        await child.wait()


@asynccontextmanager
async def ours(shape: Shape, url: str) -> AsyncIterator[Side]:
    """The same calls as tasks: client, worker processes, master, server."""
    os.environ |= {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "simulated"}
    os.environ |= {"AGENTFLOW_SIMULATED": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with tempfile.TemporaryDirectory() as folder:
        async with LocalServer(folder) as server:
            common = ("-m", "agentflow")
            work = ["worker", "--nats", server.url, "--kinds", "claude", "-c", str(shape.slots)]
            if shape.processes > 1:
                work += ["--processes", str(shape.processes)]
            async with (
                process(*common, "master", "--nats", server.url) as master,
                process(*common, *work) as worker,
                agentflow.connect(server.url) as client,
            ):
                await until_there(client, shape.processes)
                warm = {"extra_headers": {"x-fake": load.WARM}}
                await asyncio.gather(
                    *(
                        finished(client, "warm", params=warm)
                        for _ in range(shape.slots * shape.processes)
                    )
                )
                beside = {"server": server.pid or 0, "master": master.pid}
                yield Side(worker.pid, beside, lambda: rounded(client, shape))


async def until_there(client: agentflow.Client, processes: int) -> None:
    """Return when all processes serve."""
    async with asyncio.timeout(WITHIN):
        serving = 0
        while serving < processes:
            await asyncio.sleep(0.2)
            with contextlib.suppress(MasterAbsent):
                serving = len(await client.workers())


async def finished(client: agentflow.Client, prompt: str, **fields: Any) -> Result:
    """A task's result."""
    task = await client.submit(prompt, **fields)
    return await task.result()


async def rounded(client: agentflow.Client, shape: Shape) -> Round:
    """One round of ours."""
    done = Round(0.0, [])

    async def place(prompts: Iterator[str]) -> None:
        for prompt in prompts:
            began = time.perf_counter()
            done.results.append(await finished(client, prompt))
            done.times.append(time.perf_counter() - began)

    prompts = iter(load.prompts(shape.calls))
    began = time.perf_counter()
    await asyncio.gather(*(place(prompts) for _ in range(shape.in_flight)))
    done.makespan_s = time.perf_counter() - began
    return done
