"""Where a design is measured: a fresh server, a master, the simulator, and the design's worker.

Each measurement has its own, so nothing of one is left for the next: no warm pool of connections,
no grown heap, no stream with ten thousand records. Nothing outlives it, whatever happens: a child
that ignores SIGTERM is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

import agentflow
from agentflow.errors import AgentFlowError
from agentflow.local.parent import PARENT_FD, Lifeline
from agentflow.local.server import LocalServer
from agentflow.simulator import Stats
from agentflow.simulator.knobs import Layer
from bench.compare import drive
from bench.compare.rows.design import QUEUE, ROOT, Design, Site
from bench.compare.rows.design import agentflow as command

START_WITHIN: Final = 180.0
"""Seconds in which a hundred processes have started, on two cores."""
TASK_WITHIN: Final = 120.0
STOP_WITHIN: Final = 10.0
WARM: Final[Layer] = {"latency": 0.3}
"""Of the answers that warm the slots up: so long that all of them are needed."""
INSTANT: Final[Layer] = {"latency": 0}

QUIET: Final = {
    # Without these the CLI asks hosts elsewhere, and offline it waits for them.
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_MAX_RETRIES": "1",
}
_FOREIGN: Final = ("ANTHROPIC_", "AGENTFLOW_", "CLAUDE", "NATS_")


class WorkerEnded(AgentFlowError):
    """A worker program ended before its time; the text has the end of what it said."""


class Rig:
    """One design, ready: its processes, and the ways to drive it.

    `beside` are the processes of the system round the worker, by name. `started_s` is from the
    start of the worker to its first result, of an answer that takes no time.
    """

    def __init__(self, worker: asyncio.subprocess.Process, api: str, log: Path) -> None:
        self.worker = worker
        self.beside: dict[str, int] = {}
        self.started_s = 0.0
        self._api = api
        self._log = log
        self.round: Callable[[drive.Order, Callable[[], None]], Awaitable[drive.Round]]

    async def watched(self, work: Awaitable[drive.Round]) -> drive.Round:
        """The work, unless the worker ends first. Raises WorkerEnded."""
        running = asyncio.ensure_future(work)
        ended = asyncio.ensure_future(self.worker.wait())
        try:
            await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                raise self.gone()
            return await running
        finally:
            for future in (running, ended):
                future.cancel()
            await asyncio.gather(running, ended, return_exceptions=True)

    def gone(self) -> WorkerEnded:
        """The worker has ended; why, it said itself."""
        said = self._log.read_text(errors="replace").strip().splitlines()
        last = said[-1] if said else "it said nothing"
        return WorkerEnded(f"the worker ended (exit status {self.worker.returncode}): {last[:300]}")

    async def answer_with(self, layer: Layer) -> None:
        """What the simulator does from now on; its log and counters begin anew."""
        await self._control("reset", {})
        await self._control("mode", layer)

    async def asked(self) -> Stats:
        """What the simulator was asked since."""
        return msgspec.json.decode(await self._control("stats"), type=Stats)

    async def _control(self, what: str, body: object = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()

        def ask() -> bytes:
            with urllib.request.urlopen(f"{self._api}/_fake/{what}", data, timeout=30) as answer:
                body: bytes = answer.read()
                return body

        return await asyncio.to_thread(ask)


@asynccontextmanager
async def child(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path, *, stdout: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that is gone afterwards; what it says goes to a file.

    It works in a folder with nothing in it: in a repository Claude Code asks git how things are.
    """
    with log.open("wb") as said:
        started = await asyncio.create_subprocess_exec(
            *arguments,
            env=dict(environment),
            cwd=log.parent / "work",
            # Both end with this process, however it dies: stdin tells the programs that are no
            # AgentFlow, the lifeline those that are.
            stdin=asyncio.subprocess.PIPE,
            pass_fds=[int(environment[PARENT_FD])],
            stdout=asyncio.subprocess.PIPE if stdout else said,
            stderr=said,
            limit=1 << 26,
        )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.terminate()
            try:
                async with asyncio.timeout(STOP_WITHIN):
                    await started.wait()
            except TimeoutError:
                started.kill()
                await started.wait()


@asynccontextmanager
async def simulator(environment: Mapping[str, str], log: Path) -> AsyncIterator[tuple[str, int]]:
    """The Messages API: where it is, and its process id."""
    async with child(command("simulator"), environment, log, stdout=True) as process:
        assert process.stdout is not None
        async with asyncio.timeout(START_WITHIN):
            url = re.search(r"http://\S+", (await process.stdout.readline()).decode())
        if url is None:
            raise WorkerEnded("the simulator did not start")
        yield url[0], process.pid


