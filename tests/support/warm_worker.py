"""A process that starts workers within milliseconds: what is large is imported before it forks.

    python -m tests.support.warm_worker URL [OPTIONS as JSON]

For each line on its standard input it forks one worker and prints its process id; whoever reads
that may kill it. Two hundred kills of cold processes would be two hundred imports of the SDK.
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
from pathlib import Path
from typing import Any

from agentflow.config import Connect
from tests.support.tools import ROOT


class WarmWorkers:
    """Such a process, seen from the test."""

    def __init__(self, url: str, log: Path, *, env: dict[str, str], **options: Any) -> None:
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm_worker", url, json.dumps(options)],
            cwd=ROOT,
            env=os.environ | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.pids: set[int] = set()
        self.started = 0

    async def start(self) -> int:
        """Fork a worker; its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"start\n")
        self._process.stdin.flush()
        pid = int(await asyncio.to_thread(self._process.stdout.readline))
        self.pids.add(pid)
        self.started += 1
        return pid

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal, kill -9 by default."""
        os.kill(pid, number)
        if number == signal.SIGKILL:
            self.pids.discard(pid)

    def close(self) -> None:
        """Kill what is left."""
        for pid in list(self.pids):
            with contextlib.suppress(ProcessLookupError):  # it may not have begun in the end
                self.kill(pid)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()


def main() -> None:
    url, options = sys.argv[1], json.loads(sys.argv[2])
    import agentflow.handlers.claude.handler  # noqa: F401  what a worker takes a second for
    from agentflow.worker.process import run, serve

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            logging.basicConfig(level=logging.INFO)
            run(serve(Connect(urls=(url,)), **options))
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
