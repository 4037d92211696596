"""How long does it take until work goes on after something was killed with kill -9?

    worker      a task of a killed worker is in work again, with the default lease. Aim: p99 at
                most the lease, the ask of 5 s and 1 s
    master      another master has the lease
    broker      from the start of a killed server to the first completion
    stack       everything killed with 100,000 tasks queued: from the start of all parts to the
                first completion and to full speed. Aim: under 10 s

Victims are killed at random phases of their lease, ten at once, each alone on its queue; one
worker that serves all the queues takes over.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.config import Connect
from agentflow.errors import BusError
from agentflow.local.server import LocalServer
from agentflow.protocol import limits, record, subjects
from bench.instruments import machine
from bench.instruments.child import process

VICTIMS = 10
WITHIN = 90.0
FULL = 0.8
"""Share of the median second that counts as full speed."""
RESULTS = Path(__file__).parent / "results" / "recovery.json"


def spread(times: list[float]) -> dict[str, float | int]:
    """Median, p99 and worst of some seconds."""
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {
        "kills": len(times),
        "p50_s": round(statistics.median(times), 2),
        "p99_s": round(p99, 2),
        "max_s": round(max(times), 2),
    }


class Ear:
    """Hears records as they are stored."""

    def __init__(self, connection: Connection) -> None:
        self.js = JetStream(connection)
        self.runs: dict[str, list[float]] = {}
        self.ends: list[float] = []
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        """Begin."""
        await self.js.connection.subscribe("agentflow.live.progress.>", self._progress)
        await self.js.connection.subscribe(subjects.LIVE_RESULTS, self._result)
        await self.js.connection.flush()

    def _progress(self, message: Message) -> None:
        entry = record.decode(message.data)
        if entry.state == record.State.RUNNING:
            self.runs.setdefault(entry.id, []).append(time.monotonic())
        self._changed.set()

    def _result(self, _: Message) -> None:
        self.ends.append(time.monotonic())
        self._changed.set()

    async def until(self, check: Callable[[], bool], within: float = WITHIN) -> None:
        """Return when it holds, asked again after each record. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while not check():
                self._changed.clear()
                await self._changed.wait()

    async def submit(self, task_id: str, seconds: float, queue: str = "default") -> None:
        """A task that sleeps, submitted until the server has it."""
        body = {"id": task_id, "kind": "sleep", "params": {"seconds": seconds}}
        while True:
            try:
                await self.js.store(subjects.task(queue), msgspec.json.encode(body), timeout=1.0)
                return
            except BusError:
                await asyncio.sleep(0.02)


def worker(url: str, queues: str, slots: int) -> tuple[str, ...]:
    """Arguments of a worker process."""
    work = ("-m", "agentflow", "worker", "--nats", url, "--kinds", "sleep")
    return (*work, "--queues", queues, "-c", str(slots))


