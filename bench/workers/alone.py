"""The request by hand (sse.py) without a queue, a log or a worker: the least there is.

`python -m bench.workers.alone` says `ready`; then each line of JSON on stdin, the prompts and how
many at once, is answered by a line with what each took.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator

import msgspec

from bench.compare.drive import Answer, Order
from bench.workers.sse import AnswerBroken, Api


async def answers(api: Api, order: Order) -> list[Answer]:
    """All of an order, so many at once."""
    collected: list[Answer] = []

    async def place(prompts: Iterator[str]) -> None:
        for prompt in prompts:
            began = time.perf_counter()
            problem = ""
            try:
                await api.ask(prompt)
            except (AnswerBroken, OSError, EOFError) as error:
                problem = f"{type(error).__name__}: {error}"
            collected.append(Answer(prompt, time.perf_counter() - began, problem))

    prompts = iter(order.prompts)
    await asyncio.gather(*(place(prompts) for _ in range(order.in_flight)))
    return collected


async def main() -> None:
    """Serve orders until stdin ends."""
    api = Api.from_environment()
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        done = await answers(api, msgspec.json.decode(line, type=Order))
        sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(main())
