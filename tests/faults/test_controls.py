"""The checker's own test on real processes: with the fence removed it must find what then happens.

The scenario is that of a worker that is cut off past its lease; with the fence it is well
(test_network.py), without it the task has two histories.
"""

from typing import Any

import pytest

from agentflow.protocol.record import State
from tests.support.checker import check
from tests.support.observer import Observer
from tests.support.proxy import Proxy

pytestmark = pytest.mark.timeout(150)


async def test_without_the_fence_a_zombie_is_found(
    observer: Observer, launch: Any, ready: Any, proxy: Proxy, lease: float
) -> None:
    # One slot: it asks for no more, so nobody but the other gets the task again, in one lease. Cut
    # off for two, it would have lost its connection and with it the result that is to arrive.
    zombie = launch(proxy.url, fence=False, slots=1)
    await ready(zombie)
    await observer.submit({"id": "it", "kind": "sleep", "params": {"seconds": 1.0}})
    await observer.state("it", State.RUNNING)
    proxy.hold()
    other = launch(ask=0.9, fence=False)
    ended = await observer.ended("it", within=20 + 2 * lease)
    assert ended.actor == observer.workers[other.pid].actor
    proxy.release()  # the result that was on its way arrives
    await observer.until(
        lambda: sum(entry.state == State.SUCCEEDED for entry in observer.live["it"]) == 2, 40
    )
    await observer.at_rest(40)
    found = await check(observer.js, ["it"])
    # What the zombie wrote names its own claim, and everybody after it.
    assert found[0].startswith("duplicated: it: succeeded at 4 follows 1")
