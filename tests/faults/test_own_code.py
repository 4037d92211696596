"""What a handler's code may do to its process: fork, exit, be deaf. Real worker processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from agentflow.protocol.record import State
from tests.support.jobs import Home
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.tools import ROOT
from tests.support.until import until

pytestmark = pytest.mark.timeout(90)

APP = """
import asyncio, logging, multiprocessing, os, signal, sys, time
import agentflow

import logging.config
logging.config.dictConfig({
    "version": 1,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"level": "ERROR", "handlers": ["console"]},
})

app = agentflow.App()

@app.task(retries=0)
def crunch() -> int | None:
    helper = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    helper.start()
    time.sleep(0.3)
    helper.terminate()
    helper.join(10)
    return helper.exitcode

@app.task(retries=0)
def pool() -> list:
    for _ in range(3):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            last = pool.map(abs, [-1, -2])
    return last

@app.task(retries=0)
async def bare_fork() -> int:
    pid = os.fork()
    if pid == 0:
        try:
            time.sleep(60)
        finally:
            os._exit(7)
    time.sleep(0.3)
    os.kill(pid, signal.SIGINT)
    return os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1])

@app.task(retries=0)
async def leave(how: str) -> str:
    async def part() -> None:
        if how == "interrupt":
            raise KeyboardInterrupt
        sys.exit(0)
    async def between() -> None:
        await asyncio.gather(part())
    if how == "group":
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(part())
    await asyncio.gather(between())
    return "never"

@app.task(retries=0)
async def abrupt() -> None:
    os._exit(0)

@app.task
async def fine() -> str:
    return "fine"

@app.task
async def slow(ctx: agentflow.Context) -> str:
    ctx.progress("begun")
    await asyncio.sleep(1)
    return "slow"
"""


class Program:
    """`agentflow worker app:app`, and its log."""

    def __init__(self, folder: Path, url: str, *arguments: str, nohup: bool = False) -> None:
        (folder / "app.py").write_text(APP)
        self.log = folder / "worker.log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AGENTFLOW")}
        command = [sys.executable, "-m", "agentflow", "worker", "app:app", "--lease", "2"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*(["nohup"] if nohup else []), *command, *arguments, "--nats", url],
                cwd=folder,
                env=kept | {"HOME": str(folder), "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self, text: str) -> bool:
        return text in self.log.read_text(errors="replace")

    async def exited(self) -> int:
        return await asyncio.to_thread(self.process.wait, 30)


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path, nats_server: NatsServer) -> Iterator[Start]:
    started: list[Program] = []

    def begin(*arguments: str, nohup: bool = False) -> Program:
        started.append(Program(tmp_path, nats_server.url, *arguments, nohup=nohup))
        return started[-1]

    yield begin
    for program in started:
        if program.process.poll() is None:
            os.killpg(program.process.pid, signal.SIGKILL)
            program.process.wait(10)


async def _outcome(observer: Observer, kind: str, **params: object) -> tuple[str, object]:
    name = "-".join([kind, *map(str, params.values())])
    await observer.submit({"kind": kind, "id": name, "params": params})
    ended = await observer.ended(name, within=30)
    return ended.state, ended.value if ended.error is None else ended.error.message


@pytest.mark.parametrize("options", [(), ("--processes", "1")], ids=["plain", "prefork"])
async def test_ending_a_forked_child_does_not_stop_the_worker(
    observer: Observer, start: Start, options: tuple[str, ...]
) -> None:
    worker = start(*options)
    assert await _outcome(observer, "crunch") == (State.SUCCEEDED, -signal.SIGTERM)
    assert await _outcome(observer, "pool") == (State.SUCCEEDED, [1, 2])
    assert await _outcome(observer, "bare_fork") == (State.SUCCEEDED, 7)
    assert await _outcome(observer, "fine") == (State.SUCCEEDED, "fine")
    assert worker.process.poll() is None
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.exited() == 0, "it still hears signals itself"


async def test_exit_in_an_asyncio_task_of_a_handler_fails_its_task(
    observer: Observer, start: Start
) -> None:
    worker = start("-c", "1", "--log-level", "info")
    exited = (State.FAILED, "it called exit(0)")
    assert await _outcome(observer, "leave", how="gather") == exited
    assert await _outcome(observer, "leave", how="group") == exited
    assert await _outcome(observer, "leave", how="interrupt") == (State.FAILED, "KeyboardInterrupt")
    assert await _outcome(observer, "fine") == (State.SUCCEEDED, "fine")
    assert worker.said("a handler raised SystemExit in a task of its own")
    worker.process.send_signal(signal.SIGINT)
    assert await worker.exited() == 0


async def test_sighup_stops_a_plain_worker_in_order(observer: Observer, start: Start) -> None:
    worker = start()
    await observer.submit({"kind": "slow", "id": "it", "params": {}, "max_attempts": 1})
    await observer.until(
        lambda: any(one.record and one.record.note for one in observer.live.get("it", []))
    )
    worker.process.send_signal(signal.SIGHUP)
    assert await worker.exited() == 0
    ended = await observer.ended("it")
    assert (ended.state, ended.attempt) == (State.SUCCEEDED, 1)


async def test_under_nohup_sighup_is_nothing(observer: Observer, start: Start) -> None:
    worker = start(nohup=True)
    assert await _outcome(observer, "fine") == (State.SUCCEEDED, "fine")
    worker.process.send_signal(signal.SIGHUP)
    assert await _outcome(observer, "slow") == (State.SUCCEEDED, "slow")
    assert worker.process.poll() is None


async def test_a_process_that_a_handler_ends_is_replaced(observer: Observer, start: Start) -> None:
    worker = start("--processes", "1")
    await observer.submit({"kind": "abrupt", "id": "it", "params": {}, "max_attempts": 1})
    assert await _outcome(observer, "fine") == (State.SUCCEEDED, "fine")
    await until(lambda: worker.said("exit code 0 although nobody told it to stop"))
    assert not worker.said("drained")


async def test_the_log_asked_for_is_written_although_the_app_configures_logging(
    observer: Observer, start: Start, tmp_path: Path
) -> None:
    worker = start("--log-file", "own.log", "--log-format", "json")
    assert (await _outcome(observer, "leave", how="gather"))[0] == State.FAILED
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.exited() == 0
    lines = [json.loads(line) for line in (tmp_path / "own.log").read_text().splitlines()]
    assert {"ready", "handler", "end"} <= {line.get("action") for line in lines}


@pytest.fixture(name="home")
async def _home(tmp_path: Path) -> AsyncIterator[Home]:
    home = Home(tmp_path)
    (tmp_path / "app.py").write_text(APP)
    yield home
    assert home.end() == [], "a process was left behind"


async def test_up_restarts_a_worker_that_nobody_drained(home: Home) -> None:
    up = await home.up("--workers", "1", "--app", "app:app", "--kinds", "abrupt,fine")
    await home.command("submit", '{"kind": "abrupt", "params": {}, "max_attempts": 1}')
    await up.says("exit status 0, although nobody told it to stop (does a handler call exit?)")
    done = await home.command("submit", '{"kind": "fine", "params": {}}', "--wait")
    assert done.out == "fine\n"
    up.signal(signal.SIGTERM)
    assert (await up.done()).code == 0
