"""What an administrator, a full disk or a full stream does to streams that are in use."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentflow.audit import verify
from agentflow.audit.trail import Kind
from agentflow.errors import BusError
from agentflow.protocol import headers, subjects
from agentflow.protocol.record import State
from tests.faults.conftest import Scale
from tests.support.checker import check
from tests.support.ledger import Ledger
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.worker_process import WorkerProcess, read_runs

pytestmark = pytest.mark.timeout(300)


def task(task_id: str, seconds: float = 0.0, kind: str = "sleep", **fields: Any) -> dict[str, Any]:
    return {"id": task_id, "kind": kind, "params": {"seconds": seconds}, **fields}


async def change(observer: Observer, stream: str, **values: Any) -> None:
    found = (await observer.js.stream_info(stream))["config"]
    await observer.js.api(f"STREAM.UPDATE.{stream}", found | values)


async def fired(observer: Observer, within: float = 60.0) -> None:
    async def empty() -> bool:
        return await observer.messages(subjects.SCHEDULE) == 0

    await observer.becomes(empty, within)


async def test_consumers_deleted_and_changed_under_load(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, runs: Path
) -> None:
    """A consumer made anew delivers what is in work once more; whoever holds it is asked."""
    await ready(launch(slots=10), launch(slots=10))
    await ledger.submit_all(task(f"t{number}", 0.3) for number in range(100))
    await observer.until(lambda: len(observer.live) > 15)
    name = "default-normal"
    await observer.js.api(f"CONSUMER.DELETE.{subjects.TASKS}.{name}")
    await observer.until(lambda: len(observer.live) > 50, 60)
    info = (await observer.js.consumer_info(subjects.TASKS, name))["config"]
    body = {
        "stream_name": subjects.TASKS,
        "config": {**info, "max_ack_pending": 5, "ack_wait": 3_000_000_000},
        "action": "update",
    }
    await observer.js.api(f"CONSUMER.CREATE.{subjects.TASKS}.{name}", body)
    await observer.all_ended(ledger.ids, 90)
    await observer.at_rest(60)
    assert await check(observer.js, ledger, faults=0) == []
    starts = [run.id for run in read_runs(runs) if run.what == "start"]
    assert len(starts) == len(set(starts))


async def test_a_queue_made_anew_gives_its_sequences_again_and_mixes_nothing_up(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any
) -> None:
    """What waited in the deleted stream is lost by the administrator's own hand, and the checker
    says so; what ran ends, and new tasks with the same sequences are other tasks."""
    await ready(launch(slots=3))
    await ledger.submit_all(task(f"runs{number}", 2.0) for number in range(3))
    for task_id in ledger.ids:
        await observer.state(task_id, State.RUNNING)
    waits = Ledger(observer.js)
    await waits.submit_all(task(f"waits{number}") for number in range(3))
    await observer.js.api(f"STREAM.DELETE.{subjects.TASKS}")

    async def made_anew() -> bool:
        return await observer.messages(subjects.TASKS) == 0

    await observer.becomes(made_anew, 40)
    after = Ledger(observer.js)
    await after.submit_all(task(f"after{number}") for number in range(6))
    # The same numbers as those that ran and waited before.
    assert {line.sequence for line in after if line.acknowledged} == {1, 2, 3, 4, 5, 6}
    everything = [*ledger.ids, *after.ids]
    await observer.all_ended(everything, 60)
    await observer.at_rest(30)
    lasts = [(await observer.last(task_id)).record for task_id in everything]
    assert [(last.state, last.attempt) for last in lasts if last] == [(State.SUCCEEDED, 1)] * 9
    report = await verify(observer.js, ledger=[*ledger, *waits, *after])
    lost = {finding.id for finding in report.findings if finding.kind == Kind.LOST}
    assert lost == set(waits.ids)


async def test_a_refused_result_is_kept_until_it_is_taken_and_runs_once(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, runs: Path
) -> None:
    """The record stream takes nothing for a while: the run has ended, its result waits."""
    worker = launch(slots=10)
    await ready(worker)
    await ledger.submit_all(task(f"t{number}", 1.0) for number in range(8))
    for task_id in ledger.ids:
        await observer.state(task_id, State.RUNNING)
    records = (await observer.js.stream_info(subjects.RECORDS))["state"]["bytes"]
    await change(observer, subjects.RECORDS, discard="new", max_bytes=records)

    def all_ran() -> bool:
        return sum(run.what == "end" for run in read_runs(runs)) == 8

    async def refused() -> bool:
        return all_ran() and b"not confirmed" in worker.log.read_bytes()

    await observer.becomes(refused, 30)
    assert await observer.pending_acks() == 8
    await change(observer, subjects.RECORDS, discard="old", max_bytes=-1)
    await observer.all_ended(ledger.ids, 60)
    await observer.at_rest(30)
    assert await check(observer.js, ledger, faults=0) == []
    assert sum(run.what == "start" for run in read_runs(runs)) == 8


async def test_a_schedule_that_fires_twice_runs_once(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, runs: Path
) -> None:
    """Both continuations name the record they follow, and only one can follow it."""
    await ready(launch())
    await ledger.submit_all([task("it", kind="fail", max_attempts=3)])
    parked = await observer.state("it", State.RETRYING)
    block = headers.encode({subjects.ID: "it", subjects.FOLLOWS: str(parked.sequence)})
    body = b'{"id":"it","kind":"fail","params":{"seconds":0.0},"max_attempts":3}'
    for _ in range(3):
        await observer.js.store(subjects.due("default", "normal"), body, block)
    assert (await observer.ended("it", within=60)).state == State.SUCCEEDED
    await observer.at_rest(30)
    await fired(observer)
    assert await check(observer.js, ledger.ids) == []
    assert [run.attempt for run in read_runs(runs) if run.what == "start"] == [1, 2]


@pytest.mark.long("the server moves due messages again only after some 15 s")
async def test_schedules_that_come_due_into_a_full_queue_all_run(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, scale: Scale
) -> None:
    """The server cannot move them while AGENTFLOW_TASKS is full; they wait, and none is dropped."""
    count = scale(300, 3_000)
    first = launch(slots=200)
    await ready(first)
    instant = _in(observer, seconds=4.0 + count / 500)
    await ledger.submit_all(task(f"later{n}", not_before=instant) for n in range(count))

    async def parked() -> bool:
        return await observer.messages() == 0

    await observer.becomes(parked, 60)
    await ledger.submit_all((task(f"full{n}") for n in range(50)), "agentflow.tasks.nobody")
    await change(observer, subjects.TASKS, max_msgs=60)
    await observer.becomes(lambda: _due(observer), 60)
    second = launch(slots=20, queues=["nobody"])
    await ready(second)
    await observer.all_ended(ledger.ids, 120 + count / 20)
    await observer.at_rest(30)
    await fired(observer)
    assert await check(observer.js, ledger, faults=0) == []


async def _due(observer: Observer) -> bool:
    """Whether something is due that the queue has not got."""
    info = await observer.js.stream_info(subjects.SCHEDULE, subjects_filter="agentflow.due.>")
    return bool(info["state"].get("subjects"))


async def test_thousands_of_delayed_tasks_do_not_hold_up_others(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, scale: Scale
) -> None:
    count = scale(1_500, 5_000)
    await ready(launch(slots=20), launch(slots=20))
    await ledger.submit_all(
        task(f"later{n}", not_before=_in(observer, days=5)) for n in range(count)
    )
    now = Ledger(observer.js)
    await now.submit_all(task(f"now{n}") for n in range(200))
    await observer.all_ended(now.ids, 90)

    async def parked() -> bool:
        return await observer.messages() == 0 and await observer.pending_acks() == 0

    await observer.becomes(parked, 90)
    assert await observer.messages(subjects.SCHEDULE) == count
    report = await verify(observer.js, ledger=[*ledger, *now], complete=True, faults=0)
    assert report.findings == []
    assert report.figures.states == {"scheduled": count, "succeeded": 200}


def _in(observer: Observer, **delta: float) -> str:
    """An instant from now, of the server's clock."""
    return (observer.js.now() + timedelta(**delta)).isoformat()


