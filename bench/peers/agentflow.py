"""AgentFlow itself, through what a user has: an App, `agentflow worker`, `submit` and `map`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import agentflow
from bench.peers import shapes

app = agentflow.App()


@app.task
async def noop(number: int, text: str) -> int:
    """Does nothing."""
    return shapes.ran(number)


@app.task
async def nap(number: int, text: str, seconds: float) -> int:
    """Sleeps."""
    await asyncio.sleep(seconds)
    return shapes.ran(number)


def item(number: int, seconds: float) -> dict[str, Any]:
    """One task."""
    params: dict[str, Any] = {"number": number, "text": shapes.TEXT}
    if not seconds:
        return {"kind": "noop", "params": params}
    return {"kind": "nap", "params": params | {"seconds": seconds}}


def value_of(result: agentflow.Result) -> int:
    """What the function returned. Raises RuntimeError for a task that failed."""
    if not result.ok:
        raise RuntimeError(f"task {result.id} is {result.state}: {result.error}")
    return int(result.value)


async def main() -> None:
    """The client."""
    check = shapes.Check()
    async with agentflow.connect(shapes.url("nats")) as client:

        async def one(number: int) -> None:
            task = await client.submit(**item(number, 0.0))
            check.back(value_of(await task.result()))

        async def many(numbers: Iterable[int], window: int, seconds: float) -> None:
            items = (item(number, seconds) for number in numbers)
            results: AsyncIterator[agentflow.Result] = client.map(items, concurrency=window)
            async for result in results:
                check.back(value_of(result))

        await shapes.measure(check, one, many)


if __name__ == "__main__":
    asyncio.run(main())
