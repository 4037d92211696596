"""A process that owns a local stack, to be killed by a test.

    python -m tests.support.owner STORE [OPTIONS as JSON]

Prints one JSON line when the stack is up, and stops it on SIGTERM; on another one, faster.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from agentflow.local.stack import LocalStack
from agentflow.local.supervisor import Event

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).with_name("stand_in.py")


def stand_ins() -> dict[str, list[str]]:
    """Commands for LocalStack that start stand-ins in place of the real parts."""
    return {
        role: [sys.executable, str(STAND_IN), role] for role in ("master", "worker", "simulator")
    }


class Owner:
    """Such a process, seen from the test."""

    def __init__(self, store: Path, **options: Any) -> None:
        options.setdefault("simulate", True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.owner", str(store), json.dumps(options)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the owner's stack did not start; its reason stands above"
        self.up: dict[str, Any] = json.loads(line)

    @property
    def pids(self) -> dict[str, int]:
        pids: dict[str, int] = self.up["pids"]
        return pids

    def kill(self) -> None:
        """kill -9: of the owner alone."""
        self.process.kill()
        self._over()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self._over()

    def _over(self) -> int:
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(30)


async def main(store: str, options: dict[str, Any]) -> None:
    pids: dict[str, int | None] = {}

    def note(event: Event) -> None:
        pids[event.part] = event.pid

    asked = asyncio.Event()
    stack = LocalStack(store, commands=stand_ins(), on_event=note, **options)

    def ask() -> None:
        if asked.is_set():
            stack.hurry()
        asked.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ask)
    async with stack:
        print(
            json.dumps({"url": stack.url, "pids": pids, "adopted": stack.server.adopted}),
            flush=True,
        )
        await asked.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}))
