"""The master dies, stands still, or there are two: tasks flow on, and the next one knows all."""

import asyncio
import random
import signal
from typing import Any

import pytest

from agentflow.client import Client
from agentflow.config import Connect
from agentflow.errors import BusError
from tests.faults.conftest import Scale
from tests.support.checker import check
from tests.support.ledger import Ledger
from tests.support.observer import Observer
from tests.support.parts import Parts

pytestmark = pytest.mark.timeout(300)


def task(task_id: str, seconds: float = 0.0) -> dict[str, Any]:
    return {"id": task_id, "kind": "sleep", "params": {"seconds": seconds}}


async def test_masters_killed_and_stopped_under_load_cost_no_task(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, parts: Parts, scale: Scale
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    url = observer.connection.options.urls[0]
    masters = [parts.start("master", "--nats", url) for _ in range(2)]
    await ready(launch(slots=10), launch(slots=10))
    stop = asyncio.Event()

    async def submit() -> None:
        while not stop.is_set():
            await ledger.insist(task(f"t{len(ledger)}", chance.choice([0.0, 0.1])))
            await asyncio.sleep(0.005)

    submitting = asyncio.create_task(submit())
    for _ in range(scale(4, 40)):
        await asyncio.sleep(chance.uniform(0.1, 1.0))
        victim = masters.pop(0)
        if chance.random() < 0.5:
            victim.kill()
        else:
            # Stopped past its lease: the other takes it, and this one wakes beside it.
            victim.signal(signal.SIGSTOP)
            asyncio.get_running_loop().call_later(7.0, victim.signal, signal.SIGCONT)
        masters.append(parts.start("master", "--nats", url))
    await masters[-1].says("tasks are known", 60)
    stop.set()
    await submitting
    await observer.all_ended(ledger.ids, 60)
    await observer.at_rest()
    assert await check(observer.js, ledger, faults=0) == []
    async with Client(Connect(urls=(url,))) as client:
        # One that has just been stopped may still be asked, and says nothing.
        async def counted() -> bool:
            try:
                stats = await client.stats()
            except BusError:
                return False
            return stats.counts.get("succeeded") == len(ledger.ids)

        await observer.becomes(counted, 60)
