"""A whole stack in the test's own process; only the nats-server is another one.

Worker, simulator and master run in the event loop of a thread, so a test may be plain or async, and
what it patches its functions see. The environment points to the stack while it is up: a function
under test finds this server and no other, and a real key is out of its reach.

Kind `claude` needs anthropic, whose import takes 1.2 s once; so it is imported with the first task
of that kind. A store is thrown away with its stack, and its server is killed: an orderly end takes
ten times as long.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Final, Self

from agentflow import sync
from agentflow.app import App
from agentflow.bus.wire.connection import Connection
from agentflow.client import Client, connect
from agentflow.client.tasks.several import several
from agentflow.config import Connect
from agentflow.handlers import registry
from agentflow.handlers.contract import Handler, Outcome, Run
from agentflow.handlers.functions.shared_claude import SharedClaude
from agentflow.local.server import LocalServer
from agentflow.master.master import Master
from agentflow.simulator import Simulator
from agentflow.sync import LoopThread, SyncClient
from agentflow.testing.simulator import SimulatedClaude
from agentflow.worker.worker import Worker

KEY: Final = "sk-ant-simulated"
_OF_USERS: Final = ("AGENTFLOW_", "ANTHROPIC_", "CLAUDE_CODE_OAUTH_TOKEN", "NATS_")
_STOP_WITHIN: Final = 10.0


class Stack:
    """`with Stack() as stack`; its worker runs the kinds echo, sleep and claude.

    `url` is the server's, `client` a sync client, `simulator` the simulated Claude.
    """

    url: str
    simulator: SimulatedClaude

    def __init__(self) -> None:
        self._exit = ExitStack()
        self._client: SyncClient | None = None
        self._running: list[RunningWorker] = []
        self._own: dict[str, Handler] = {}

    def __enter__(self) -> Self:
        with ExitStack() as done:
            store = tempfile.mkdtemp(prefix="agentflow-")
            done.callback(shutil.rmtree, store, ignore_errors=True)
            self._thread = LoopThread("agentflow stack")
            done.callback(self._thread.close)
            self._parts = AsyncExitStack()
            done.callback(lambda: self._thread.call(self._parts.aclose()))
            self._thread.call(self._start(store))
            done.enter_context(_Environment(self.url, self.simulator.url))
            self._first = self.worker()
            self._exit = done.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    async def _start(self, store: str) -> None:
        server = LocalServer(store)
        server.store.take()
        self._parts.callback(server.store.release)
        await server.start()
        self._parts.push_async_callback(_killed, server)
        self.url = server.url
        simulator = await self._parts.enter_async_context(Simulator())
        self.simulator = SimulatedClaude(self._thread, simulator)
        self._claude = _Claude()
        self._parts.push_async_callback(self._claude.close)
        self._parts.push_async_callback(self._stop_workers)

    async def _stop_workers(self) -> None:
        for running in self._running[:]:
            await running.end()

    # For tests.

    @property
    def client(self) -> SyncClient:
        """A client of the stack, for tests that are not async."""
        if self._client is None:
            self._client = self._exit.enter_context(sync.connect(self.url))
        return self._client

    def connect(self) -> Client:
        """A client for async tests: `async with stack.connect() as client`."""
        return connect(self.url)

    def run(self, *apps: App, slots: int = 10) -> None:
        """Run the functions of apps on queue `default`, beside echo, sleep and claude.

        Call it again for what has changed since. Raises UsageError.
        """
        for app in apps:
            self._own |= app.handlers()
        self._first.stop()
        self._first = self._worker(self._own, ["default"], slots)

    def worker(
        self, app: App | None = None, *, queues: Sequence[str] = ("default",), slots: int = 10
    ) -> RunningWorker:
        """One more worker, until it is stopped or the stack ends."""
        several(queues, "queues")
        return self._worker(app.handlers() if app is not None else {}, queues, slots)

    def master(self) -> None:
        """Start a master: `list`, `stats` and `workers` need one."""
        self._thread.call(self._start_master())

    # The inside.

    def _worker(self, own: dict[str, Handler], queues: Sequence[str], slots: int) -> RunningWorker:
        return self._thread.call(self._start_worker(own, queues, slots))

    async def _start_worker(
        self, own: dict[str, Handler], queues: Sequence[str], slots: int
    ) -> RunningWorker:
        running = RunningWorker(self._thread, self._running)
        async with AsyncExitStack() as parts:
            known = registry.load(["echo", "sleep"]) | {"claude": self._claude} | own
            handlers = await parts.enter_async_context(registry.open_handlers(own=known))
            connection = await parts.enter_async_context(await self._connection("worker"))
            worker = Worker(connection, handlers, queues=queues, slots=slots, simulated=True)
            parts.push_async_callback(_closed, worker)
            await worker.start()
            running.parts, running.beat = parts.pop_all(), worker.actor.beat
        self._running.append(running)
        return running

    async def _start_master(self) -> None:
        connection = await self._parts.enter_async_context(await self._connection("master"))
        master = Master(connection)
        self._parts.push_async_callback(master.close)
        await master.start()
        await master.records.caught_up.wait()
        await master.tasks.caught_up.wait()
        for running in self._running:
            running.beat()  # the next one by itself would be heard seconds later
        await connection.flush()

    async def _connection(self, name: str) -> Connection:
        return await Connection.open(Connect(urls=(self.url,)), f"agentflow {name}")


class RunningWorker:
    """A worker of a stack; also `with stack.worker(app): ...`."""

    def __init__(self, thread: LoopThread, among: list[RunningWorker]) -> None:
        self._thread = thread
        self._among = among
        self.parts = AsyncExitStack()
        self.beat: Callable[[], None]

    def stop(self) -> None:
        """Hand back what runs, and end."""
        self._thread.call(self.end())

    async def end(self) -> None:
        """`stop`, in the stack's loop."""
        if self in self._among:
            self._among.remove(self)
            await self.parts.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Claude:
    """Kind `claude`, made with the first task."""

    def __init__(self) -> None:
        self._shared = SharedClaude()
        self._used = False

    async def __call__(self, run: Run) -> Outcome:
        self._used = True
        handler = await self._shared.get()
        return await handler(run)

    async def close(self) -> None:
        await self._shared.close()
        if self._used:
            gc.unfreeze()  # a worker process freezes what is loaded; a test run goes on


class _Environment:
    """The environment with this stack in it and nothing else of ours or of Anthropic's."""

    def __init__(self, url: str, claude: str) -> None:
        # A proxy of the user's must not be asked for a port of this machine.
        direct = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1")))
        self._own = {
            "AGENTFLOW_NATS": url,
            "AGENTFLOW_SIMULATED": "1",
            "ANTHROPIC_BASE_URL": claude,
            "ANTHROPIC_API_KEY": KEY,
            "NO_PROXY": direct,
            "no_proxy": direct,
        }
        self._before: dict[str, str] = {}

    def __enter__(self) -> None:
        self._before = dict(os.environ)
        for name in self._before:
            if name.startswith(_OF_USERS):
                del os.environ[name]
        os.environ.update(self._own)

    def __exit__(self, *_: object) -> None:
        # What the test itself has set of other names stays.
        for name in self._own:
            os.environ.pop(name, None)
        os.environ.update(
            {
                name: value
                for name, value in self._before.items()
                if name in self._own or name.startswith(_OF_USERS)
            }
        )


async def _closed(worker: Worker) -> None:
    worker.actor.hurry.set()
    async with asyncio.timeout(_STOP_WITHIN):
        await worker.actor.close()


async def _killed(server: LocalServer) -> Any:
    server.kill()
    return await server.wait()
