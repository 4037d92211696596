"""The examples as their docstrings say: a worker of the app, the client as a program."""

import asyncio
import csv
import gc
import io
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.cli import apps
from agentflow.handlers import registry
from agentflow.handlers.contract import Handler
from agentflow.simulator import Simulator
from tests.integration.conftest import StartWorker
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]
QUEUES = {
    "summarise_folder": "summaries",
    "translate_csv": "translations",
    "review_diff": "reviews",
}


@pytest.fixture
async def simulator(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    nats_server: NatsServer,
    start_worker: StartWorker,
) -> AsyncIterator[Simulator]:
    """Claude, and a worker with the functions of all examples."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "AGENTFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AGENTFLOW_NATS", nats_server.url)
    monkeypatch.chdir(ROOT)
    own: dict[str, Handler] = {}
    for name in QUEUES:
        own |= apps.load(f"examples.{name}:app").handlers()
    async with Simulator() as simulator:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-0123456789")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.url)
        async with registry.open_handlers(own=own) as handlers:
            worker = await start_worker(handlers, queues=list(QUEUES.values()))
            yield simulator
            worker.actor.hurry.set()
            await worker.actor.close()
    gc.unfreeze()


async def example(name: str, *arguments: object, cwd: Path = ROOT) -> Any:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )


async def test_summarise_folder(simulator: Simulator, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.md").write_text("A text about queues and streams.")
    (folder / "b.txt").write_text("A long text about workers and masters. " * 2_000)
    (folder / "c.txt").write_text("")
    (folder / "d.bin").write_bytes(b"\x00")
    done = await example("summarise_folder", folder, 30)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^a\.md: .*SIMULATED", done.stdout, re.MULTILINE)
    assert re.search(r"^b\.txt: .*SIMULATED", done.stdout, re.MULTILINE)
    assert "c.txt: (empty)" in done.stdout
    assert re.search(r"^3 of 3 files, \$0\.\d*[1-9]", done.stdout, re.MULTILINE)
    assert simulator.stats().requests == 4  # the long one: two parts, and both together
    again = await example("summarise_folder", folder, 30)
    assert sorted(again.stdout.splitlines()) == sorted(done.stdout.splitlines())
    assert simulator.stats().requests == 4, "what is done is not paid again"


async def test_translate_csv(simulator: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    rows = [{"number": str(number), "name": f"thing, {number}"} for number in range(45)]
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, ["number", "name"])
        writer.writeheader()
        writer.writerows(rows)
    simulator.add_script([{"text": "{"}], match="thing, 25")  # the second task's first try
    done = await example("translate_csv", file, "name", "French")
    assert done.returncode == 0, done.stderr
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [{**row, "French": "SIMULATED"} for row in rows] == found
    assert simulator.stats().requests == 4
    wrong = await example("translate_csv", file, "nam", "French")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "there is no column 'nam'; there are number, name" in wrong.stderr


async def test_review_diff(simulator: Simulator, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(["git", *identity, *arguments], cwd=repository, check=True)

    git("init", "--quiet")
    for name in ("one.py", "two.py", "three.py"):
        (repository / name).write_text("x = 1\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    (repository / "one.py").write_text("x = 2\n")
    (repository / "two.py").write_text("y = 1\n")
    (repository / "three.py").unlink()
    remark = '{"remarks": [{"line": 1, "severity": "%s", "text": "%s"}]}'
    simulator.add_script([{"text": remark % ("style", "a plain name")}], match="one.py")
    simulator.add_script([{"text": remark % ("bug", "x is gone")}], match="two.py")
    done = await example("review_diff", "HEAD", cwd=repository)
    assert done.stdout.splitlines() == [
        "two.py:1: bug: x is gone",
        "one.py:1: style: a plain name",
    ]
    assert done.returncode == 1, "a bug was found"
    assert "2 files, 2 remarks, 0 not reviewed" in done.stderr
    done = await example("review_diff", "HEAD", "--", "three.py", cwd=repository)
    assert (done.returncode, done.stdout) == (0, "")


def test_each_says_how_to_run_it() -> None:
    for name, queue in QUEUES.items():
        text = (ROOT / "examples" / f"{name}.py").read_text()
        assert f"agentflow worker examples.{name}:app --queues {queue}" in text
        assert f"python examples/{name}.py" in text
        assert f'queue="{queue}"' in text
