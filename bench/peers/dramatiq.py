"""dramatiq over Redis, with its Results middleware."""

from __future__ import annotations

import time
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.peers import shapes

# A blocking read may take longer than the five seconds after which its client gives up.
client = redis.Redis.from_url(shapes.url("redis"), socket_timeout=None)
broker = RedisBroker(url=shapes.url("redis"))
broker.add_middleware(Results(backend=RedisBackend(client=client)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(number: int, text: str) -> int:
    """Does nothing."""
    return shapes.ran(number)


@dramatiq.actor(store_results=True)
def nap(number: int, text: str, seconds: float) -> int:
    """Sleeps."""
    time.sleep(seconds)
    return shapes.ran(number)


def submit(number: int, seconds: float) -> Any:
    """One task."""
    if seconds:
        return nap.send(number, shapes.TEXT, seconds)
    return noop.send(number, shapes.TEXT)


def wait(message: Any) -> int:
    """Its result, by a blocking command of Redis."""
    return int(message.get_result(block=True, timeout=int(shapes.PATIENCE * 1000)))


if __name__ == "__main__":
    shapes.blocking(submit, wait)
