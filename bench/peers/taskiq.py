"""taskiq over NATS JetStream or Redis streams; the setting's first word names the broker."""

from __future__ import annotations

import asyncio
from typing import Any

from taskiq import AsyncBroker

from bench.peers import shapes

SETTING = shapes.setting()
PLAIN = SETTING.endswith("plain")


def _broker() -> AsyncBroker:
    if SETTING.startswith("nats"):
        import taskiq_nats as nats
        from taskiq_redis import RedisAsyncResultBackend

        url = shapes.url("nats")
        # Its push broker lets a client, too, take tasks; and it waits until a batch is full.
        over_nats: AsyncBroker = nats.PullBasedJetStreamBroker(url, queue="tasks")
        if PLAIN:
            return over_nats.with_result_backend(nats.NATSObjectStoreResultBackend(url))
        return over_nats.with_result_backend(RedisAsyncResultBackend(shapes.url("redis")))
    from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

    url = shapes.url("redis")
    chosen = ListQueueBroker if SETTING.endswith("list") else RedisStreamBroker
    broker: AsyncBroker = chosen(url)
    return broker.with_result_backend(RedisAsyncResultBackend(url, result_ex_time=3600))


broker = _broker()


@broker.task("noop")
async def noop(number: int, text: str) -> int:
    """Does nothing."""
    return shapes.ran(number)


@broker.task("nap")
async def nap(number: int, text: str, seconds: float) -> int:
    """Sleeps."""
    await asyncio.sleep(seconds)
    return shapes.ran(number)


async def submit(number: int, seconds: float) -> Any:
    """One task."""
    if seconds:
        return await nap.kiq(number, shapes.TEXT, seconds)
    return await noop.kiq(number, shapes.TEXT)


async def wait(task: Any, alone: bool) -> int:
    """Its result; by default it is asked for five times a second."""
    interval = 0.2 if SETTING.endswith("plain") else 0.001 if alone else 0.01
    result = await task.wait_result(check_interval=interval, timeout=shapes.PATIENCE)
    return int(result.return_value)


async def main() -> None:
    """The client."""
    await broker.startup()
    try:
        await shapes.polled(submit, wait)
    finally:
        await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
