"""`agentflow worker --processes`: dying, draining and being renewed, as real processes."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import agentflow
from agentflow.protocol.record import State
from tests.support.checker import check, logs
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.tools import ROOT
from tests.support.until import until

pytestmark = pytest.mark.timeout(90)

APP = """
import agentflow
app = agentflow.App()
@app.task(kind="told")
def told() -> str:
    return {says!r}
"""


class Prefork:
    """A parent and its children, seen from the test."""

    def __init__(
        self, url: str, folder: Path, arguments: tuple[str, ...], extra: dict[str, str]
    ) -> None:
        self.folder = folder
        self.log = folder / "workers.log"
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AGENTFLOW", "ANTHROPIC"))
        }
        command = [sys.executable, "-m", "agentflow", "worker", "--lease", "2", *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment | {"PYTHONPATH": str(ROOT), "AGENTFLOW_NATS": url} | extra,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pids(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    async def serving(self, observer: Observer, count: int) -> set[int]:
        """So many children, all of which say that they serve and that they go on."""

        def all_serve() -> set[int] | None:
            assert self.process.poll() is None, self.log.read_text()
            pids = {
                pid
                for pid in self.pids
                if (beat := observer.workers.get(pid)) is not None and not beat.stopping
            }
            return pids if len(pids) == len(self.pids) == count else None

        return await observer.until(all_serve, within=30)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def exited(self, within: float = 20.0) -> int:
        async with asyncio.timeout(within):
            return await asyncio.to_thread(self.process.wait, within + 1)

    def said(self, text: str) -> bool:
        return text in self.log.read_text()


Start = Callable[..., Prefork]


@pytest.fixture
def start(nats_server: NatsServer, tmp_path: Path) -> Iterator[Start]:
    """Call it with arguments of `agentflow worker`, and what else its environment has."""
    started: list[Prefork] = []

    def begin(*arguments: str, **extra: str) -> Prefork:
        started.append(Prefork(nats_server.url, tmp_path, arguments, extra))
        return started[-1]

    yield begin
    for each in started:
        if each.process.poll() is None:
            processes = psutil.Process(each.process.pid).children()
            each.process.kill()
            each.process.wait(10)
            for process in processes:
                process.kill()


def sleep(task_id: str, seconds: float) -> dict[str, Any]:
    return {"id": task_id, "kind": "sleep", "params": {"seconds": seconds}}


async def submit(observer: Observer, count: int, seconds: float) -> list[str]:
    ids = [f"t{number}" for number in range(count)]
    for task_id in ids:
        await observer.submit(sleep(task_id, seconds))
    return ids


async def running(observer: Observer, count: int) -> None:
    """So many tasks have been begun."""
    await observer.until(lambda: len(observer.live) >= count)


def alive(pid: int) -> bool:
    try:
        # Where nobody waits for orphans, one stays behind as a zombie.
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def attempts_of(observer: Observer, ids: list[str]) -> list[tuple[str, int, int]]:
    """State, attempt and failures with which each ended."""
    found = await logs(observer.js)
    lasts = [found[task_id][-1].record for task_id in ids]
    return [(last.state, last.attempt, last.failures) for last in lasts if last is not None]


async def test_a_killed_child_is_replaced(observer: Observer, start: Start) -> None:
    workers = start("--processes", "3", "--kinds", "echo,sleep")
    pids = await workers.serving(observer, 3)
    maps = Path(f"/proc/{workers.process.pid}/maps")
    if maps.exists():
        assert "pydantic_core" not in maps.read_text()  # which comes with anthropic
    victim = pids.pop()
    os.kill(victim, signal.SIGKILL)
    await observer.until(lambda: victim not in workers.pids)
    after = await workers.serving(observer, 3)
    assert after > pids
    assert workers.said(f"worker process {victim} was killed by SIGKILL; another one starts")
    ids = await submit(observer, 30, 0.0)
    await observer.all_ended(ids)
    await observer.at_rest()
    assert await check(observer.js, ids) == []
    # Ctrl-C reaches the parent alone, here as from a terminal.
    workers.signal(signal.SIGINT)
    assert await workers.exited() == 0
    assert all(observer.workers[pid].interval_s == 0.0 for pid in after)


async def test_sigterm_drains_all_children(observer: Observer, start: Start) -> None:
    workers = start("--processes", "2", "--kinds", "sleep", "-c", "5", "--grace", "60")
    await workers.serving(observer, 2)
    ids = await submit(observer, 20, 1.0)
    await running(observer, 10)
    workers.signal(signal.SIGTERM)
    assert await workers.exited() == 0
    # What ran was finished, what waited was left alone.
    ends = await logs(observer.js)
    assert 10 <= len(ends) < 20
    assert all(log[-1].state == State.SUCCEEDED for log in ends.values())
    again = start("--processes", "2", "--kinds", "sleep", "--grace", "60")
    await observer.all_ended(ids)
    await observer.submit(sleep("long", 600))
    await observer.state("long", State.RUNNING)
    again.signal(signal.SIGTERM)
    await observer.until(
        lambda: any(beat.stopping and beat.running for beat in observer.workers.values())
    )
    again.signal(signal.SIGTERM)
    assert await again.exited() == 0
    # A second signal hands back, and that is no failure.
    last = (await observer.last("long")).record
    assert last is not None
    assert (last.state, last.attempt, last.failures) == (State.QUEUED, 0, 0)
    await observer.log_as("client").cancel("long")
    third = start("--processes", "1", "--kinds", "sleep")
    await observer.at_rest()
    assert await check(observer.js, [*ids, "long"]) == []
    assert set(await attempts_of(observer, ids)) == {(State.SUCCEEDED, 1, 0)}
    third.signal(signal.SIGTERM)
    assert await third.exited() == 0


async def test_processes_have_names_of_their_own_and_are_drained_as_one(
    observer: Observer, nats_server: NatsServer, start: Start
) -> None:
    workers = start("--kinds", "sleep", "--processes", "2", "--name", "w")
    pids = await workers.serving(observer, 2)
    assert {observer.workers[pid].name for pid in pids} == {"w.1", "w.2"}
    async with agentflow.connect(nats_server.url) as client:
        told = await client.drain("w")
    assert {view.pid for view in told} == pids
    assert await workers.exited() == 0
    assert workers.said("was drained and is not replaced")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is shared")
async def test_the_sdk_is_in_memory_once(observer: Observer, start: Start) -> None:
    workers = start("--kinds", "claude", "--processes", "4", ANTHROPIC_API_KEY="unused")
    for pid in await workers.serving(observer, 4):
        memory = psutil.Process(pid).memory_full_info()
        assert memory.pss < 0.6 * memory.rss  # 0.9 where each imports it


async def test_sighup_under_load_loses_nothing_and_runs_nothing_twice(
    observer: Observer, start: Start
) -> None:
    workers = start("--processes", "3", "--kinds", "sleep", "-c", "4")
    before = await workers.serving(observer, 3)
    ids = await submit(observer, 100, 0.5)
    await running(observer, 12)
    workers.signal(signal.SIGHUP)
    await until(lambda: workers.said("loading new code"))
    workers.signal(signal.SIGHUP)  # in the middle of it
    await observer.all_ended(ids, within=40)
    await until(lambda: workers.said("all worker processes run the new code"))
    after = await workers.serving(observer, 3)
    assert not after & before
    assert workers.process.poll() is None  # and has its process id still
    await observer.at_rest()
    assert await check(observer.js, ids) == []
    assert set(await attempts_of(observer, ids)) == {(State.SUCCEEDED, 1, 0)}
    workers.signal(signal.SIGTERM)
    assert await workers.exited() == 0


async def test_new_code_and_broken_code(observer: Observer, start: Start, tmp_path: Path) -> None:
    """With --reload: a change of the file is enough."""
    module = tmp_path / "own_tasks.py"
    module.write_text(APP.format(says="old"))
    workers = start("own_tasks:app", "--reload")
    (old, _) = await _one_and_watcher(workers, observer)

    async def told(task_id: str) -> Any:
        await observer.submit({"id": task_id, "kind": "told", "params": {}})
        return (await observer.ended(task_id)).value

    assert await told("first") == "old"
    await _changed(workers, module, "this is no Python")
    await until(lambda: workers.said("the new code does not start"))
    assert await told("second") == "old"
    await _changed(workers, module, APP.format(says="new"))
    await until(lambda: workers.said("all worker processes run the new code"))
    await until(lambda: old not in workers.pids)  # it ends what it had taken before
    assert await told("third") == "new"
    workers.signal(signal.SIGTERM)
    assert await workers.exited() == 0


async def _changed(workers: Prefork, module: Path, text: str) -> None:
    """Write the file until it is noticed: the watcher may not have begun yet."""
    before = workers.log.read_text().count("changed: ")
    while True:
        module.write_text(text)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                await until(lambda: workers.log.read_text().count("changed: ") > before)
                return


async def _one_and_watcher(workers: Prefork, observer: Observer) -> tuple[int, int]:
    def found() -> tuple[int, int] | None:
        assert workers.process.poll() is None, workers.log.read_text()
        serving = [pid for pid in workers.pids if pid in observer.workers]
        others = workers.pids - set(serving)
        return (serving[0], others.pop()) if serving and others else None

    return await observer.until(found, within=30)


async def test_children_stop_when_their_parent_is_killed(observer: Observer, start: Start) -> None:
    workers = start("--processes", "2", "--kinds", "sleep")
    pids = await workers.serving(observer, 2)
    ids = await submit(observer, 8, 1.0)
    await running(observer, 8)
    workers.process.kill()
    await workers.exited()
    await observer.until(lambda: all(observer.workers[pid].interval_s == 0.0 for pid in pids))
    await observer.all_ended(ids)
    await until(lambda: not any(alive(pid) for pid in pids))
    await observer.at_rest()
    assert await check(observer.js, ids) == []


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("import os; os._exit(7)", 3, "5 worker processes crashed one after the other"),
        ("syntax error", 2, "module wrong cannot be imported"),
    ],
)
async def test_what_cannot_start_ends_with_a_reason(
    start: Start, tmp_path: Path, code: str, status: int, says: str
) -> None:
    (tmp_path / "wrong.py").write_text(code)
    workers = start("wrong", "--processes", "1")
    assert await workers.exited() == status
    assert workers.said(says)
    assert not workers.said("Traceback")
