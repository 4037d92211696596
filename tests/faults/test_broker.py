"""The server dies, comes back, stands still, or everything dies with it."""

import asyncio
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow.audit import verify
from agentflow.audit.trail import Kind
from agentflow.protocol import subjects
from tests.faults.conftest import Scale
from tests.support.checker import check
from tests.support.ledger import Ledger
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.parts import Part, Parts
from tests.support.slow_disk import SlowDisk

pytestmark = pytest.mark.timeout(600)


def task(task_id: str, seconds: float = 0.0, kind: str = "sleep", **fields: Any) -> dict[str, Any]:
    return {"id": task_id, "kind": kind, "params": {"seconds": seconds}, **fields}


async def ended(observer: Observer, ids: list[str], within: float) -> None:
    """All have ended, as the streams say: live copies may be lost while the server is away."""

    async def done() -> bool:
        report = await verify(observer.js)
        states = report.figures.states
        return sum(states.get(name, 0) for name in ("succeeded", "failed", "cancelled")) >= len(ids)

    await observer.becomes(done, within)
    await observer.at_rest(within)

    async def fired() -> bool:
        return await observer.messages(subjects.SCHEDULE) == 0

    await observer.becomes(fired, within)


async def test_a_broker_killed_at_random_phases_leaves_no_worker_deaf(
    observer: Observer,
    ledger: Ledger,
    nats_server: NatsServer,
    launch: Any,
    ready: Any,
    scale: Scale,
) -> None:
    """Submit, pull, claim, renew, result, ack: whatever is on its way is cut somewhere else each
    time. At the end each worker must run a task that only it can have."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    workers = [launch(slots=4, ask=0.9, queues=["default", name]) for name in ("a", "b")]
    await ready(*workers)
    stop = asyncio.Event()

    async def submit() -> None:
        while not stop.is_set():
            number = len(ledger)
            body = task(f"t{number}", chance.choice([0.0, 0.0, 0.05, 0.3]))
            await ledger.submit(body, within=1.0)
            await asyncio.sleep(0.01)

    submitting = asyncio.create_task(submit())
    for _ in range(scale(8, 100)):
        await asyncio.sleep(chance.uniform(0.0, 0.6))
        await asyncio.to_thread(nats_server.kill)
        await asyncio.sleep(chance.choice([0.0, 0.0, 0.1, 0.5]))
        await asyncio.to_thread(nats_server.start)
    stop.set()
    await submitting
    for queue in ("a", "b"):
        await ledger.insist(task(f"only-{queue}"), f"agentflow.tasks.{queue}")
    await ended(observer, ledger.ids, 120)
    assert await check(observer.js, ledger) == []
    for queue in ("a", "b"):
        last = (await observer.last(f"only-{queue}")).record
        assert last is not None
        assert last.state == "succeeded"


async def test_everything_killed_at_once_and_started_again(
    observer: Observer,
    ledger: Ledger,
    nats_server: NatsServer,
    parts: Parts,
    lease: float,
    scale: Scale,
) -> None:
    def start() -> list[Any]:
        work = ("worker", "--lease", str(lease), "--kinds", "echo,sleep", "-c", "8")
        return [
            parts.start("master", "--nats", nats_server.url),
            *(parts.start(*work, "--nats", nats_server.url) for _ in range(2)),
        ]

    everything = start()
    for worker in everything[1:]:
        await worker.says("slots on")
    for round_ in range(scale(1, 3)):
        known = len(observer.live)
        await ledger.submit_all(task(f"r{round_}-{number}", 0.5) for number in range(60))
        await observer.until(lambda known=known: len(observer.live) > known + 5, 60)
        nats_server.kill()
        for part in everything:
            part.kill()
        nats_server.start()
        everything = start()
    await ended(observer, ledger.ids, 90)
    assert await check(observer.js, ledger, faults=scale(1, 3)) == []


@pytest.mark.long("it sleeps longer than the lease, for all")
async def test_everything_suspended_for_longer_than_the_lease(
    observer: Observer, ledger: Ledger, nats_server: NatsServer, launch: Any, ready: Any
) -> None:
    """A laptop that is closed: all stand still at once, and wake one after the other."""
    workers = [launch(ask=0.9), launch(ask=0.9)]
    await ready(*workers)
    await ledger.submit_all(task(f"t{number}", 0.5) for number in range(40))
    await observer.until(lambda: len(observer.live) > 10)
    for worker in workers:
        worker.process.send_signal(signal.SIGSTOP)
    nats_server.pause()
    await asyncio.sleep(5.0)
    nats_server.resume()
    for worker in workers:
        await asyncio.sleep(0.5)
        worker.process.send_signal(signal.SIGCONT)
    await ended(observer, ledger.ids, 60)
    assert await check(observer.js, ledger) == []


async def test_a_store_that_is_removed_is_a_loss_that_is_found_and_told(
    observer: Observer, ledger: Ledger, nats_server: NatsServer, parts: Parts
) -> None:
    """Nobody can keep what is no longer there. It must not pass unseen, and work must go on."""
    master = parts.start("master", "--nats", nats_server.url)
    work = ("worker", "--lease", "2", "--kinds", "echo,sleep", "--nats", nats_server.url)
    worker = parts.start(*work)
    # One that loses the server while it starts ends, as is right.
    await master.says("is ready")
    await worker.says("slots on")
    await ledger.submit_all([*(task(f"t{number}") for number in range(5)), task("long", 600.0)])
    await observer.all_ended([f"t{number}" for number in range(5)])
    await ledger.submit_all([task("waits")], "agentflow.tasks.nobody")
    nats_server.kill()
    await asyncio.to_thread(shutil.rmtree, nats_server.store)
    nats_server.start()
    # Streams are made again by whoever may, and new tasks run.
    before, after = list(ledger), Ledger(observer.js)
    await after.insist(task("new"))
    await observer.becomes(lambda: _succeeded(observer, "new"), 60)
    report = await verify(observer.js, ledger=[*before, *after])
    lost = {finding.id for finding in report.findings if finding.kind == Kind.LOST}
    assert lost >= {"waits", "t0", "t4"}
    assert "new" not in lost
    assert worker.alive
    assert master.alive


async def _succeeded(observer: Observer, task_id: str) -> bool:
    return (await observer.last(task_id)).state == "succeeded"


Stall = Callable[[Parts, str], Part]


def a_stream_of_results(parts: Parts, url: str) -> Part:
    return parts.start("watch", "--nats", url)


def a_dashboard(parts: Parts, url: str) -> Part:
    """`agentflow tui` in a terminal of its own, which shows its tasks."""
    return parts.start(
        "tui", "--nats", url, "--view", "tasks", terminal=True, TERM="xterm-256color"
    )


@pytest.mark.parametrize("stalling", [a_stream_of_results, a_dashboard])
async def test_a_slow_reader_costs_itself_its_connection_and_nobody_a_task(
    observer: Observer,
    ledger: Ledger,
    launch: Any,
    ready: Any,
    parts: Parts,
    stalling: Stall,
) -> None:
    """A terminal that stands still: the server drops what it would send it, not what others do."""
    watcher = stalling(parts, observer.connection.options.urls[0])
    await ready(launch(slots=50))
    while "first-" not in watcher.text():
        await ledger.submit_all([task(f"first-{len(ledger)}")])
        await asyncio.sleep(0.2)
    watcher.signal(signal.SIGSTOP)
    await ledger.submit_all(
        {"id": f"t{number}", "kind": "large", "params": {"bytes": 500_000}} for number in range(60)
    )
    await observer.all_ended(ledger.ids, 60)
    watcher.signal(signal.SIGCONT)
    await ledger.submit_all([task("after-it-stood")])
    await watcher.shows("after-it-stood")
    await observer.at_rest(30)
    assert await check(observer.js, ledger, faults=0) == []


@pytest.mark.tools("strace")
@pytest.mark.long("a disk that is slow for longer than the lease, after one that is only slow")
async def test_a_slow_disk_delays_and_loses_nothing(
    observer: Observer,
    ledger: Ledger,
    nats_server: NatsServer,
    launch: Any,
    ready: Any,
    lease: float,
    tmp_path: Path,
) -> None:
    """Each write of the server takes 20 ms, then longer than a renewal may."""
    await ready(launch(), launch())
    for delay, seconds in ((0.02, 10.0), (lease, 3 * lease)):
        disk = SlowDisk(nats_server.pid, delay, tmp_path / f"strace-{delay}").start()
        try:
            end = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < end:
                await ledger.submit(task(f"t{len(ledger)}", 0.05, max_attempts=100), within=5.0)
                await asyncio.sleep(0.02)
            assert disk.delayed
        finally:
            await asyncio.to_thread(disk.end)
    await ended(observer, ledger.ids, 60 + 4 * lease)
    assert await check(observer.js, ledger) == []
