"""FastStream over NATS: a request to a subscriber, which answers with its result."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.nats import JStream, NatsBroker, PullSub

from bench.peers import shapes

SETTING = shapes.setting()
SLOTS = 1200
STREAM = None if SETTING == "core" else "bench"

broker = NatsBroker(shapes.url("nats"), logger=None)
app = FastStream(broker)


def _options() -> dict[str, Any]:
    if SETTING == "core":
        return {"queue": "workers", "max_workers": SLOTS}
    stream = JStream(name="bench", subjects=["bench.>"])
    options = {"stream": stream, "durable": "workers", "ack_policy": AckPolicy.NACK_ON_ERROR}
    if SETTING == "tuned":
        return options | {"pull_sub": PullSub(batch_size=100), "max_workers": SLOTS}
    return options


@broker.subscriber("bench.tasks", **_options())
async def work(number: int, text: str, seconds: float) -> int:
    """Sleeps, if it is to."""
    if seconds:
        await asyncio.sleep(seconds)
    return shapes.ran(number)


@broker.subscriber("hello", queue="workers")
async def hello() -> bool:
    """Answers when `work`, which is subscribed before, can be asked."""
    return True


async def ready() -> None:
    """A request that nobody listens to fails at once, so the worker's start is waited for."""
    end = time.monotonic() + shapes.PATIENCE
    while True:
        try:
            await broker.request(None, "hello", timeout=1)
        except Exception:  # what it raises differs with how far the worker has come
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.05)
        else:
            return


async def main() -> None:
    """The client."""

    async def call(number: int, seconds: float) -> int:
        body = {"number": number, "text": shapes.TEXT, "seconds": seconds}
        answer = await broker.request(body, "bench.tasks", stream=STREAM, timeout=shapes.PATIENCE)
        return int(json.loads(answer.body))

    async with broker:
        await ready()
        await shapes.pushed(call)


if __name__ == "__main__":
    asyncio.run(main())
