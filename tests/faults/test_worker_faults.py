"""kill -9, SIGSTOP and a broker that goes away, on real worker processes.

Every test ends with the checker: each acknowledged submission has exactly one final record, at the
end of an unbroken chain, and nothing is left behind.
"""

import asyncio
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agentflow.protocol import subjects
from agentflow.protocol.record import State
from tests.support.checker import check, logs
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.until import until
from tests.support.worker_process import read_runs

pytestmark = pytest.mark.timeout(90)

QUICK_ASK = 0.9


def task(task_id: str, kind: str = "sleep", seconds: float = 0.0, **fields: Any) -> dict[str, Any]:
    return {"id": task_id, "kind": kind, "params": {"seconds": seconds}, **fields}


async def settled(observer: Observer, ids: list[str], within: float = 40.0) -> None:
    """All logs have ended and the queue is empty; read, as a live record may have been missed."""

    async def ended() -> bool:
        found = await logs(observer.js)
        return all(
            task_id in found and (last := found[task_id][-1].record) is not None and last.terminal
            for task_id in ids
        )

    async def sourced() -> bool:
        return await observer.messages(subjects.SCHEDULE) == 0

    await observer.becomes(ended, within)
    await observer.at_rest(within)
    # The server takes a due schedule out of its stream a second after the queue has it.
    await observer.becomes(sourced, within)


async def test_a_killed_workers_task_is_taken_over(
    observer: Observer, launch: Any, ready: Any
) -> None:
    first = launch()
    await ready(first)
    await observer.submit(task("it", "hang"))
    running = (await observer.state("it", State.RUNNING)).record
    second = launch()
    await ready(second)
    killed = time.monotonic()
    first.kill()
    ended = await observer.ended("it", within=30)
    took = time.monotonic() - killed

    assert running is not None
    assert (ended.state, ended.attempt, ended.failures) == (State.SUCCEEDED, 2, 1)
    assert ended.actor == observer.workers[second.pid].actor != running.actor
    # Not before the lease: nobody else had the message. The bound above is a deadlock's, not a
    # promise about this machine.
    assert took >= 1.0
    await observer.at_rest()
    assert await check(observer.js, ["it"]) == []


async def test_a_stopped_worker_that_wakes_writes_nothing(
    observer: Observer, launch: Any, ready: Any, lease: float
) -> None:
    zombie = launch()
    await ready(zombie)
    await observer.submit(task("it", seconds=1.0))
    await observer.state("it", State.RUNNING)
    zombie.process.send_signal(signal.SIGSTOP)
    other = launch(ask=QUICK_ASK)
    # What it asked for before may bring it the task once more, which it keeps for another lease.
    ended = await observer.ended("it", within=20 + 2 * lease)
    assert ended.actor == observer.workers[other.pid].actor
    log = await observer.log("it")

    del observer.workers[zombie.pid]
    zombie.process.send_signal(signal.SIGCONT)
    # It finishes its sleep, is refused, lets go, and says so with a heartbeat.
    beat = await observer.until(
        lambda: (
            (beat := observer.workers.get(zombie.pid))
            and beat.time > ended.time
            and not beat.running
            and beat
        )
    )
    assert (beat.done, beat.failed) == (0, 0)
    assert await observer.log("it") == log
    await observer.at_rest()
    assert await check(observer.js, ["it"]) == []
    # And it still works.
    other.kill()
    await observer.submit(task("next"))
    assert (await observer.ended("next")).actor == beat.actor


async def test_a_broker_killed_under_running_tasks(
    observer: Observer, nats_server: NatsServer, launch: Any, ready: Any, runs: Path
) -> None:
    """Away for longer than the lease: all is delivered again, asked for, and left where it runs."""
    workers = [launch(), launch()]
    await ready(*workers)
    ids = [f"t{number}" for number in range(16)]
    for task_id in ids:
        await observer.submit(task(task_id, seconds=5.0))
    for task_id in ids:
        await observer.state(task_id, State.RUNNING)
    nats_server.kill()
    await asyncio.sleep(2.5)  # longer than the lease
    nats_server.start()
    await settled(observer, ids)

    assert await check(observer.js, ids) == []
    assert Counter(run.id for run in read_runs(runs) if run.what == "start") == Counter(ids)
    assert {(await observer.last(task_id)).state for task_id in ids} == {State.SUCCEEDED}


