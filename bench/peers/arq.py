"""arq over Redis."""

from __future__ import annotations

import asyncio
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job

from bench.peers import shapes

TUNED = shapes.setting() == "tuned"
SERVER = RedisSettings.from_dsn(shapes.url("redis"))


async def noop(context: dict[str, Any], number: int, text: str) -> int:
    """Does nothing."""
    return shapes.ran(number)


async def nap(context: dict[str, Any], number: int, text: str, seconds: float) -> int:
    """Sleeps."""
    await asyncio.sleep(seconds)
    return shapes.ran(number)


class WorkerSettings:
    """What `arq` starts."""

    functions = (noop, nap)
    redis_settings = SERVER
    max_jobs = 1200 if TUNED else 10
    poll_delay = 0.01 if TUNED else 0.5
    log_results = not TUNED


async def main() -> None:
    """The client."""
    redis = await create_pool(SERVER)

    async def submit(number: int, seconds: float) -> Job:
        if seconds:
            job = await redis.enqueue_job("nap", number, shapes.TEXT, seconds)
        else:
            job = await redis.enqueue_job("noop", number, shapes.TEXT)
        if job is None:
            raise RuntimeError("arq took the job for one it has")
        return job

    async def wait(job: Job, alone: bool) -> int:
        delay = (0.001 if alone else 0.01) if TUNED else 0.5
        return int(await job.result(timeout=shapes.PATIENCE, poll_delay=delay))

    await shapes.polled(submit, wait)


if __name__ == "__main__":
    asyncio.run(main())
