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
import json
import os
import statistics
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import msgspec

from agentflow.views.result import Result
from bench.claude import load
from bench.claude.load import Shape
from bench.claude.outcome import Aim, show
from bench.claude.sides import Side, bare, ours, simulator
from bench.instruments import machine, tree

RESULTS: Final = Path(__file__).parent.parent / "results" / "claude.json"
SAMPLE_EVERY: Final = 0.25


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
        before = {name: tree.cpu_s(process) for name, process in watched.items()}
        highest = Highest(side.pid)
        sampler = asyncio.ensure_future(highest.watch()) if sampled else None
        rounds = [await side.round() for _ in range(shape.rounds)]
        if sampler is not None:
            sampler.cancel()
        used = {
            name: round((tree.cpu_s(process) - before[name]) / shape.rounds, 2)
            for name, process in watched.items()
        }
        times = [seconds - latency for done in rounds for seconds in done.times]
        assert len(times) == shape.calls * shape.rounds, f"{len(times)} calls came back"
        makespan = statistics.median(done.makespan_s for done in rounds)
        figures: dict[str, Any] = {
            "makespan_s": round(makespan, 3),
            "over_floor": round(makespan / shape.floor(latency), 3),
            **percentiles(times),
            "cpu_s": used,
            "pss_idle_mb": idle,
            "pss_mb": tree.pss_mb(side.pid),
        }
        if sampled:
            figures["pss_most_mb"] = highest.mb
        results = [result for done in rounds for result in done.results]
        if results:
            figures["parts"] = parts(results, times, latency)
        return figures


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
    return {name: round(statistics.median(parts) * 1000, 2) for name, parts in names.items()}


async def main(quick: bool = False, out: Path = RESULTS) -> int:
    """Run, print, write JSON; returns the exit code."""
    latency = 0.4 if quick else 2.0
    facts = machine.noted()
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
    figures: dict[str, Any] = {
        "calls": shape.calls,
        "in_flight": shape.in_flight,
        "processes": shape.processes,
        "rounds": shape.rounds,
        "floor_s": shape.floor(latency),
    }
    for name in sorted(sides, reverse=not ours_first):
        figures[name] = await measure(sides[name], shape, latency, sampled=sampled)
        print(f"{shape}, {name}: ", end="")
        print(json.dumps(figures[name]), flush=True)
    return figures


def judged(rows: list[dict[str, Any]], crowd: dict[str, Any], *, quick: bool) -> list[Aim]:
    """The aims, and what was found."""
    aims = []
    for row in rows:
        here = f"{row['calls']} at {row['in_flight']} in {row['processes']} processes"
        mine, yardstick = row["agentflow"], row["bare"]
        ratio = mine["makespan_s"] / yardstick["makespan_s"]
        aims.append(Aim(f"makespan over the bare SDK's, {here}", 1.2, round(ratio, 3)))
        if row["in_flight"] == 1:
            more = mine["p50_ms"] - yardstick["p50_ms"]
            aims.append(Aim(f"overhead over the bare call, p50 ms, {here}", 1.5, round(more, 2)))
    if not quick:
        aims.append(Aim("PSS MB of 100 processes x 10 slots", 2560, crowd["agentflow"]["pss_mb"]))
    return aims