async def test_results_wait_for_the_broker(
    observer: Observer, nats_server: NatsServer, launch: Any, ready: Any, runs: Path
) -> None:
    """The runs end while the broker is away: each result is written once it is back."""
    workers = [launch(lease=30.0), launch(lease=30.0)]  # nobody takes over from whoever is slow
    await ready(*workers)
    ids = [f"t{number}" for number in range(16)]
    for task_id in ids:
        await observer.submit(task(task_id, seconds=1.0))
    for task_id in ids:
        await observer.state(task_id, State.RUNNING)
    nats_server.kill()
    async with asyncio.timeout(20):
        await until(lambda: sum(run.what == "end" for run in read_runs(runs)) == len(ids))
    nats_server.start()
    await settled(observer, ids)
    assert await check(observer.js, ids) == []
    assert Counter(run.id for run in read_runs(runs) if run.what == "start") == Counter(ids)


async def test_an_idle_worker_hears_after_the_broker_is_back(
    observer: Observer, nats_server: NatsServer, launch: Any, ready: Any
) -> None:
    worker = launch()
    await ready(worker)
    ids = []
    for number, end in enumerate((nats_server.kill, nats_server.stop, nats_server.kill)):
        ids.append(f"t{number}")
        await asyncio.to_thread(end)
        await asyncio.to_thread(nats_server.start)
        async with asyncio.timeout(20):
            await observer.connection.connected.wait()

        async def stored(task_id: str = ids[-1]) -> bool:
            await observer.submit(task(task_id))
            return True

        await observer.becomes(stored)
        # Less than it takes to notice that the server forgot a request: the reconnection asks anew.
        await settled(observer, ids, within=9)
    assert await check(observer.js, ids) == []


async def test_a_worker_started_before_its_broker(
    observer: Observer, nats_server: NatsServer, launch: Any, ready: Any
) -> None:
    await observer.submit(task("it"))
    nats_server.kill()
    worker = launch()
    async with asyncio.timeout(20):
        await until(lambda: b"waiting for NATS" in worker.log.read_bytes())
    nats_server.start()
    await settled(observer, ["it"])
    assert await check(observer.js, ["it"]) == []


async def test_sigterm_lets_running_tasks_finish(
    observer: Observer, launch: Any, ready: Any
) -> None:
    worker = launch(slots=2)
    await ready(worker)
    ids = [f"t{number}" for number in range(4)]
    for task_id in ids:
        await observer.submit(task(task_id, seconds=1.0))
    for task_id in ids[:2]:
        await observer.state(task_id, State.RUNNING)
    worker.process.terminate()
    assert await worker.exited(15) == 0
    for task_id in ids[:2]:
        assert await observer.states(task_id) == [State.RUNNING, State.SUCCEEDED]
    for task_id in ids[2:]:
        assert await observer.states(task_id) == []
    assert observer.workers[worker.pid].interval_s == 0.0  # the last heartbeat announces no next
    await ready(launch())
    await settled(observer, ids)
    assert await check(observer.js, ids) == []


TOLD_WHILE_IT_STARTS = """
import asyncio, os, signal, sys
from agentflow.bus.streams.puller import Puller
from agentflow.config import Connect
from agentflow.worker.process import serve

begin = Puller.start

async def told(puller):
    await begin(puller)
    os.kill(os.getpid(), signal.SIGTERM)

Puller.start = told
asyncio.run(serve(Connect(urls=(sys.argv[1],)), kinds=["echo"]))
"""


async def test_sigterm_at_the_first_pull_is_an_orderly_stop(
    observer: Observer, nats_server: NatsServer
) -> None:
    """The signal comes before the worker has said that it is ready."""
    command = (sys.executable, "-c", TOLD_WHILE_IT_STARTS, nats_server.url)
    child = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    async with asyncio.timeout(20):
        assert await child.wait() == 0
    beat = await observer.until(lambda: next(iter(observer.workers.values()), None))
    assert beat.stopping


