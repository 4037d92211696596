"""What does a request to the gateway cost, and how many readers does it carry?

    get, post     one request after the other on each of 32 connections; CPU is the gateway's own,
                  so it is the same however slow the client beside it is
    bulk          JSON lines in one request
    one task      seconds from the instant in a record to its event, for readers of one task each
    readers       1,000 readers of one task each; 50 of everything at 200 tasks/s
    idle          what a gateway weighs that nobody asks

Required: 100 us a GET from the followed store, 285 us a POST, 90 us a task of a bulk; 2 ms to the
event; readers within one core and 200 MB; 60 MB idle. The source document wants 10,000 requests/s.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import psutil

from agentflow.client import Client, connect
from agentflow.handlers.contract import Outcome, Run
from agentflow.worker.worker import Worker
from bench.instruments import machine
from bench.instruments.tree import cpu_s
from bench.scale.servers import running

CONNECTIONS: Final = 32
TASKS: Final = 500
RESULTS: Final = Path(__file__).parent / "results" / "gateway.json"
READERS: Final = 1000
WATCHERS: Final = 50
RATE: Final = 200


class Load(NamedTuple):
    """What a load came to: CPU is the gateway's, in microseconds an item."""

    number: int
    per_s: float
    cpu_us: float


class _Asking(asyncio.Protocol):
    """A connection that asks again as soon as it has its answer."""

    def __init__(self, request: Callable[[], bytes], more: Callable[[], bool]) -> None:
        self._request = request
        self._more = more
        self._waiting = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request())

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        head, mark, body = self._waiting.partition(b"\r\n\r\n")
        if not mark:
            return
        lower = head.lower()
        at = lower.index(b"content-length: ") + 16
        if len(body) < int(lower[at:].split(b"\r\n", 1)[0]):
            return
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
            self._end(RuntimeError(head.decode()))
            return
        self._waiting = b""
        if self._more():
            self._transport.write(self._request())
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or RuntimeError("the gateway closed the connection"))

    def _end(self, error: Exception | None) -> None:
        if self.over.done():
            return
        if error is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(error)
        self._transport.close()


async def load(port: int, pid: int, number: int, request: Callable[[], bytes]) -> Load:
    """So many requests."""
    left = number - CONNECTIONS

    def more() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    loop = asyncio.get_running_loop()
    cpu, began = cpu_s(pid), time.monotonic()
    asking = []
    for _ in range(CONNECTIONS):
        _, protocol = await loop.create_connection(
            lambda: _Asking(request, more), "127.0.0.1", port
        )
        asking.append(protocol.over)
    await asyncio.gather(*asking)
    return _load(number, began, cpu, pid)


def _load(number: int, began: float, cpu: float, pid: int) -> Load:
    seconds = time.monotonic() - began
    return Load(number, round(number / seconds, 1), round((cpu_s(pid) - cpu) / number * 1e6, 1))


