"""How fast is the queue itself, and what does it weigh? Beside each figure, in the same run, the
bare protocol without the framework (bare.py), so that the difference is the framework's own cost.

    no-op tasks/s     20,000 submitted by one client, every result back
    p50, p99          one task at a time, from submit to result
    makespan          1000 `sleep` tasks of 2 s at once in one worker; the floor is 2 s
    memory            RSS and PSS of server, master and worker, idle and after the load

Each round runs both sides on a fresh server each, the order changing; the median of the rounds
counts. A master is alive and heartbeats are on.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nats

import agentflow
from agentflow.local.server import LocalServer
from bench.core import bare
from bench.instruments import machine, memory
from bench.instruments.child import process

PROMPT = "Summarise this paragraph in one sentence. " * 4
SLOTS = 1200
WINDOW = 2000
RESULTS = Path(__file__).parent.parent / "results" / "core.json"


class Load:
    """The three shapes, run against `one`, which submits a task and waits for its result."""

    def __init__(self, tasks: int, singles: int, sleepers: int) -> None:
        self.tasks = tasks
        self.singles = singles
        self.sleepers = sleepers


async def latency(one: Callable[[], Awaitable[None]], count: int) -> dict[str, float]:
    """Milliseconds of one task at a time."""
    for _ in range(50):
        await one()
    gc.collect()
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await one()
        times.append((time.perf_counter() - began) * 1000)
    cuts = statistics.quantiles(times, n=100)
    return {"p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3)}


async def run_bare(load: Load) -> dict[str, Any]:
    """The yardstick."""
    with tempfile.TemporaryDirectory() as folder:
        async with LocalServer(folder) as server:
            client = await nats.connect(server.url)
            await bare.set_up(client)
            await client.close()
            async with process("-m", "bench.core.bare", server.url, str(SLOTS)) as worker:
                client, one = await bare.submitter(server.url)
                await one(PROMPT, 0.0)
                figures: dict[str, Any] = await latency(lambda: one(PROMPT, 0.0), load.singles)
                gate = asyncio.Semaphore(WINDOW)

                async def gated() -> None:
                    async with gate:
                        await one(PROMPT, 0.0)

                began = time.perf_counter()
                async with asyncio.TaskGroup() as group:
                    for _ in range(load.tasks):
                        group.create_task(gated())
                figures["tasks_per_s"] = round(load.tasks / (time.perf_counter() - began))
                began = time.perf_counter()
                async with asyncio.TaskGroup() as group:
                    for _ in range(load.sleepers):
                        group.create_task(one(PROMPT, 2.0))
                figures["makespan_s"] = round(time.perf_counter() - began, 3)
                figures["memory"] = {
                    "worker": memory.memory_of(worker.pid),
                    "server": memory.memory_of(server.pid or 0),
                }
                await client.close()
    return figures


async def run_ours(load: Load) -> dict[str, Any]:
    """The same through AgentFlow: client, worker process, master process."""
    with tempfile.TemporaryDirectory() as folder:
        async with LocalServer(folder) as server:
            common = ("-m", "agentflow")
            work = ("worker", "--nats", server.url, "--kinds", "echo,sleep", "-c", str(SLOTS))
            async with (
                process(*common, "master", "--nats", server.url) as master,
                process(*common, *work) as worker,
                agentflow.connect(server.url) as client,
            ):

                async def one() -> None:
                    task = await client.submit(PROMPT, kind="echo")
                    await task.result()

                await one()
                idle = {
                    "worker": memory.memory_of(worker.pid),
                    "master": memory.memory_of(master.pid),
                }
                figures: dict[str, Any] = await latency(one, load.singles)
                began = time.perf_counter()
                results = client.map(
                    (PROMPT for _ in range(load.tasks)), concurrency=WINDOW, kind="echo"
                )
                count = 0
                async for result in results:
                    count += result.state == "succeeded"
                seconds = time.perf_counter() - began
                assert count == load.tasks, f"{count} of {load.tasks} came back"
                figures["tasks_per_s"] = round(load.tasks / seconds)
                began = time.perf_counter()
                sleepers = client.map(
                    (PROMPT for _ in range(load.sleepers)),
                    concurrency=load.sleepers,
                    kind="sleep",
                    params={"seconds": 2.0},
                )
                count = 0
                async for result in sleepers:
                    count += result.state == "succeeded"
                figures["makespan_s"] = round(time.perf_counter() - began, 3)
                assert count == load.sleepers, f"{count} of {load.sleepers} came back"
                figures["memory_idle"] = idle
                figures["memory"] = {
                    "worker": memory.memory_of(worker.pid),
                    "master": memory.memory_of(master.pid),
                    "server": memory.memory_of(server.pid or 0),
                }
    return figures


def median(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the figures; memory of the last round."""
    keys = ("tasks_per_s", "p50_ms", "p99_ms", "makespan_s")
    return {
        **{key: statistics.median(figures[key] for figures in rounds) for key in keys},
        **{key: value for key, value in rounds[-1].items() if key.startswith("memory")},
    }


async def main(rounds: int = 3, quick: bool = False, out: Path = RESULTS) -> int:
    """Run, print, write JSON; returns the exit code."""
    load = Load(4000, 200, 200) if quick else Load(20_000, 1000, 1000)
    facts = machine.noted()
    sides: dict[str, list[dict[str, Any]]] = {"agentflow": [], "bare": []}
    for number in range(rounds):
        order = [("agentflow", run_ours), ("bare", run_bare)]
        for name, run in order if number % 2 == 0 else reversed(order):
            sides[name].append(await run(load))
            print(f"round {number + 1} {name}: {json.dumps(sides[name][-1])}", flush=True)
    ours, yardstick = median(sides["agentflow"]), median(sides["bare"])
    result = {
        "machine": facts,
        "load": vars(load) | {"slots": SLOTS, "window": WINDOW, "rounds": rounds},
        "agentflow": ours,
        "bare": yardstick,
        "rounds": sides,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    table(facts, ours, yardstick)
    print(f"written to {out}")
    return 0


def table(facts: dict[str, Any], ours: dict[str, Any], yardstick: dict[str, Any]) -> None:
    """The result as a person reads it."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}")
    for heading in ("", "AgentFlow", "bare protocol", "ratio"):
        shown.add_column(heading, justify="left" if not heading else "right")
    for key, label in (
        ("tasks_per_s", "no-op tasks/s"),
        ("p50_ms", "p50 ms, one at a time"),
        ("p99_ms", "p99 ms, one at a time"),
        ("makespan_s", "1000 sleeps of 2 s, s"),
    ):
        shown.add_row(
            label, f"{ours[key]}", f"{yardstick[key]}", f"{ours[key] / yardstick[key]:.2f}"
        )
    for part in ("worker", "master"):
        idle = ours["memory_idle"][part]
        shown.add_row(f"{part} idle, RSS / PSS MB", f"{idle['rss_mb']} / {idle['pss_mb']}", "", "")
    for part, figures in ours["memory"].items():
        other = yardstick["memory"].get(part)
        shown.add_row(
            f"{part} after the load, RSS / PSS MB",
            f"{figures['rss_mb']} / {figures['pss_mb']}",
            f"{other['rss_mb']} / {other['pss_mb']}" if other else "",
            "",
        )
    Console(width=110).print(shown)
