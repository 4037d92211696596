"""Do four tenants of one queue get equal shares of a saturated limit, whatever each has waiting?

Lanes with 1, 10, 100 and 1,000 times the load, all with a backlog throughout; real worker
processes, a real nats-server and the real SDK against the simulator's buckets. The largest load
is there first, and is alone for as long as the others take to be submitted. Then it is counted,
by the simulator, what each lane is given.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec

from agentflow.client.operate import lanes
from agentflow.protocol import headers as blocks
from agentflow.protocol import subjects
from bench.governor.shapes import Shape
from bench.governor.stage import Stage, stage
from bench.instruments import machine

RESULTS: Final = Path(__file__).parent / "results" / "fair.json"
LANES: Final = {"d": 1000, "c": 100, "b": 10, "a": 1}
AT_ONCE: Final = 1_000
SHAPES: Final[tuple[tuple[Shape, dict[str, float]], ...]] = (
    (Shape(axis="requests", limit=300, burst=6, processes=2, slots=25), {}),
    (Shape(axis="output", limit=60_000, burst=6, processes=4, slots=10), {}),
    (Shape(axis="requests", limit=300, burst=6, processes=2, slots=25), {"a": 3.0}),
)
AIM: Final = 0.03
SETTLE: Final = 15.0
"""Seconds in which what was begun before all lanes were there ends."""


async def submit(there: Stage, lane: str, count: int) -> None:
    """Put so many tasks into a lane."""
    chance = random.Random(lane)
    js = there.client.js
    for start in range(0, count, AT_ONCE):
        waiting = []
        for number in range(start, min(count, start + AT_ONCE)):
            task = there.shape.task(number, chance)
            task["prompt"] = f"{lane} {task['prompt']}"
            block = blocks.encode({subjects.ID: f"{lane}-{number}"})
            body = msgspec.json.encode(task)
            waiting.append(js.store(subjects.task("default", "normal", lane), body, block, 30.0))
        await asyncio.gather(*waiting)


async def given(there: Stage, axis: str) -> Counter[str]:
    """What each lane was given so far."""
    stats = json.loads(await there.http("GET", "/_fake/stats?log=20000"))
    used: Counter[str] = Counter()
    for entry in stats["log"]:
        if entry["status"] == 200:
            used[entry["prompt"][:1]] += entry["output_tokens"] if axis == "output" else 1
    return used


async def measure(shape: Shape, weights: dict[str, float], seconds: float) -> dict[str, Any]:
    """The shares of one shape."""
    total = sum(weights.get(lane, 1.0) for lane in LANES)
    tasks = (seconds + SETTLE) * shape.refill(1.0) / (230 if shape.axis == "output" else 1)
    least = int(1.2 * tasks * max(weights.get("a", 1.0) / total, 1 / len(LANES))) + 20
    async with stage(shape, governed=True) as there:
        await lanes.set_to(there.client.js, "default", list(LANES))
        for lane, weight in weights.items():
            await lanes.set_to(there.client.js, "default", [lane], weight=weight)
        for lane, times in LANES.items():
            await submit(there, lane, least * times)
        await asyncio.sleep(SETTLE)
        before = await given(there, shape.axis)
        await asyncio.sleep(seconds)
        used = await given(there, shape.axis)
        used.subtract(before)
        left = {lane.lane: lane.tasks for lane in await lanes.standing(there.client.js)}
    shares = {lane: round(used[lane] / used.total(), 3) for lane in sorted(LANES)}
    wanted = {lane: weights.get(lane, 1.0) / total for lane in LANES}
    return {
        "shape": shape.name,
        "weights": weights,
        "seconds": seconds,
        "shares": shares,
        "met": all(abs(shares[lane] - wanted[lane]) <= AIM for lane in LANES),
        "backlogged": all(left[lane] > 0 for lane in LANES),
        "utilisation": round(used.total() / (shape.refill(1.0) * seconds), 3),
    }


async def main(only: str, seconds: float, out: Path) -> int:
    """Run, print, write JSON; 1 where an aim was missed."""
    facts, rows = machine.noted(), []
    for shape, weights in SHAPES:
        if only not in shape.name:
            continue
        rows.append(await measure(shape, weights, seconds))
        print(msgspec.json.encode(rows[-1]).decode(), flush=True)
    result = {"machine": facts, "simulated": True, "rows": rows}
    out.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    print(f"written to {out}")
    return 0 if all(row["met"] and row["backlogged"] for row in rows) else 1