async def test_duplicates_before_during_and_after_run_once(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, runs: Path
) -> None:
    for _ in range(3):
        await ledger.submit_all(task(f"t{number}", 0.5) for number in range(20))
    await ready(launch(slots=15), launch(slots=15))
    await observer.until(lambda: len(observer.live) >= 10)
    await ledger.submit_all(task(f"t{number}", 0.5) for number in range(20))
    await observer.all_ended(ledger.ids, 60)
    await ledger.submit_all(task(f"t{number}", 0.5) for number in range(20))
    await observer.at_rest(30)
    assert await check(observer.js, ledger, faults=0) == []
    starts = [run.id for run in read_runs(runs) if run.what == "start"]
    assert sorted(starts) == sorted(ledger.ids)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system, and not in every container")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_refuses_and_what_was_acknowledged_is_there_when_it_is_free(
    small_disk: Path, tmp_path: Path, runs: Path
) -> None:
    server = NatsServer(tmp_path / "nats")
    server.store = small_disk / "store"
    server.start()
    observer = await Observer.open(server.url)
    workers = []
    try:
        ledger = Ledger(observer.js)
        filler = small_disk / "filler"
        await ledger.submit_all(task(f"t{number}") for number in range(20))
        filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 600_000))
        number = 0
        while number < 200:  # until it is full, and then some
            body = task(f"fill{number}") | {"prompt": "x" * 50_000}
            await ledger.submit(body, within=1.0)
            number += 1
            if sum(not line.acknowledged for line in ledger) > 3:
                break
        assert not ledger[-1].acknowledged
        filler.unlink()
        # JetStream switches itself off when a disk is full; an operator restarts the server.
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        workers.append(WorkerProcess(server.url, runs, lease=2.0, slots=10))
        await ledger.insist(task("after"))

        async def settled() -> bool:
            try:
                return await observer.messages() == 0 and await observer.pending_acks() == 0
            except BusError:
                return False

        await observer.becomes(settled, 60)
        assert await check(observer.js, ledger, faults=0) == []
    finally:
        for worker in workers:
            worker.kill()
        await observer.close()
        server.kill()
