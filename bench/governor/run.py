"""How much of its limit does a fleet use, and how much of what it asks is refused?

For each shape the real thing twice, with the governor and with closures only: real nats-server and
workers, the real SDK, and a simulator with token buckets. Measured after a ramp:

    utilisation   what was used of what the bucket was refilled with, on the axis that binds
    refused       the share of 429 among all requests, from the very first on

`--seconds` and `--ramp` say for how long; a short run has more of the noise of a few answers.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.governor.shapes import SHAPES, Shape
from bench.governor.stage import stage
from bench.instruments import machine

RESULTS: Final = Path(__file__).parent.parent / "results" / "governor.json"
AIM: Final = 0.95


async def measure(shape: Shape, *, governed: bool, ramp: float, seconds: float) -> dict[str, Any]:
    """The figures of one shape."""
    async with stage(shape, governed=governed) as there:
        submitting = asyncio.create_task(there.submit(shape.calls(ramp + seconds)))
        await asyncio.sleep(ramp)
        first, began = await there.used(), time.monotonic()
        given, last, factor, killed = 0.0, began, 1.0, 0
        while (now := time.monotonic()) < began + seconds:
            share = (now - began) / seconds
            if shape.factor(share) != factor:
                factor = shape.factor(share)
                await there.limit(factor)
            if shape.kill and not killed and share >= 0.5:
                killed = there.kill()
            await asyncio.sleep(0.25)
            given += shape.refill(factor) * (time.monotonic() - last)
            last = time.monotonic()
        end = await there.used()
        submitting.cancel()
    used = getattr(end, shape.axis) - getattr(first, shape.axis)
    asked = end.answered + end.refused
    return {
        "utilisation": round(used / given, 3),
        "refused": round(end.refused / max(1, asked), 4),
        "answered": end.answered,
        "killed": killed,
    }


async def main(only: str, ramp: float, seconds: float, out: Path, *, closed: bool = True) -> int:
    """Run, print, write JSON; returns the exit code: 1 where an aim was missed."""
    facts, rows = machine.noted(), []
    for shape in SHAPES:
        if only not in shape.name:
            continue
        row: dict[str, Any] = {"shape": shape.name, "refused_most": shape.refused_most}
        for name in ("governor", "closed") if closed else ("governor",):
            row[name] = await measure(
                shape, governed=name == "governor", ramp=ramp, seconds=seconds
            )
        ours = row["governor"]
        row["met"] = ours["utilisation"] >= AIM and ours["refused"] <= shape.refused_most
        rows.append(row)
        print(msgspec.json.encode(row).decode(), flush=True)
    result = {
        "machine": facts,
        "simulated": True,
        "ramp_s": ramp,
        "seconds": seconds,
        "rows": rows,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    print(f"written to {out}")
    return 0 if all(row["met"] for row in rows) else 1
