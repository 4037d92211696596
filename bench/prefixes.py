"""Of tasks that begin alike, how many read what the first of them wrote into the prompt cache?

A run of 500 with 100 in flight, real workers and the real SDK against the simulator, whose cache
holds a prefix once the answer that writes it has begun. Alone, one after the other, the first would
write and 499 would read: the figure is the share of those reads.
"""

from __future__ import annotations

import time
from typing import Any, Final

from agentflow.handlers import price_file
from agentflow.protocol.record import Usage
from agentflow.rules.routes.prices import saved_by_caching
from bench.governor.shapes import Shape
from bench.governor.stage import stage
from bench.instruments import machine

TASKS: Final = 500
MODEL: Final = "claude-sonnet-5-5"
AIM: Final = 0.95


def task(number: int, prefixes: int) -> dict[str, Any]:
    """Fields of a task: a document of 4,000 tokens that many share, and a question of its own."""
    document = f"Document {number % prefixes}. " + "word " * 3_200
    mark = {"type": "ephemeral"}
    return {
        "prompt": f"Question {number}?",
        "model": MODEL,
        "params": {"system": [{"type": "text", "text": document, "cache_control": mark}]},
    }


async def measure(processes: int, slots: int, prefixes: int) -> tuple[int, int, float]:
    """Reads, micro-USD saved, seconds."""
    shape = Shape(axis="requests", limit=1e6, burst=60, processes=processes, slots=slots)
    usage = Usage()
    async with stage(shape, governed=True) as there:
        began, reads = time.monotonic(), 0
        tasks = [task(at, prefixes) for at in range(TASKS)]
        async for result in there.client.map(tasks, concurrency=TASKS):
            reads += result.usage.cache_read_input_tokens > 0
            usage += result.usage
    prices = price_file.load()
    return reads, saved_by_caching(MODEL, usage, prices), time.monotonic() - began


async def main() -> int:
    """Run and print; 1 where the aim was missed."""
    machine.noted()
    missed = 0
    for processes, slots, prefixes in ((1, 100, 1), (2, 50, 1), (2, 50, 5), (10, 10, 1)):
        reads, saved, seconds = await measure(processes, slots, prefixes)
        share = reads / (TASKS - prefixes)
        missed += share < AIM
        print(
            f"{processes} x {slots} slots, {prefixes} prefix(es): {reads} of {TASKS} read, "
            f"{share:.1%} of what one at a time would; ${saved / 1e6:.2f} saved, {seconds:.1f} s"
        )
    return 1 if missed else 0
