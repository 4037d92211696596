"""One queue's turn in a round: its broker, its worker and its client, all fresh, then the check.

The client prints a line a shape; at each one the processes are looked at, so that the CPU time and
the memory of each part stand beside the shape that took them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.instruments.watched import Watched
from bench.peers import figures, shapes
from bench.peers.brokers import Broker, NotMeasured, running
from bench.peers.catalogue import Setting
from bench.peers.shapes import Load

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENTS = ROOT / ".tools" / "peers"
STOP_WITHIN = 10.0
LONGEST = 150.0
"""Seconds for one turn; one that hangs must not hold up the run."""


def programs(setting: Setting) -> Path:
    """The folder of its programs. Raises NotMeasured where it is not installed."""
    if setting.environment is None:
        return Path(sys.executable).parent
    home = ENVIRONMENTS / setting.environment
    if not (home / "installed.txt").exists():
        raise NotMeasured(f"{setting.environment} is not installed: tools/install-peers")
    return home / "bin"


@asynccontextmanager
async def program(
    command: Sequence[str], environment: dict[str, str], log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program in a session of its own, ended with all it started."""
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_WITHIN):
                    await child.wait()
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


async def run(setting: Setting, load: Load) -> dict[str, Any]:
    """Its figures. Raises NotMeasured with the reason where there can be none."""
    home = programs(setting)
    load = replace(load, sleepers=figures.sleepers(setting.slots, load.sleepers))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        try:
            async with asyncio.timeout(LONGEST), running(setting.broker, place) as broker:
                return await _measured(setting, load, broker, home, place)
        except TimeoutError:
            raise NotMeasured(f"it had not finished after {LONGEST:g} s{_words(place)}") from None


async def _measured(
    setting: Setting, load: Load, broker: Broker, home: Path, place: Path
) -> dict[str, Any]:
    runs = place / "runs"
    environment = {
        **os.environ,
        **shapes.environment(broker.url, setting.name, os.fspath(runs), load),
        "PYTHONPATH": os.fspath(ROOT),
        "PATH": f"{home}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    if setting.module == "taskiq":
        environment["BENCH_SETTING"] = f"{setting.queue.partition('-')[2]}-{setting.name}"
    worker = [os.fspath(home / setting.worker[0])]
    worker += [part.format(url=broker.url) for part in setting.worker[1:]]
    client = [os.fspath(home / "python"), "-m", f"bench.peers.{setting.module}"]
    async with AsyncExitStack() as stack:
        pids = {"broker": broker.pids}
        if setting.module == "agentflow":
            # It is no part of a task's way, but belongs to what a user runs.
            command = [os.fspath(home / "agentflow"), "master", "--nats", broker.url]
            master = await stack.enter_async_context(
                program(command, environment, place / "master.log")
            )
            pids["master"] = (master.pid,)
        work = await stack.enter_async_context(program(worker, environment, place / "worker.log"))
        pids["worker"] = (work.pid,)
        told = await _client(client, environment, pids, place)
    tasks = figures.exact(told.pop("end")["submitted"], _counted(runs))
    return figures.of_turn(told, setting.slots, load.nap) | {"tasks": tasks}


async def _client(
    command: list[str], environment: dict[str, str], pids: dict[str, tuple[int, ...]], place: Path
) -> dict[str, Any]:
    """What the client said of each shape, with what that cost."""
    told: dict[str, Any] = {}
    with (place / "client.log").open("wb") as errors:
        child = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert child.stdout is not None
        watched = Watched(**pids, client=(child.pid,))
        async for line in child.stdout:
            said = json.loads(line)
            said["cpu_s"], said["memory_mb"] = watched.cpu_since(), watched.memory()
            told[said.pop("shape")] = said
        # Some stumble over their own threads when all is said.
        if await child.wait() and "end" not in told:
            raise NotMeasured(f"its client failed{_words(place)}")
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return told


def _counted(runs: Path) -> Counter[int]:
    return Counter(map(int, runs.read_text().split())) if runs.exists() else Counter()


def _words(place: Path) -> str:
    """The last line that worker or client left, for the reason."""
    for name in ("client.log", "worker.log"):
        with suppress(OSError):
            lines = (place / name).read_text(errors="replace").split("\n")
            said = [line.strip() for line in lines if line.strip()]
            if said:
                return f": {said[-1][:200]}"
    return ""
