"""A loop that is kept from its work: measured, and whose code it is stands in the log."""

import asyncio
import logging
import time

import pytest

from agentflow.handlers.contract import Outcome, Run
from agentflow.worker import lag
from tests.integration.conftest import StartWorker
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(45)


def compute_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


async def itself(run: Run) -> Outcome:
    await asyncio.sleep(0)
    compute_for(1.7)
    return Outcome()


async def test_a_handler_that_blocks_the_loop_is_named(
    observer: Observer, start_worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    await start_worker({"blocks": itself})
    with caplog.at_level(logging.WARNING, lag.__name__):
        await observer.submit({"id": "slow-one", "kind": "blocks", "params": {}})
        await observer.ended("slow-one")
        beat = await observer.until(
            lambda: next(
                (b for b in observer.workers.values() if (b.loop_lag_ms or 0) > 1000), None
            )
        )
    named = [record.getMessage() for record in caplog.records if "blocks" in record.message]
    assert len(named) == 1  # once, however long it lasts
    assert named[0].startswith("task slow-one (kind blocks) blocks the event loop")
    assert "test_lag.py" in named[0]
    assert "in compute_for" in named[0]
    assert "in itself" in named[0]
    assert beat.done == 1


async def test_a_worker_on_time_says_so(observer: Observer, start_worker: StartWorker) -> None:
    await start_worker()
    beat = await observer.until(lambda: next(iter(observer.workers.values()), None))
    assert beat.loop_lag_ms is not None