@asynccontextmanager
async def rig(design: Design, *, slots: int, processes: int, cli: str | None) -> AsyncIterator[Rig]:
    """A design with so many slots in each of so many processes, all started and warm."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, _lifeline() as lifeline:
        folder = Path(name)
        (folder / "home").mkdir()
        (folder / "work").mkdir()
        base = _environment(folder, cli) | lifeline.environment
        async with simulator(base, folder / "simulator.log") as (api, pid):
            base |= {"ANTHROPIC_BASE_URL": api}
            if design.orders:
                async with _alone(design, folder, api, base) as ready:
                    ready.beside["simulator"] = pid
                    await _warm(ready, slots * processes, slots * processes)
                    yield ready
                return
            async with (
                LocalServer(folder / "store") as server,
                child(
                    command("master", "--nats", server.url), base, folder / "master.log"
                ) as master,
                agentflow.connect(server.url) as client,
            ):
                await _until_streams(client)
                site = Site(server.url, api, folder, cli)
                beside = {"server": server.pid or 0, "master": master.pid, "simulator": pid}
                async with _worker(design, site, base, slots, processes, client) as ready:
                    ready.beside |= beside
                    await _until_all(client, ready, processes)
                    places = slots * processes
                    await _warm(ready, places if design.warm_all else 1, places)
                    yield ready


@contextmanager
def _lifeline() -> Iterator[Lifeline]:
    lifeline = Lifeline()
    try:
        yield lifeline
    finally:
        lifeline.close()


def _environment(folder: Path, cli: str | None) -> dict[str, str]:
    """Nothing of the user's own key, settings or proxies."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(_FOREIGN)}
    return {
        **kept,
        **QUIET,
        "HOME": str(folder / "home"),
        "XDG_CONFIG_HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
        "ANTHROPIC_API_KEY": "simulated",
        "AGENTFLOW_SIMULATED": "1",
        "AGENTFLOW_WORKSPACES": str(folder / "workspaces"),
        "AGENTFLOW_CLAUDE": cli or "",
        "AGENTFLOW_CLAUDE_CLI_CONCURRENCY": "1000",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


@asynccontextmanager
async def _alone(
    design: Design, folder: Path, api: str, environment: dict[str, str]
) -> AsyncIterator[Rig]:
    """A design that is driven over stdin."""
    site = Site("", api, folder, None)
    began = time.monotonic()
    log = folder / "worker.log"
    async with child(design.command(site, 1, 1), environment, log, stdout=True) as process:
        ready = Rig(process, api, log)
        await ready.answer_with(INSTANT)

        async def exchange(order: drive.Order, done: Callable[[], None]) -> drive.Round:
            assert process.stdin is not None and process.stdout is not None
            began = time.perf_counter()
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            line = await process.stdout.readline()
            seconds = time.perf_counter() - began
            answers = msgspec.json.decode(line, type=list[drive.Answer])
            for _ in answers:
                done()
            return drive.Round(seconds, answers)

        ready.round = exchange
        assert process.stdout is not None
        async with asyncio.timeout(START_WITHIN):
            await process.stdout.readline()
        await ready.round(drive.Order(["First."], 1), lambda: None)
        ready.started_s = time.monotonic() - began
        yield ready


@asynccontextmanager
async def _worker(
    design: Design,
    site: Site,
    environment: dict[str, str],
    slots: int,
    processes: int,
    client: agentflow.Client,
) -> AsyncIterator[Rig]:
    """A design that takes its tasks from the queue."""
    own = {**environment, "NATS_URL": site.nats, **design.environment(site)}
    log = site.folder / "worker.log"
    # Submitted before, so that the worker finds it when it first looks.
    first = await client.submit("First.", **_fields(design))
    arguments = design.command(site, slots, processes)
    began = time.monotonic()
    async with child(arguments, own, log) as process:
        ready = Rig(process, site.api, log)
        await ready.answer_with(INSTANT)

        async def one(prompt: str) -> str:
            try:
                task = await client.submit(prompt, **_fields(design))
                result = await task.result(timeout=TASK_WITHIN)
            except AgentFlowError as error:
                return f"{type(error).__name__}: {error}"
            if result.attempts != 1:
                return f"it took {result.attempts} attempts"
            return "" if result.text else "the answer is empty"

        async def started() -> drive.Round:
            await first.result(timeout=START_WITHIN)
            return drive.Round(0.0, [])

        ready.round = lambda order, done: ready.watched(drive.run(one, order, done))
        await ready.watched(started())
        ready.started_s = time.monotonic() - began
        yield ready


def _fields(design: Design) -> dict[str, Any]:
    # One attempt: what fails is to be seen here, and not to be mended by the retry table.
    return {
        "queue": QUEUE,
        "kind": design.kind,
        "max_attempts": 1,
        "timeout": TASK_WITHIN,
        "params": design.params,
    }


async def _until_streams(client: agentflow.Client) -> None:
    """Return when the master has made the streams: a worker in another language cannot."""
    await _until(client, lambda views: True)


async def _until_all(client: agentflow.Client, ready: Rig, processes: int) -> None:
    """Return when all processes serve; the programs in other languages do not say so."""
    if processes > 1:
        await _until(client, lambda views: len(views) >= processes, ready)


async def _until(
    client: agentflow.Client, enough: Callable[[list[Any]], bool], ready: Rig | None = None
) -> None:
    async with asyncio.timeout(START_WITHIN):
        while True:
            if ready is not None and ready.worker.returncode is not None:
                raise ready.gone()
            try:
                if enough(list(await client.workers())):
                    return
            except AgentFlowError:
                pass
            await asyncio.sleep(0.1)


async def _warm(ready: Rig, tasks: int, places: int) -> None:
    """Open every connection, and start what stays."""
    await ready.answer_with(WARM)
    order = drive.Order([f"Warm {number}." for number in range(tasks)], min(tasks, places))
    done = await ready.round(order, lambda: None)
    bad = [answer.problem for answer in done.answers if answer.problem]
    if bad:
        raise WorkerEnded(f"{len(bad)} of {tasks} tasks failed while warming up: {bad[0]}")
