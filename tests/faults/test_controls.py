"""The checker's own test on real processes: with the fence removed it must find what then happens.

The scenario is that of a worker that is stopped past its lease and wakes; with the fence it is well
(test_worker_faults.py), without it the task has two histories.
"""

import signal
from typing import Any

import pytest

from agentflow.protocol.record import State
from tests.support.checker import check
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(90)


async def test_without_the_fence_a_zombie_is_found(
    observer: Observer, launch: Any, ready: Any
) -> None:
    zombie = launch(fence=False)
    await ready(zombie)
    await observer.submit({"id": "it", "kind": "sleep", "params": {"seconds": 1.0}})
    await observer.state("it", State.RUNNING)
    zombie.process.send_signal(signal.SIGSTOP)
    other = launch(ask=0.9, fence=False)
    ended = await observer.ended("it", within=30)
    assert ended.actor == observer.workers[other.pid].actor
    zombie.process.send_signal(signal.SIGCONT)
    await observer.until(
        lambda: sum(entry.state == State.SUCCEEDED for entry in observer.live["it"]) == 2
    )
    await observer.at_rest()
    found = await check(observer.js, ["it"])
    assert [text.partition(" follows")[0] for text in found] == ["duplicated: it: succeeded at 4"]
