"""A network that drops, resets or swallows, between workers and a server that are both well."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agentflow.audit.evidence import Submission
from agentflow.audit.sources import ask_simulator
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.protocol.record import State
from tests.support.checker import check
from tests.support.ledger import Ledger
from tests.support.observer import Observer
from tests.support.parts import Parts
from tests.support.proxy import Proxy
from tests.support.until import until
from tests.support.worker_process import read_runs

pytestmark = pytest.mark.timeout(180)


def task(task_id: str, kind: str = "sleep", seconds: float = 0.0, **fields: Any) -> dict[str, Any]:
    return {"id": task_id, "kind": kind, "params": {"seconds": seconds}, **fields}


async def test_a_network_down_for_longer_than_the_lease_ends_each_task_once(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, proxy: Proxy, lease: float
) -> None:
    """The worker runs on behind the broken network; another takes over; what the first one sends
    when the network is back is refused."""
    cut_off = launch(proxy.url)
    await ready(cut_off)
    await ledger.submit_all(task(f"t{number}", seconds=1.5 * lease) for number in range(8))
    for task_id in ledger.ids:
        await observer.state(task_id, State.RUNNING)
    proxy.hold()
    other = launch(ask=0.9 if lease < 5 else 5.0)
    await ready(other)
    taken = {observer.workers[other.pid].actor}
    for task_id in ledger.ids:
        assert (await observer.ended(task_id, within=10 * lease + 40)).actor in taken
    proxy.release()
    await observer.at_rest(30)
    assert await check(observer.js, ledger, faults=1) == []
    # And the one that was cut off works again.
    other.kill()
    await ledger.submit_all([task("next")])
    await observer.ended("next", within=60)
    await observer.at_rest(30)
    assert await check(observer.js, ledger, faults=1) == []


async def test_a_network_down_for_less_than_the_lease_changes_nothing(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, proxy: Proxy, runs: Path
) -> None:
    workers = [launch(proxy.url, lease=6.0), launch(proxy.url, lease=6.0)]
    await ready(*workers)
    await ledger.submit_all(task(f"t{number}", seconds=0.5) for number in range(30))
    await observer.until(lambda: len(observer.live) >= 10)
    proxy.hold()
    await asyncio.sleep(1.5)
    proxy.release()
    await observer.all_ended(ledger.ids, 60)
    await observer.at_rest(30)
    assert await check(observer.js, ledger, faults=0) == []
    starts = Counter(run.id for run in read_runs(runs) if run.what == "start")
    assert set(starts.values()) == {1}


async def test_connections_that_are_reset_again_and_again(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, proxy: Proxy, runs: Path
) -> None:
    workers = [launch(proxy.url, ask=0.9), launch(proxy.url, ask=0.9)]
    await ready(*workers)

    async def submit() -> None:
        for number in range(120):
            await ledger.insist(task(f"t{number}", seconds=0.1))
            await asyncio.sleep(0.02)

    async def reset() -> None:
        for _ in range(8):
            await asyncio.sleep(0.4)
            proxy.cut()

    await asyncio.gather(submit(), reset())
    await observer.all_ended(ledger.ids, 60)
    await observer.at_rest(30)
    assert await check(observer.js, ledger) == []


async def test_what_reaches_the_server_and_is_not_answered_is_not_done_twice(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, proxy: Proxy, runs: Path
) -> None:
    """One way only: results arrive, their PubAcks do not. The worker reads the log, and stops."""
    worker = launch(proxy.url, lease=6.0)
    await ready(worker)
    await ledger.submit_all(task(f"t{number}", seconds=1.5) for number in range(6))
    for task_id in ledger.ids:
        await observer.state(task_id, State.RUNNING)
    # Who is not told that its claim is stored begins nothing.
    await until(lambda: sum(run.what == "start" for run in read_runs(runs)) == len(ledger.ids))
    proxy.hold(up=False)
    await observer.all_ended(ledger.ids)  # stored, though nobody told the worker
    proxy.cut()
    proxy.release()
    await observer.at_rest(40)
    assert await check(observer.js, ledger, faults=0) == []
    starts = Counter(run.id for run in read_runs(runs) if run.what == "start")
    assert set(starts.values()) == {1}


async def test_a_lost_ack_after_a_stored_result_is_no_second_call(
    observer: Observer, ledger: Ledger, parts: Parts, proxy: Proxy
) -> None:
    """The real handler, the real SDK: the worker dies between its result and its ack."""
    claude = await parts.simulator()
    environment = {"ANTHROPIC_BASE_URL": claude, "ANTHROPIC_API_KEY": "simulated"}
    work = ("worker", "--lease", "2", "--kinds", "claude", "--nats")
    doomed = parts.start(*work, proxy.url, **environment)
    await doomed.says("slots on")
    proxy.hold_after(b"PUB agentflow.results.it ")
    await ledger.submit_all([{"id": "it", "prompt": "Write a haiku"}])
    await observer.ended("it", within=30)
    assert await observer.pending_acks() == 1
    doomed.kill()
    other = parts.start(*work, observer.connection.options.urls[0], **environment)
    await other.says("slots on")
    await observer.at_rest(30)
    calls = await asyncio.to_thread(ask_simulator, claude)
    assert await check(observer.js, ledger, faults=0, calls=calls) == []
    assert len(calls.requests) == 1
    assert await observer.states("it") == [State.RUNNING, State.SUCCEEDED]


async def test_a_submitter_whose_ack_is_lost_submits_again_and_it_runs_once(
    observer: Observer, launch: Any, ready: Any, proxy: Proxy, runs: Path
) -> None:
    await ready(launch())
    async with await Connection.open(Connect(urls=(proxy.url,)), "submitter") as connection:
        unsure = Ledger(JetStream(connection))
        proxy.hold(up=False)
        assert not await unsure.submit(task("it"), within=0.5)
        await observer.ended("it")
        proxy.release()
        await unsure.insist(task("it"))
    await observer.at_rest()
    told = [line for line in unsure if line.acknowledged]
    assert await check(observer.js, [Submission("it"), *told], faults=0) == []
    assert [run.what for run in read_runs(runs)] == ["start", "end"]
