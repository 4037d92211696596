"""A worker process with the handlers of the fault tests.

    python -m tests.support.worker_process URL RUNS [OPTIONS as JSON]

It is the program's own `serve`; only the kinds are the tests' own. Each start and end of a run is
a line in the file RUNS: what a broker or a worker does not survive, a file does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from agentflow.config import Connect
from agentflow.handlers import registry
from agentflow.handlers.contract import AttemptFailed, Handler, Outcome, Run
from agentflow.protocol import headers, limits, record
from agentflow.protocol.record import Failure
from agentflow.rules import records as entries
from agentflow.rules.retry import Signal
from agentflow.worker import worker
from agentflow.worker.process import serve

ROOT = Path(__file__).resolve().parents[2]


class Noted(NamedTuple):
    """A line of RUNS."""

    what: str
    id: str
    attempt: int
    pid: int


def read_runs(path: Path) -> list[Noted]:
    """All lines so far."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        what, task_id, attempt, pid = line.split()
        found.append(Noted(what, task_id, int(attempt), int(pid)))
    return found


class WorkerProcess:
    """Such a process, seen from the test."""

    def __init__(
        self, url: str, runs: Path, *, env: dict[str, str] | None = None, **options: Any
    ) -> None:
        self.log = runs.with_name(f"worker-{os.urandom(3).hex()}.log")
        command = [sys.executable, "-X", "faulthandler"]
        command += ["-m", "tests.support.worker_process", url, str(runs)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, json.dumps(options)],
                cwd=ROOT,
                env=None if env is None else os.environ | env,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(10)

    async def exited(self, within: float) -> int:
        """Its exit code, once it has ended."""
        async with asyncio.timeout(within):
            code = await asyncio.to_thread(self.process.wait, within + 1)
        if code not in (0, -signal.SIGKILL):
            print(self.log.read_text())  # what a failed test shows
        return code


def handlers(runs: str) -> dict[str, Handler]:
    """Kinds that note their runs and then do what they are called; most on their first attempt."""
    file = os.open(runs, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(what: str, run: Run) -> None:
        os.write(file, f"{what} {run.task.id} {run.attempt} {os.getpid()}\n".encode())

    async def sleep(run: Run) -> Outcome:
        note("start", run)
        await asyncio.sleep(run.task.params.get("seconds", 0.0))
        note("end", run)
        return Outcome(value=run.attempt)

    async def hang(run: Run) -> Outcome:
        note("start", run)
        if run.attempt == 1:
            await asyncio.Event().wait()
        return Outcome(value=run.attempt)

    async def fail(run: Run) -> Outcome:
        note("start", run)
        if run.attempt == 1:
            failure = Failure(type="rate_limit_error", message="later", status=429)
            raise AttemptFailed(failure, Signal(status=429, retry_after=0.1))
        return Outcome(value=run.attempt)

    async def deaf(run: Run) -> Outcome:
        note("start", run)
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def block(run: Run) -> Outcome:
        note("start", run)
        if run.attempt == 1:
            time.sleep(run.task.params["seconds"])  # no await: the whole worker stands still
        note("end", run)
        return Outcome(value=run.attempt)

    async def crash(run: Run) -> Outcome:
        note("start", run)
        if run.attempt <= run.task.params.get("times", 1_000):
            os._exit(7)
        return Outcome(value=run.attempt)

    async def large(run: Run) -> Outcome:
        note("start", run)
        return Outcome(value="x" * run.task.params["bytes"])

    own = (sleep, hang, fail, deaf, block, crash, large)
    return {handler.__name__: handler for handler in own}


def main(url: str, runs: str, options: str = "{}") -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    chosen: dict[str, Any] = json.loads(options)
    limits.ASK_FOR = chosen.pop("ask", limits.ASK_FOR)  # type: ignore[misc]
    limits.ASK_EVERY = min(limits.ASK_EVERY, limits.ASK_FOR / 3)  # type: ignore[misc]
    limits.UPGRADE_DELAY = chosen.pop("upgrade", limits.UPGRADE_DELAY)  # type: ignore[misc]
    worker.HAND_BACK = chosen.pop("hand_back", worker.HAND_BACK)  # type: ignore[misc]
    if not chosen.pop("fence", True):
        # What the checker must notice: a worker that writes past the log's last record.
        headers.fence = lambda task_id, sequence: b""
    if version := chosen.pop("version", None):
        # A worker of a later version, whose records this one must leave alone.
        record.VERSION = version  # type: ignore[misc]
        entries.VERSION = version  # type: ignore[attr-defined]
    ours = handlers(runs)
    registry.KINDS = {  # type: ignore[misc]
        kind: lambda kind=kind: ours[kind]  # type: ignore[misc]
        for kind in ours
    }
    asyncio.run(serve(Connect(urls=(url,)), **chosen))


if __name__ == "__main__":
    main(*sys.argv[1:])
