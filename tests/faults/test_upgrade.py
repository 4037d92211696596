"""A rolling upgrade from the commit before, as docs/upgrade.md has it, while tasks flow."""

import asyncio
import io
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from agentflow.client import Client, TaskHandle
from agentflow.config import Connect
from agentflow.log.task import TaskLog
from agentflow.protocol.record import State
from tests.support.nats_server import NatsServer
from tests.support.parts import Parts
from tests.support.tools import ROOT

COUNT = 30


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The program as it was a commit ago."""
    archive = ["git", "archive", "HEAD~1", "agentflow"]
    try:
        done = subprocess.run(archive, cwd=ROOT, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("git is not here, which has the version before")
    if done.returncode:
        pytest.skip("there is no history here, which has the version before")
    folder = tmp_path / "before"
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as packed:
        packed.extractall(folder, filter="data")
    return folder


async def test_an_upgrade_part_by_part_loses_nothing_and_runs_nothing_twice(
    nats_server: NatsServer, parts: Parts, before: Path
) -> None:
    here = {"AGENTFLOW_NATS": nats_server.url}
    old = here | {"PYTHONPATH": str(before)}
    worker = ("worker", "--kinds", "echo,sleep", "--concurrency", "4", "--grace", "20")
    old_master = parts.start("master", **old)
    old_worker = parts.start(*worker, **old)
    await asyncio.gather(old_master.says("is ready"), old_worker.says("slots on"))
    async with Client(Connect(urls=(nats_server.url,))) as client:

        async def submit() -> list[TaskHandle]:
            work = range(COUNT)
            return [await client.submit("x", kind="sleep", params={"seconds": 0.1}) for _ in work]

        handles = await submit()
        await handles[0].result(timeout=60)
        new_master = parts.start("master", **here)
        await new_master.says("is ready")
        old_master.signal(signal.SIGTERM)
        new_worker = parts.start(*worker, **here)
        await new_worker.says("slots on")
        handles += await submit()
        await handles[COUNT].result(timeout=60)
        old_worker.signal(signal.SIGTERM)
        assert await asyncio.gather(old_master.exited(30), old_worker.exited(60)) == [0, 0]
        async with asyncio.timeout(90):
            results = [await handle.result() for handle in handles]
        assert {(result.state, result.attempts) for result in results} == {(State.SUCCEEDED, 1)}
        log = TaskLog(client.js, "test")
        last = [await log.read(handle.id) for handle in handles]
        actors = {each.record.actor for each in last if each.record is not None}
        assert len(actors) == 2, "both versions have worked"
        # And back: the version before reads what this one has written.
        shown = parts.start("get", handles[-1].id, "--json", **old)
        assert await shown.exited() == 0
        assert '"succeeded"' in shown.text()
