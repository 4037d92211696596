"""Workers that are restarted, blocked, killed by their tasks, or of another version."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agentflow.protocol import record
from agentflow.protocol.record import State
from tests.faults.conftest import Scale
from tests.support import tools
from tests.support.checker import check, logs
from tests.support.ledger import Ledger
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.parts import Parts
from tests.support.until import until
from tests.support.worker_process import read_runs

pytestmark = pytest.mark.timeout(300)


def task(task_id: str, kind: str = "sleep", seconds: float = 0.0, **fields: Any) -> dict[str, Any]:
    return {"id": task_id, "kind": kind, "params": {"seconds": seconds}, **fields}


async def test_a_rolling_restart_fails_nothing_and_runs_nothing_twice(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, runs: Path
) -> None:
    workers = [launch(slots=5) for _ in range(3)]
    await ready(*workers)
    stop = asyncio.Event()

    async def submit() -> None:
        while not stop.is_set():
            await ledger.insist(task(f"t{len(ledger)}", seconds=0.2))
            await asyncio.sleep(0.015)

    submitting = asyncio.create_task(submit())
    for worker in list(workers):
        fresh = launch(slots=5)
        await ready(fresh)
        worker.process.terminate()
        assert await worker.exited(30) == 0
    stop.set()
    await submitting
    await observer.all_ended(ledger.ids, 60)
    await observer.at_rest()
    assert await check(observer.js, ledger, faults=0, listen=2.5) == []
    lasts = [log[-1].record for log in (await logs(observer.js)).values()]
    assert {(last.state, last.attempt) for last in lasts if last} == {(State.SUCCEEDED, 1)}
    starts = Counter(run.id for run in read_runs(runs) if run.what == "start")
    assert set(starts.values()) == {1}


async def test_a_blocked_event_loop_loses_its_lease_and_no_task(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, lease: float
) -> None:
    """The worker stands still past its lease (with --long for a minute). It is asked, says nothing,
    and is taken over; its own result is refused when it wakes."""
    blocked = launch(slots=4, ask=0.9 if lease < 5 else 5.0)
    await ready(blocked)
    await ledger.submit_all([task("it", "block", 3 * lease if lease < 5 else 60.0)])
    await observer.state("it", State.RUNNING)
    other = launch(slots=4, ask=0.9 if lease < 5 else 5.0)
    await ready(other)
    ended = await observer.ended("it", within=90)
    assert ended.actor == observer.workers[other.pid].actor
    assert ended.attempt == 2
    # The sleeper wakes, is refused, and serves again.
    other.kill()
    await ledger.submit_all(task(f"t{number}") for number in range(10))
    await observer.all_ended(ledger.ids, 120)
    await observer.at_rest()
    assert await check(observer.js, ledger, faults=1) == []


@pytest.mark.long("it blocks for longer than the lease")
async def test_a_blocked_event_loop_alone_runs_its_task_once(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, runs: Path
) -> None:
    """Nobody is there to take over: what is delivered again meanwhile is what it still holds."""
    await ready(launch(slots=4))
    await ledger.submit_all([task("it", "block", 5.0)])
    await observer.ended("it", within=60)
    await observer.at_rest()
    assert await check(observer.js, ledger, faults=0) == []
    assert [run.what for run in read_runs(runs)] == ["start", "end"]


POISON = """
import asyncio, os, resource, sys, typing
import agentflow

resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
app = agentflow.App()

@app.task(kind="fine")
def fine() -> str:
    return "fine"

@app.task(kind="crashes", retries=1)
def crashes() -> None:
    os._exit(7)

@app.task(kind="aborts", retries=1)
async def aborts() -> None:
    os.abort()

@app.task(kind="eats", retries=0)
def eats() -> int:
    return len(bytearray(8 << 30))

@app.task(kind="exits", retries=0)
def exits() -> None:
    sys.exit(3)

@app.task(kind="stops", retries=0)
async def stops() -> None:
    raise SystemExit

@app.task(kind="interrupts", retries=0)
async def interrupts() -> None:
    raise KeyboardInterrupt

@app.task(kind="recurses", retries=0)
def recurses() -> int:
    return recurses() + 1

@app.task(kind="odd", retries=0)
def odd() -> typing.Any:
    return object()

@app.task(kind="hangs", retries=0)
async def hangs() -> None:
    await asyncio.Event().wait()