async def workers(url: str, ear: Ear, kills: int) -> list[float]:
    """Seconds from the kill of a worker to the second start of its task."""
    chance = random.Random(1)
    seconds: list[float] = []
    for round_ in range(-(-kills // VICTIMS)):
        names = [f"q{round_}-{at}" for at in range(VICTIMS)]
        async with AsyncExitStack() as stack:
            victims = [
                await stack.enter_async_context(process(*worker(url, name, 1))) for name in names
            ]
            for name in names:
                await ear.submit(name, 600.0, name)
            await ear.until(lambda names=names: all(name in ear.runs for name in names))  # type: ignore[misc]
            rescuer = process(*worker(url, ",".join(names), VICTIMS))
            await stack.enter_async_context(rescuer)
            killed: dict[str, float] = {}
            await asyncio.sleep(3.0)
            for name, victim in zip(names, victims, strict=True):
                await asyncio.sleep(chance.uniform(0.0, limits.LEASE / VICTIMS))
                victim.kill()
                killed[name] = time.monotonic()
            await ear.until(lambda names=names: all(len(ear.runs[name]) > 1 for name in names))  # type: ignore[misc]
            seconds += [ear.runs[name][1] - killed[name] for name in names]
    return seconds[:kills]


async def masters(url: str, ear: Ear, kills: int) -> list[float]:
    """Seconds from the kill of the master that has the lease until another has it."""

    async def holder() -> str:
        try:
            lease = await ear.js.last(subjects.KV_STREAM, subjects.kv("lease.master"))
        except BusError:
            return ""
        if lease is None or not lease.data:
            return ""
        return str(msgspec.json.decode(lease.data).get("actor", ""))

    async def other(than: str) -> str:
        async with asyncio.timeout(WITHIN):
            while True:
                now = await holder()
                if now not in ("", than):
                    return now
                await asyncio.sleep(0.02)

    seconds: list[float] = []
    arguments = ("-m", "agentflow", "master", "--nats", url)
    async with AsyncExitStack() as stack:
        alive = [await stack.enter_async_context(process(*arguments)) for _ in range(2)]
        holds = await other("")
        while len(seconds) < kills:
            # The actor's name ends with its pid and a random part.
            victim = next(master for master in alive if f"-{master.pid}-" in holds)
            victim.kill()
            killed = time.monotonic()
            holds = await other(holds)
            seconds.append(time.monotonic() - killed)
            alive.remove(victim)
            alive.append(await stack.enter_async_context(process(*arguments)))
            await asyncio.sleep(1.0)
    return seconds


async def brokers(server: LocalServer, ear: Ear, kills: int) -> list[float]:
    """Seconds from the start of a killed server to the first completion."""
    seconds: list[float] = []
    async with process(*worker(server.url, "default", 50)):
        for number in range(kills):
            for at in range(100):
                await ear.submit(f"b{number}-{at}", 0.2)
            server.kill()
            await server.wait()
            began = time.monotonic()
            before = len(ear.ends)
            await server.start()
            async with asyncio.timeout(WITHIN):
                while len(ear.ends) == before:
                    # A live copy may be lost with the connection; the next one is not.
                    await ear.submit(f"again{number}-{time.monotonic_ns()}", 0.0)
                    await asyncio.sleep(0.02)
            seconds.append(ear.ends[before] - began)
            await ear.until(lambda: len(ear.ends) > 0)
    return seconds


async def stack_restart(server: LocalServer, ear: Ear, queued: int) -> dict[str, Any]:
    """Everything starts with so many tasks queued."""
    gate = asyncio.Semaphore(500)

    async def one(number: int) -> None:
        async with gate:
            await ear.submit(f"s{number}", 0.0)

    await asyncio.gather(*(one(number) for number in range(queued)))
    server.kill()
    await server.wait()
    ear.ends.clear()
    began = time.monotonic()
    await server.start()
    ready = time.monotonic() - began
    master = ("-m", "agentflow", "master", "--nats", server.url)
    async with process(*master), process(*worker(server.url, "default", 500)):
        await ear.until(lambda: len(ear.ends) > 0)
        await ear.until(lambda: len(ear.ends) >= queued // 2, 600)
    by_second: dict[int, int] = {}
    for at in ear.ends:
        by_second[int(at - began)] = by_second.get(int(at - began), 0) + 1
    usual = statistics.median(by_second.values())  # the best second is luck
    full = min(second for second, count in by_second.items() if count >= FULL * usual)
    return {
        "queued": queued,
        "server_ready_s": round(ready, 2),
        "first_completion_s": round(ear.ends[0] - began, 2),
        "full_speed_s": full + 1,
        "tasks_per_s": round(usual),
    }


async def main(kills: int = 30, queued: int = 100_000, out: Path = RESULTS) -> int:
    """Run, print, write JSON; returns the exit code."""
    facts = machine.noted()
    result: dict[str, Any] = {"machine": facts, "lease_s": limits.LEASE}
    with tempfile.TemporaryDirectory() as folder:
        async with (
            LocalServer(folder) as server,
            await Connection.open(Connect(urls=(server.url,)), "recovery") as connection,
        ):
            ear = Ear(connection)
            await ear.listen()
            result["worker"] = spread(await workers(server.url, ear, kills))
            print("worker", result["worker"], flush=True)
            result["master"] = spread(await masters(server.url, ear, kills))
            print("master", result["master"], flush=True)
            result["broker"] = spread(await brokers(server, ear, kills))
            print("broker", result["broker"], flush=True)
            result["stack"] = await stack_restart(server, ear, queued)
            print("stack", result["stack"], flush=True)
    bound = limits.LEASE + limits.ASK_FOR + 1.0
    result["worker"]["aim_s"] = bound
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {out}")
    return 0 if result["worker"]["p99_s"] <= bound else 1