class Gateway(NamedTuple):
    """A gateway that runs."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def rss_mb(self) -> float:
        """Of all its processes."""
        root = psutil.Process(self.pid)
        every = [root, *root.children(recursive=True)]
        return float(round(sum(each.memory_info().rss for each in every) / 2**20, 1))


@asynccontextmanager
async def gateway(url: str, processes: int = 1) -> AsyncIterator[Gateway]:
    """A gateway on a server, once it is ready."""
    import sys

    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agentflow", "gateway", "--nats", url, "--port", "0"),
        *("--processes", str(processes)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert child.stdout is not None
    try:
        line = (await child.stdout.readline()).decode()
        made = Gateway(int(line.rsplit(":", 1)[1]), child.pid)
        async with aiohttp.ClientSession() as session:
            await _ready(session, made, processes)
        yield made
    finally:
        child.terminate()
        await child.wait()


async def _ready(session: aiohttp.ClientSession, made: Gateway, processes: int) -> None:
    good = 0
    while good < 10 * processes:  # each process answers some of them
        try:
            async with session.get(made.url + "/readyz", headers={"Connection": "close"}) as answer:
                good = good + 1 if answer.status == 200 else 0
        except aiohttp.ClientError:
            good = 0
        if not good:
            await asyncio.sleep(0.05)


def get(task_id: str) -> bytes:
    """A GET of a task."""
    return f"GET /v1/tasks/{task_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(body: bytes) -> bytes:
    """A POST of one."""
    head = "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


BODY: Final = json.dumps(
    {
        "kind": "echo",
        "prompt": "Summarise the following page in three sentences. " * 4,
        "queue": "bench",
        "labels": {"team": "docs", "line": "17"},
    }
).encode()


async def requests(made: Gateway, number: int) -> dict[str, Any]:
    """GET of tasks that the store has, POST, bulk."""
    ids = [f"g-{n}" for n in range(TASKS)]
    at = 0

    def next_get() -> bytes:
        nonlocal at
        at = (at + 1) % TASKS
        return get(ids[at])

    post_one = post(BODY)
    await load(made.port, made.pid, number // 10, next_get)
    return {
        "get": (await load(made.port, made.pid, number, next_get))._asdict(),
        "post": (await load(made.port, made.pid, number // 2, lambda: post_one))._asdict(),
        "bulk": (await bulk(made, number))._asdict(),
    }


async def bulk(made: Gateway, number: int) -> Load:
    """So many tasks in one request."""

    async def lines() -> AsyncIterator[bytes]:
        for _ in range(number // 100):
            yield (BODY + b"\n") * 100

    cpu, began, stored = cpu_s(made.pid), time.monotonic(), 0
    async with (
        aiohttp.ClientSession(read_bufsize=2**20) as session,
        session.post(
            made.url + "/v1/tasks/bulk",
            data=lines(),
            headers={"Content-Type": "application/x-ndjson"},
            timeout=aiohttp.ClientTimeout(600),
        ) as answer,
    ):
        async for line in answer.content:
            stored += b'"sequence"' in line
    assert stored == number, f"{stored} of {number}"
    return _load(number, began, cpu, made.pid)


async def _steps(run: Run) -> Outcome:
    for step in range(run.task.params.get("steps", 1)):
        await asyncio.sleep(0.25)
        await run.progress((step + 1) / 100)
    return Outcome(text="done")


async def one_task(made: Gateway, client: Client, readers: int) -> dict[str, Any]:
    """Readers of one task each, which tells of itself four times a second."""
    late: list[float] = []
    opened = asyncio.Semaphore(100)
    rss = made.rss_mb
    ids = [
        (await client.submit("x", kind="steps", queue="live", params={"steps": 60})).id
        for _ in range(readers)
    ]

    async def read(session: aiohttp.ClientSession, task_id: str) -> None:
        async with opened:
            answer = await session.get(f"{made.url}/v1/tasks/{task_id}/events")
        async with answer:
            async for line in answer.content:
                now = datetime.now(UTC)
                if line.startswith(b"data: ") and b'"task' in line and b'"time"' in line:
                    told = json.loads(line[6:])
                    late.append((now - datetime.fromisoformat(told["time"])).total_seconds())

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        reading = [asyncio.ensure_future(read(session, task_id)) for task_id in ids]
        await asyncio.sleep(5)
        late.clear()
        cpu, began = cpu_s(made.pid), time.monotonic()
        await asyncio.sleep(8)
        share = (cpu_s(made.pid) - cpu) / (time.monotonic() - began)
        figures = {
            "readers": readers,
            "events_per_s": round(len(late) / 8),
            "late_p50_ms": round(statistics.median(late) * 1000, 2),
            "cores": round(share, 2),
            "rss_mb": made.rss_mb,
            "rss_before_mb": rss,
        }
        for each in reading:
            each.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    for task_id in ids:
        await client.cancel(task_id)
    return figures


async def everything(made: Gateway, client: Client) -> dict[str, Any]:
    """Readers of all events, at a steady load."""
    heard = 0

    async def read(session: aiohttp.ClientSession) -> None:
        nonlocal heard
        async with session.get(made.url + "/v1/events") as answer:
            async for piece in answer.content.iter_any():
                heard += piece.count(b"\ndata: ")

    async def submit() -> None:
        every = 0.1
        while True:
            began = time.monotonic()
            for _ in range(int(RATE * every)):
                await client.submit("x", kind="echo", queue="live")
            await asyncio.sleep(max(0.0, every - (time.monotonic() - began)))

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        work = [asyncio.ensure_future(read(session)) for _ in range(WATCHERS)]
        work.append(asyncio.ensure_future(submit()))
        await asyncio.sleep(3)
        heard = 0
        cpu, began = cpu_s(made.pid), time.monotonic()
        await asyncio.sleep(8)
        share = (cpu_s(made.pid) - cpu) / (time.monotonic() - began)
        for each in work:
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    return {
        "readers": WATCHERS,
        "events_per_s": round(heard / 8),
        "cores": round(share, 2),
        "rss_mb": made.rss_mb,
    }


async def measured(number: int, readers: int) -> dict[str, Any]:
    """All of it."""
    from agentflow.bus.wire.connection import Connection
    from agentflow.config import Connect
    from tests.support.handlers import echo

    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with running("r1", Path(folder)) as servers, connect(servers.url) as client:
            for n in range(TASKS):
                await client.submit("x" * 100, id=f"g-{n}", kind="echo", queue="bench")
            async with gateway(servers.url) as made:
                figures["idle_rss_mb"] = made.rss_mb
                figures["one process"] = await requests(made, number)
            async with gateway(servers.url, processes=2) as made:
                figures["two processes"] = await requests(made, number)
            async with await Connection.open(Connect(urls=(servers.url,)), "worker") as own:
                worker = Worker(
                    own, {"echo": echo, "steps": _steps}, queues=["live"], slots=readers + 100
                )
                await worker.start()
                async with gateway(servers.url) as made:
                    figures["one task each"] = await one_task(made, client, readers)
                async with gateway(servers.url) as made:
                    few = await one_task(made, client, 5)
                    figures["first event p50_ms"] = few["late_p50_ms"]
                    figures["everything"] = await everything(made, client)
                worker.actor.hurry.set()
                await worker.actor.close()
    return figures


async def main(quick: bool, out: Path) -> int:
    """Measure, print, keep."""
    facts = machine.noted()
    figures = await measured(2_000 if quick else 20_000, 100 if quick else READERS)
    print(json.dumps(figures, indent=2))
    if not quick:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"machine": facts, **figures}, indent=2) + "\n")
    return 0