"""


async def test_poison_fails_alone(
    observer: Observer, ledger: Ledger, parts: Parts, nats_server: NatsServer, tmp_path: Path
) -> None:
    """Each of these ends as a dead letter with its reason, and the tasks beside it succeed."""
    (tmp_path / "poison.py").write_text(POISON)
    parts.start(
        *("worker", "poison:app", "--processes", "2", "--lease", "2", "-c", "10"),
        *("--nats", nats_server.url),
    )
    reasons = {
        "crashes": "worker_lost",
        "aborts": "worker_lost",
        "eats": "MemoryError",
        "exits": "SystemExit",
        "stops": "SystemExit",
        "interrupts": "KeyboardInterrupt",
        "recurses": "RecursionError",
        "odd": "result_not_json",
        "hangs": "timeout",
    }
    # First those that take their process with them: what runs beside them is tried again, and
    # what may be tried once only would fail with them.
    for fatal in (True, False):
        await ledger.submit_all(
            {"id": kind, "kind": kind, "params": {}, "timeout": 1.0}
            for kind, reason in reasons.items()
            if (reason == "worker_lost") == fatal
        )
        await ledger.submit_all(
            {"id": f"fine{len(ledger)}-{number}", "kind": "fine", "params": {}}
            for number in range(20)
        )
        await observer.all_ended(ledger.ids, 90)
    found = {kind: (await observer.last(kind)).record for kind in reasons}
    told = {
        kind: last.reason if last.reason in reasons.values() else last.error.type
        for kind, last in found.items()
        if last is not None and last.error is not None
    }
    assert told == reasons
    for name in ledger.ids:
        if name not in reasons:
            assert (await observer.last(name)).state == State.SUCCEEDED
    await observer.at_rest(30)
    assert await check(observer.js, ledger) == []


async def test_an_older_and_a_newer_worker_side_by_side(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older one leaves alone what the newer has begun; what only it has begun it ends."""
    newer = launch(version=2, slots=3, queues=["new"])
    await ready(newer)
    await ledger.submit_all((task(f"begun{n}", "hang") for n in range(3)), "agentflow.tasks.new")
    await observer.until(lambda: len(observer.live) == 3)
    newer.kill()
    older = launch(slots=3, upgrade=3.0, queues=["default", "new"])
    await ready(older)
    await until(lambda: "upgrade needed" in older.log.read_text())
    fresh = launch(version=2, slots=10, queues=["default", "new"], ask=0.9, upgrade=3.0)
    await ready(fresh)
    await ledger.submit_all(task(f"t{number}", seconds=0.1) for number in range(40))
    await observer.until(lambda: len(observer.live) == 43, 30)
    monkeypatch.setattr(record, "VERSION", 2)
    older.process.terminate()
    assert await older.exited(20) == 0

    async def all_ended() -> bool:
        found = await logs(observer.js)
        lasts = [found[name][-1].record for name in ledger.ids if name in found]
        return len(lasts) == 43 and all(last is not None and last.terminal for last in lasts)

    await observer.becomes(all_ended, 60)
    await observer.at_rest(30)
    assert await check(observer.js, ledger) == []


@pytest.mark.tools("faketime")
@pytest.mark.long("three jumps, each with retries that wait")
async def test_clocks_that_jump_end_nothing_early_and_nothing_twice(
    observer: Observer, ledger: Ledger, launch: Any, ready: Any, tmp_path: Path
) -> None:
    """A worker's clock jumps an hour ahead, and back, while tasks run, wait and are retried."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(tools.path("faketime")),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    workers = [launch(slots=20, env=environment), launch(slots=20, env=environment)]
    await ready(*workers)
    for step in ("+3600", "-3600", "+0"):
        await ledger.submit_all(
            task(f"{step[1:]}{'m' * (step[0] == '-')}-{number}", kind, 0.4, timeout=5.0)
            for number, kind in enumerate(["sleep", "fail"] * 10)
        )
        await observer.until(lambda: len(observer.live) >= len(ledger) - 10)
        clock.write_text(step)
        await observer.all_ended(ledger.ids, 60)
    clock.write_text("+0")
    await observer.at_rest(30)

    async def fired() -> bool:
        return await observer.messages("AGENTFLOW_SCHEDULE") == 0

    await observer.becomes(fired, 40)
    assert await check(observer.js, ledger, faults=0) == []
    lasts = [log[-1].record for log in (await logs(observer.js)).values()]
    assert {last.state for last in lasts if last} == {State.SUCCEEDED}
    assert all(last.timings.run_s >= 0 for last in lasts if last)


async def test_many_submitted_before_a_worker_exists(
    observer: Observer, ledger: Ledger, launch: Any, scale: Scale
) -> None:
    count = scale(5_000, 100_000)
    await ledger.submit_all(task(f"t{number}") for number in range(count))
    launch(slots=200)
    launch(slots=200)

    async def drained() -> bool:
        return await observer.messages() == 0

    await observer.becomes(drained, 60 + count / 200)
    await observer.at_rest()
    assert await check(observer.js, ledger, faults=0) == []
