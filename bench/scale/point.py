"""One point: its servers, a master, its workers, a client, all fresh.

tasks_per_s      no-op tasks whose results came back; of a backlog, tasks drained
submit_per_s     of a backlog: tasks stored
p50, p99         one task at a time, from submit to result; beside a backlog with high priority
cpu_us_per_task  of each part
server_bytes     what the streams hold of it, per task
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import agentflow
from agentflow.bus.streams.jetstream import JetStream
from agentflow.client.tasks.submission import prepare
from agentflow.errors import AgentFlowError
from agentflow.protocol import subjects
from bench import index
from bench.instruments.watched import Watched
from bench.scale import servers
from bench.scale.axes import Point
from bench.scale.servers import Servers

WINDOW = 1000
"""Tasks under way at once."""
DRAINED_EVERY = 0.05
LEAST_URGENT = 10
"""Urgent tasks; of fewer a p99 says nothing."""
ROOT = Path(__file__).parent.parent.parent
STARTED_WITHIN = 120.0


@asynccontextmanager
async def program(
    *arguments: str, says: bytes | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program of ours, ended afterwards; waits for a line that it says first."""
    pipe = asyncio.subprocess.PIPE if says else asyncio.subprocess.DEVNULL
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        if says is not None and child.stdout is not None:
            async with asyncio.timeout(STARTED_WITHIN):
                await child.stdout.readuntil(says)
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
            try:
                async with asyncio.timeout(60):
                    await child.wait()
            except TimeoutError:
                child.kill()
        await child.wait()


async def measure(point: Point) -> dict[str, Any]:
    """Its figures. Raises RuntimeError when a result is missing."""
    with tempfile.TemporaryDirectory() as folder:
        async with servers.running(point.server, Path(folder)) as running:
            return await _measure(point, running)


def queues(count: int) -> list[str]:
    """Names of queues."""
    return ["default", *(f"queue-{number}" for number in range(1, count))]


async def _measure(point: Point, running: Servers) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    prompt = "A queue keeps the order of the day. " * (point.payload // 36 + 1)
    prompt = prompt[: point.payload]
    names = queues(point.queues)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(agentflow.connect(running.url))
        if point.history:
            await index.fill(client.js, point.history, queued=0)
        if point.backlog:
            began = time.perf_counter()
            await _queue(client, point.backlog, prompt)
            figures["submit_per_s"] = round(point.backlog / (time.perf_counter() - began))
        bytes_before = await _bytes(client.js)
        master = await stack.enter_async_context(
            program("-m", "agentflow", "master", "--nats", running.url)
        )
        if point.dashboards:
            many = str(point.dashboards)
            await stack.enter_async_context(
                program("-m", "bench.scale.dashboards", running.url, many, says=b"ready")
            )
        began = time.perf_counter()
        work = ["-m", "agentflow", "worker", "--nats", running.url, "--kinds", "echo"]
        work += ["--queues", ",".join(names), "-c", str(point.slots)]
        work += ["--processes", str(point.workers)]
        worker = await stack.enter_async_context(program(*work))
        watched = Watched(
            servers=running.pids, worker=(worker.pid,), master=(master.pid,), client=(os.getpid(),)
        )
        if point.backlog:
            figures |= await _drain(client, point, watched, began)
        else:
            await _all_up(client, point.workers)
            figures |= await _alone(client, point.singles)
            watched.cpu_since()
            figures |= await _burn(client, point, names, prompt)
            figures["cpu_us_per_task"] = _per_task(watched, point.tasks)
            grown = await _bytes(client.js) - bytes_before
            figures["server_bytes"] = round(grown / (point.tasks + point.singles))
        figures["memory_mb"] = watched.memory()
    return figures


async def _all_up(client: agentflow.Client, workers: int) -> None:
    """Wait until every worker process has told of itself."""
    async with asyncio.timeout(STARTED_WITHIN):
        while True:
            try:
                if len(await client.workers()) >= workers:
                    break
            except AgentFlowError:
                pass  # the master is starting, too
            await asyncio.sleep(0.1)
    task = await client.submit("ready", kind="echo")
    await task.result()


async def _alone(client: agentflow.Client, count: int) -> dict[str, Any]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        task = await client.submit("alone", kind="echo")
        await task.result()
        times.append((time.perf_counter() - began) * 1000)
    return spread(times)


def spread(times: list[float]) -> dict[str, float]:
    """p50 and p99 of some milliseconds."""
    cuts = statistics.quantiles(times, n=100)
    return {"p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3)}


async def _burn(
    client: agentflow.Client, point: Point, names: list[str], prompt: str
) -> dict[str, Any]:
    def items() -> Iterator[dict[str, str]]:
        for number in range(point.tasks):
            yield {"prompt": prompt, "queue": names[number % len(names)]}

    began = time.perf_counter()
    came = 0
    async for result in client.map(items(), concurrency=WINDOW, kind="echo"):
        came += result.ok
    if came != point.tasks:
        raise RuntimeError(f"{came} of {point.tasks} tasks came back")
    return {"tasks_per_s": round(point.tasks / (time.perf_counter() - began))}


async def _queue(client: agentflow.Client, count: int, prompt: str) -> None:
    """Store a backlog; nobody waits for its results."""
    numbers = iter(range(count))
    fields = {"prompt": prompt, "kind": "echo"}

    async def submitting() -> None:
        for number in numbers:
            await client.tasks.sender.send(prepare(fields, task_id=f"backlog-{number}"))

    async with asyncio.TaskGroup() as group:
        for _ in range(WINDOW):
            group.create_task(submitting())


async def _drain(
    client: agentflow.Client, point: Point, watched: Watched, began: float
) -> dict[str, Any]:
    """Time until the queue is empty, the workers' start included; urgent tasks come meanwhile."""
    task = await client.submit("first", kind="echo", priority="high")
    await task.result()
    first = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        empty = group.create_task(_emptied(client.js))
        urgent = group.create_task(_beside(client, empty))
    times = urgent.result()
    return (spread(times) if len(times) >= LEAST_URGENT else {}) | {
        "first_result_s": round(first - began, 2),
        "tasks_per_s": round(point.backlog / (empty.result() - first)),
        "cpu_us_per_task": _per_task(watched, point.backlog),
    }


async def _beside(client: agentflow.Client, empty: asyncio.Task[float]) -> list[float]:
    """Milliseconds of urgent tasks, one at a time, for as long as the backlog is there."""
    times: list[float] = []
    while not empty.done():
        began = time.perf_counter()
        task = await client.submit("urgent", kind="echo", priority="high")
        await task.result()
        times.append((time.perf_counter() - began) * 1000)
    return times


async def _emptied(js: JetStream) -> float:
    """When the last queued task was done."""
    while True:
        info = await js.stream_info(subjects.TASKS)
        if not info["state"]["messages"]:
            return time.perf_counter()
        await asyncio.sleep(DRAINED_EVERY)


async def _bytes(js: JetStream) -> int:
    total = 0
    for name in (subjects.TASKS, subjects.RECORDS):
        total += int((await js.stream_info(name))["state"]["bytes"])
    return total


def _per_task(watched: Watched, tasks: int) -> dict[str, int]:
    return {part: round(used / tasks * 1e6) for part, used in watched.cpu_since().items()}
