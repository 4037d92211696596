"""Own handlers and several processes on the stacks of `agentflow run` and `agentflow up`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import agentflow
from agentflow.config import Connect
from agentflow.local.store import running
from agentflow.protocol.record import State
from tests.support.jobs import Home
from tests.support.until import until

MODULE = """
import os
import agentflow

app = agentflow.App()

@app.task
async def shout(prompt: str) -> str:
    return prompt.upper()

@app.task
async def where() -> int:
    return os.getpid()
"""


@pytest.fixture(name="home")
async def _home(tmp_path: Path) -> AsyncIterator[Home]:
    home = Home(tmp_path)
    (tmp_path / "tasks.py").write_text(MODULE)
    yield home
    assert home.end() == [], "a process was left behind"


async def test_a_job_runs_own_kinds_beside_ours(home: Home) -> None:
    file = home.tasks(
        [
            {"id": "own", "kind": "shout", "prompt": "louder"},
            {"id": "ours", "kind": "echo", "prompt": "as it is"},
            {"id": "claude", "prompt": "Write a haiku"},
        ]
    )
    options = ("--simulate", "--workers", "1", "--processes", "2", "--app", "tasks:app")
    done = await home.command("run", file, *options)
    assert done.code == 0, done.err
    texts = {line["id"]: line["text"] for line in home.results()}
    assert (texts["own"], texts["ours"]) == ("LOUDER", "as it is")
    assert texts["claude"].startswith("[SIMULATED]")


async def test_a_module_that_is_missing_ends_the_job_at_once(home: Home) -> None:
    file = home.tasks([{"kind": "shout", "prompt": "x"}])
    done = await home.command("run", file, "--simulate", "--app", "nowhere:app")
    assert done.code == 2
    assert "there is no module nowhere in this directory or installed" in done.err
    assert "crashed" not in done.err
    done = await home.command("run", file, "--simulate", "--app", "tasks.py")
    assert done.code == 2
    assert "is not of the form module:app, for example tasks:app" in done.err


async def test_up_serves_an_app_and_leaves_drained_workers_down(home: Home) -> None:
    up = await home.up("--workers", "2", "--processes", "2", "--app", "tasks", "--kinds", "where")
    info = running(home.store)
    assert info is not None
    async with agentflow.Client(Connect(urls=(info.url,))) as client:
        assert len(home.processes("agentflow worker")) == 6  # two parents
        place = await (await client.submit(kind="where", params={})).result(30)
        assert place.value in {process.pid for process in home.processes("agentflow worker")}
        file = home.tasks([{"kind": "shout", "prompt": "x"}])
        refused = await home.command("run", file, "--simulate", "--app", "tasks")
        assert refused.code == 2
        assert "with workers of its own: start those with --app" in refused.err
        assert len(await client.drain("worker-1")) == 2
        await up.says("worker-1 was drained and stays down; 1 of 2 workers go on")
        assert len(home.processes("worker-1")) == 0
        assert len(await client.drain("worker-2")) == 2
        await up.says("worker-2 was drained and stays down; no worker is left")
        assert len(home.processes("agentflow worker")) == 0
    up.signal(signal.SIGTERM)
    done = await up.done()
    assert done.code == 0
    assert "crashed" not in done.err


async def test_a_job_whose_workers_are_all_drained_ends(home: Home) -> None:
    file = home.tasks([{"id": "long", "kind": "sleep", "params": {"seconds": 60}}])
    job = home.start("run", file, "--simulate", "--workers", "1")
    await until(lambda: running(home.store) is not None)
    info = running(home.store)
    assert info is not None
    async with agentflow.Client(Connect(urls=(info.url,))) as client:
        async with asyncio.timeout(30):
            while (await client.read("long")).state != State.RUNNING:
                await asyncio.sleep(0.05)
        await client.drain("worker-1")
    for process in home.processes("--name worker-1"):
        process.terminate()  # it waits for the task: told once more, it hands it back
    done = await job.done()
    assert done.code == 3
    assert "every worker was drained, so nothing goes on" in done.err


async def test_up_stops_although_nobody_reads_what_it_says(home: Home) -> None:
    up = await home.up("--workers", "1")
    assert up.process.stderr is not None
    assert up.process.stdout is not None
    up.process.stderr.close()
    up.process.stdout.close()
    up.signal(signal.SIGTERM)
    assert await asyncio.to_thread(up.process.wait, 60) == 0
    assert home.processes("agentflow") == []
