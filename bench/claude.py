"""What does AgentFlow cost beside the bare streaming SDK, when an answer takes two seconds?

    30 calls at 1 in flight, 200 at 10, 1000 at 100 and at 1000, with 1 and with 10 processes:
        makespan      against the floor, which is calls / in flight x latency
        overhead      of a call, p50 and p99: from submit to result, less the latency
        CPU, PSS      of the workers with their parent; of server, master and simulator apart
    100 processes with 10 slots each: PSS, idle and at most

Beside each figure, in the same run, the SDK without a queue in as many processes (sdk.py). Both
sides keep a fixed number of calls in flight: the next begins when one is back. Both are warm, and
talk to a simulator of their own size: one process, told nothing but its latency. A master is alive.

`parts` says where our overhead lies: until the claim, in the call, and from its end to the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

import agentflow
from agentflow.errors import MasterAbsent
from agentflow.local.server import LocalServer
from agentflow.views.result import Result
from bench.core import process
from bench.instruments import load, machine, tree
from bench.instruments.load import Shape
from bench.instruments.outcome import Aim, show

RESULTS: Final = Path(__file__).parent / "results" / "claude.json"
SAMPLE_EVERY: Final = 0.25
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
        found = re.search(r"http://\S+", (await child.stdout.readline()).decode())
        assert found is not None, "the simulator did not start"
        yield found[0], child.pid
    finally:
        child.terminate()
        await child.wait()


@asynccontextmanager
async def bare(shape: Shape, url: str) -> AsyncIterator[Side]:
    """The SDK alone."""
    arguments = (url, shape.processes, shape.calls, shape.in_flight)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.instruments.sdk", *map(str, arguments)),
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
        found = 0
        while found < processes:
            await asyncio.sleep(0.2)
            with contextlib.suppress(MasterAbsent):
                found = len(await client.workers())


async def finished(client: agentflow.Client, prompt: str, **fields: Any) -> Result:
    """A task's result."""
    task = await client.submit(prompt, **fields)
    return await task.result()


async def rounded(client: agentflow.Client, shape: Shape) -> Round:
    """One round of ours."""
    found = Round(0.0, [])

    async def place(prompts: Iterator[str]) -> None:
        for prompt in prompts:
            began = time.perf_counter()
            found.results.append(await finished(client, prompt))
            found.times.append(time.perf_counter() - began)

    prompts = iter(load.prompts(shape.calls))
    began = time.perf_counter()
    await asyncio.gather(*(place(prompts) for _ in range(shape.in_flight)))
    found.makespan_s = time.perf_counter() - began
    return found


# Measuring.


async def measure(
    make: Callable[[Shape, str], AbstractAsyncContextManager[Side]],
    shape: Shape,
    latency: float,
    *,
    sampled: bool = False,
) -> dict[str, Any]:
    """The figures of one side under one load; `sampled` looks at the memory all the time."""
    async with simulator(latency) as (url, pid), make(shape, url) as side:
        watched = {"workers": side.pid, "simulator": pid, **side.beside}
        idle = tree.pss_mb(side.pid)
        before = {name: tree.cpu_s(each) for name, each in watched.items()}
        highest = Highest(side.pid)
        sampler = asyncio.ensure_future(highest.watch()) if sampled else None
        rounds = [await side.round() for _ in range(shape.rounds)]
        if sampler is not None:
            sampler.cancel()
        used = {
            name: round((tree.cpu_s(each) - before[name]) / shape.rounds, 2)
            for name, each in watched.items()
        }
        times = [seconds - latency for each in rounds for seconds in each.times]
        assert len(times) == shape.calls * shape.rounds, f"{len(times)} calls came back"
        makespan = statistics.median(each.makespan_s for each in rounds)
        found: dict[str, Any] = {
            "makespan_s": round(makespan, 3),
            "over_floor": round(makespan / shape.floor(latency), 3),
            **percentiles(times),
            "cpu_s": used,
            "pss_idle_mb": idle,
            "pss_mb": tree.pss_mb(side.pid),
        }
        if sampled:
            found["pss_most_mb"] = highest.mb
        results = [result for each in rounds for result in each.results]
        if results:
            found["parts"] = parts(results, times, latency)
        return found


