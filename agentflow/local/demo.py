"""A demonstration: a simulated stack under a lifelike load, as long as somebody looks at it.

It is a process of its own, so that the dashboard's own figures are its own:

    with Demo() as demo:        # some seconds, until the stack is up
        look_at(demo.url)

All of it lives in a temporary directory and on a free port, and ends with the block. When the
process that began it is killed, it notices and ends too (see parent).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from agentflow.config import Connect
from agentflow.errors import StackError
from agentflow.local.demo_load import QUEUES, Load
from agentflow.local.parent import Lifeline, stop_with_parent
from agentflow.local.stack import LocalStack, python_path

WORKERS: Final = 3
CONCURRENCY: Final = 6
READY: Final = "ready at "
START_WITHIN: Final = 60.0
STOP_WITHIN: Final = 15.0
GRACE: Final = 0.5
"""Seconds that a part has for its orderly stop: nobody will miss what it does."""


class Demo:
    """The demonstration, seen from who looks at it."""

    def __init__(self, *, workers: int = WORKERS) -> None:
        self.url = ""
        self._workers = workers
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: Lifeline | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it is up. Raises StackError saying why it is not."""
        self._folder = Path(tempfile.mkdtemp(prefix="agentflow-demo-"))
        self._lifeline = Lifeline()
        try:
            self._start(self._lifeline)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _start(self, lifeline: Lifeline) -> None:
        log = self._folder / "demo.log"
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "agentflow.local.demo"),
                    *(str(self._folder / "store"), str(self._workers)),
                ],
                env=dict(os.environ) | python_path() | lifeline.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=[lifeline.fd],
                start_new_session=True,  # Ctrl-C is for the dashboard, which then ends this
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode().strip()
        if not line.startswith(READY):
            self._process.wait(STOP_WITHIN)
            said = log.read_text("utf-8", "replace").strip().splitlines()
            raise StackError(f"the demonstration could not start: {said[-1] if said else line}")
        self.url = line.removeprefix(READY)

    def _end(self) -> None:
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            try:
                self._process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)


async def run(store: Path, workers: int) -> None:
    """The demonstration itself, until SIGTERM."""
    from agentflow.client import Client

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stack = LocalStack(
        store,
        port=0,
        workers=workers,
        concurrency=CONCURRENCY,
        queues=QUEUES,
        simulate=True,
        worker_grace=GRACE,
    )
    starting = asyncio.ensure_future(stack.start())
    ended = asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return
    starting.result()
    assert stack.simulator_url is not None
    try:
        async with Client(Connect(urls=(stack.url,))) as client:
            load = asyncio.ensure_future(Load(client, stack.simulator_url).run())
            print(READY + stack.url, flush=True)
            await asyncio.wait({ended, load}, return_when=asyncio.FIRST_COMPLETED)
            load.cancel()
            await asyncio.wait({load})
    finally:
        ended.cancel()
        for after in (GRACE, 2 * GRACE):
            loop.call_later(after, stack.hurry)
        await stack.stop()


def main() -> None:
    """`python -m agentflow.local.demo STORE WORKERS`, started by `Demo`."""
    stop_with_parent(STOP_WITHIN)
    store = Path(sys.argv[1])
    try:
        asyncio.run(run(store, int(sys.argv[2])))
    except StackError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        # Whoever began it may have been killed: then nobody else clears up.
        shutil.rmtree(store.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