async def test_a_second_sigterm_hands_back_at_once(
    observer: Observer, launch: Any, ready: Any
) -> None:
    worker = launch(grace=600.0, lease=60.0)
    await ready(worker)
    await observer.submit(task("it", "hang"))
    await observer.state("it", State.RUNNING)
    worker.process.terminate()
    await observer.until(lambda: observer.workers[worker.pid].stopping)
    worker.process.terminate()
    assert await worker.exited(15) == 0
    handed = (await observer.last("it")).record
    assert handed is not None
    assert (handed.state, handed.attempt) == (State.QUEUED, 0)
    # The lease of a minute plays no part: it was handed back.
    await observer.log_as("client").cancel("it")
    await ready(launch(lease=60.0))
    await observer.at_rest()
    assert await check(observer.js, ["it"]) == []


async def test_sigterm_without_a_broker(
    observer: Observer, nats_server: NatsServer, launch: Any, ready: Any
) -> None:
    worker = launch(grace=1.0)
    await ready(worker)
    for number, kind in enumerate(("hang", "hang", "sleep")):
        await observer.submit(task(f"t{number}", kind, seconds=0.5))
        await observer.state(f"t{number}", State.RUNNING)
    nats_server.kill()
    worker.process.terminate()
    # The grace, five seconds for handing back, and what closing a lost connection takes.
    assert await worker.exited(1.0 + 6.0 + 8.0) == 0
    nats_server.start()
    await ready(launch(ask=QUICK_ASK))
    ids = ["t0", "t1", "t2"]
    await settled(observer, ids)
    assert await check(observer.js, ids) == []


async def test_sigterm_with_a_handler_that_does_not_listen(
    observer: Observer, launch: Any, ready: Any
) -> None:
    worker = launch(grace=0.1, hand_back=0.5)
    await ready(worker)
    await observer.submit(task("it", "deaf"))
    await observer.state("it", State.RUNNING)
    worker.process.terminate()
    assert await worker.exited(15) == 0
    assert await observer.states("it") == [State.RUNNING]


async def test_all_workers_killed_and_one_started(
    observer: Observer, launch: Any, ready: Any, runs: Path
) -> None:
    workers = [launch(), launch()]
    await ready(*workers)
    begun = [f"begun{number}" for number in range(20)]
    waiting = [f"waiting{number}" for number in range(10)]
    for task_id in begun:
        await observer.submit(task(task_id, "hang"))
    for task_id in begun:
        await observer.state(task_id, State.RUNNING)
    # A claim is seen before its handler has written that it began.
    await until(lambda: {run.id for run in read_runs(runs)} >= set(begun))
    for task_id in waiting:
        await observer.submit(task(task_id))
    for worker in workers:
        worker.kill()
    await ready(launch(slots=30, ask=QUICK_ASK))
    await settled(observer, begun + waiting)
    assert await check(observer.js, begun + waiting) == []
    starts = Counter(run.id for run in read_runs(runs))
    assert {task_id: starts[task_id] for task_id in begun} == dict.fromkeys(begun, 2)
    assert all(starts[task_id] == 2 for task_id in waiting)  # a start and an end


async def test_two_hundred_tasks_through_random_kills(
    observer: Observer, launch: Any, ready: Any, runs: Path
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ids = [f"t{number}" for number in range(200)]
    workers = [launch(ask=QUICK_ASK, slots=8) for _ in range(3)]
    await ready(*workers)

    async def submit() -> None:
        for task_id in ids:
            kind = chance.choices(["sleep", "fail"], [9, 1])[0]
            body = task(task_id, kind, chance.uniform(0.0, 0.5), max_attempts=100)
            for _ in range(
                chance.choice([1, 1, 1, 2])
            ):  # some twice, as a client may that is unsure
                await observer.submit(body)
            await asyncio.sleep(0.03)

    async def kill() -> int:
        killed = 0
        end = time.monotonic() + 7.0
        while time.monotonic() < end:
            await asyncio.sleep(chance.uniform(0.3, 1.2))
            workers.pop(chance.randrange(len(workers))).kill()
            workers.append(launch(ask=QUICK_ASK, slots=8))
            killed += 1
        return killed

    _, killed = await asyncio.gather(submit(), kill())
    assert killed >= 4
    await settled(observer, ids)
    assert await check(observer.js, ids) == []
    lasts = {task_id: (await observer.last(task_id)).record for task_id in ids}
    assert all(last is not None and last.state == State.SUCCEEDED for last in lasts.values())
    # A run that ended and was not recorded is one whose worker was killed in that very moment.
    ends = Counter(run.id for run in read_runs(runs) if run.what == "end")
    assert sum(count - 1 for count in ends.values() if count > 1) <= killed