class Highest:
    """The most memory that a tree of processes had."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.mb = 0.0

    async def watch(self) -> None:
        """Look until cancelled; in a thread, as a hundred processes take a while."""
        while True:
            now = await asyncio.to_thread(tree.pss_mb, self._pid)
            self.mb = max(self.mb, now or 0.0)
            await asyncio.sleep(SAMPLE_EVERY)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50_ms": round(cuts[49] * 1000, 2), "p99_ms": round(cuts[98] * 1000, 2)}


def parts(results: list[Result], times: list[float], latency: float) -> dict[str, float]:
    """Medians in ms: until the claim, in the call beyond the latency, and the rest."""
    failed = [result for result in results if not result.ok]
    assert not failed, f"{len(failed)} tasks failed, the first with {failed[0].error}"
    waited, called, rest = [], [], []
    for result, seconds in zip(results, times, strict=True):
        timings = result.timings
        assert timings.submitted and timings.started and timings.run_s is not None
        wait = (timings.started - timings.submitted).total_seconds()
        call = timings.run_s - latency
        waited.append(wait)
        called.append(call)
        rest.append(seconds - wait - call)
    names = {"claim_ms": waited, "call_ms": called, "rest_ms": rest}
    return {name: round(statistics.median(each) * 1000, 2) for name, each in names.items()}


async def main(quick: bool = False, out: Path = RESULTS) -> int:
    """Run, print, write JSON; returns the exit code."""
    latency = 0.4 if quick else 2.0
    facts = machine.describe()
    if machine.busy(facts):
        print(f"note: the machine was busy when this began (load {facts['load_before'][0]})")
    rows = []
    for number, shape in enumerate(load.QUICK if quick else load.SHAPES):
        rows.append(await row(shape, latency, ours_first=number % 2 == 0))
    many = load.QUICK_CROWD if quick else load.CROWD
    crowd = await row(many, latency, ours_first=True, sampled=True)
    facts["load_after"] = [round(value, 2) for value in os.getloadavg()]
    aims = judged(rows, crowd, quick=quick)
    result = {
        "machine": facts,
        "simulated": True,
        "latency_s": latency,
        "quick": quick,
        "rows": rows,
        "crowd": crowd,
        "aims": aims,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    show(facts, rows, crowd, aims)
    print(f"written to {out}")
    return 0


async def row(
    shape: Shape, latency: float, *, ours_first: bool, sampled: bool = False
) -> dict[str, Any]:
    """Both sides of one load."""
    sides = {"agentflow": ours, "bare": bare}
    found: dict[str, Any] = {
        "calls": shape.calls,
        "in_flight": shape.in_flight,
        "processes": shape.processes,
        "rounds": shape.rounds,
        "floor_s": shape.floor(latency),
    }
    for name in sorted(sides, reverse=not ours_first):
        found[name] = await measure(sides[name], shape, latency, sampled=sampled)
        print(f"{shape}, {name}: ", end="")
        print(json.dumps(found[name]), flush=True)
    return found


def judged(rows: list[dict[str, Any]], crowd: dict[str, Any], *, quick: bool) -> list[Aim]:
    """The aims, and what was found."""
    aims = []
    for each in rows:
        here = f"{each['calls']} at {each['in_flight']} in {each['processes']} processes"
        mine, yardstick = each["agentflow"], each["bare"]
        ratio = mine["makespan_s"] / yardstick["makespan_s"]
        aims.append(Aim(f"makespan over the bare SDK's, {here}", 1.2, round(ratio, 3)))
        if each["in_flight"] == 1:
            more = mine["p50_ms"] - yardstick["p50_ms"]
            aims.append(Aim(f"overhead over the bare call, p50 ms, {here}", 1.5, round(more, 2)))
    if not quick:
        aims.append(Aim("PSS MB of 100 processes x 10 slots", 2560, crowd["agentflow"]["pss_mb"]))
    return aims
