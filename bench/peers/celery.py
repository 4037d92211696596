"""Celery over Redis, results in Redis."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery

from bench.peers import shapes

app = Celery("bench", broker=shapes.url("redis"), backend=shapes.url("redis"))
if shapes.setting() == "late":
    # Acknowledged after the run, as every other queue here does.
    app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)


@app.task(name="noop")
def noop(number: int, text: str) -> int:
    """Does nothing."""
    return shapes.ran(number)


@app.task(name="nap")
def nap(number: int, text: str, seconds: float) -> int:
    """Sleeps."""
    time.sleep(seconds)
    return shapes.ran(number)


def submit(number: int, seconds: float) -> Any:
    """One task."""
    if seconds:
        return nap.delay(number, shapes.TEXT, seconds)
    return noop.delay(number, shapes.TEXT)


def wait(result: Any) -> int:
    """Its result, pushed through Redis' publish and subscribe."""
    return int(result.get(timeout=shapes.PATIENCE))


if __name__ == "__main__":
    shapes.blocking(submit, wait)
