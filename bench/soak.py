"""Half an hour at 300 tasks a second: does anything grow, or become slower?

Server, master and two workers are their own processes. Every ten seconds their memory is read, the
streams and consumers are counted, and the latency of the tasks that ended meanwhile. Records are
kept for two minutes here, not for seven days, so that the streams reach their final size.

Judged is the last third against the second: memory of each process by its median, latency by its
p50, messages and consumers by their counts. The first third is for caches to fill, and for the
records to be as many as they get; so a run takes ten minutes at least.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from agentflow.audit import verify
from agentflow.audit.trail import Kind
from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.config import Connect
from agentflow.local.server import LocalServer
from agentflow.protocol import record, streams, subjects
from bench.instruments import machine, memory
from bench.instruments.child import process

EVERY = 10.0
KEPT = 120.0
GROWTH = 0.10
"""More than this between two thirds is growth."""
RESULTS = Path(__file__).parent / "results" / "soak.json"


class Latency:
    """Milliseconds from submission to end, of what ended since they were last taken."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.ended = 0

    def heard(self, message: Message) -> None:
        """A result's live copy."""
        timings = record.decode(message.data).timings
        self.ended += 1
        if timings.ended and timings.submitted:
            self.times.append((timings.ended - timings.submitted).total_seconds() * 1000)

    def take(self) -> dict[str, float]:
        """p50 and p99, and begin anew."""
        times, self.times = self.times, []
        if len(times) < 2:
            return {}
        cuts = statistics.quantiles(times, n=100)
        return {"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2)}


async def submit(js: JetStream, rate: float, seconds: float) -> int:
    """`rate` echo tasks a second; how many."""
    gate = asyncio.Semaphore(1_000)
    began = time.monotonic()
    count = 0

    async def one(number: int) -> None:
        async with gate:
            body = {"id": f"s{number}", "kind": "echo", "prompt": "A short prompt."}
            await js.store("agentflow.tasks.default", msgspec.json.encode(body), timeout=30.0)

    async with asyncio.TaskGroup() as group:
        while (passed := time.monotonic() - began) < seconds:
            for _ in range(int(passed * rate) - count):
                group.create_task(one(count))
                count += 1
            await asyncio.sleep(0.01)
    return count


async def sample(js: JetStream, pids: dict[str, int], latency: Latency) -> dict[str, Any]:
    """Everything at this moment."""
    counts = {
        stream["name"]: (await js.stream_info(stream["name"]))["state"]["messages"]
        for stream in streams.streams()
    }
    return {
        "memory_mb": {name: memory.memory_of(pid)["rss_mb"] for name, pid in pids.items()},
        "messages": counts,
        "consumers": len(await js.consumers(subjects.TASKS)),
        "ended": latency.ended,
        **latency.take(),
    }


async def drained(js: JetStream) -> None:
    """Return when no task message is left."""
    while True:
        if not (await js.stream_info(subjects.TASKS))["state"]["messages"]:
            return
        await asyncio.sleep(0.1)


def growth(samples: list[dict[str, Any]]) -> dict[str, float]:
    """By name: how much the median of the last third is above that of the second."""
    third = len(samples) // 3
    second, last = samples[third : 2 * third], samples[2 * third :]

    def change(read: Any) -> float:
        before = statistics.median(read(one) for one in second)
        after = statistics.median(read(one) for one in last)
        return round(after / before - 1, 4) if before else float(after > 0)

    grown = {
        f"memory of {name}": change(lambda one, name=name: one["memory_mb"][name])
        for name in samples[0]["memory_mb"]
    }
    grown["messages of RECORDS"] = change(lambda one: one["messages"][subjects.RECORDS])
    grown["consumers"] = change(lambda one: one["consumers"])
    grown["latency p50"] = change(lambda one: one["p50_ms"])
    return grown


async def main(minutes: float = 30.0, rate: float = 300.0, out: Path = RESULTS) -> int:
    """Run, print, write JSON; returns the exit code."""
    facts = machine.describe()
    samples: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        async with LocalServer(folder) as server:
            common = ("-m", "agentflow")
            work = ("worker", "--nats", server.url, "--kinds", "echo", "-c", "100")
            async with (
                process(*common, "master", "--nats", server.url) as master,
                process(*common, *work) as first,
                process(*common, *work) as second,
                await Connection.open(Connect(urls=(server.url,)), "soak") as connection,
            ):
                js = JetStream(connection)
                await provision.ensure_streams(js)
                config = (await js.stream_info(subjects.RECORDS))["config"]
                short = {**config, "max_age": int(KEPT * 1e9)}
                await js.api(f"STREAM.UPDATE.{subjects.RECORDS}", short)
                latency = Latency()
                await connection.subscribe(subjects.LIVE_RESULTS, latency.heard)
                pids = {
                    "server": server.pid or 0,
                    "master": master.pid,
                    "worker 1": first.pid,
                    "worker 2": second.pid,
                }
                submitting = asyncio.create_task(submit(js, rate, minutes * 60))
                while not submitting.done():
                    await asyncio.wait({submitting}, timeout=EVERY)
                    samples.append(await sample(js, pids, latency))
                    print(json.dumps(samples[-1]), flush=True)
                submitted = await submitting
                await drained(js)
                report = await verify(js)
    grown = growth(samples[:-1])
    wrong = [name for name, share in grown.items() if share > GROWTH]
    # What is older than two minutes has no record here.
    lost = [finding.text for finding in report.findings if finding.kind != Kind.UNPROVED]
    result = {
        "machine": facts,
        "minutes": minutes,
        "rate": rate,
        "submitted": submitted,
        "ended": latency.ended,
        "growth": grown,
        "samples": samples,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    for name, share in grown.items():
        print(f"{name:24} {share:+.1%}")
    print(f"{submitted:,} submitted, {latency.ended:,} ended; written to {out}")
    print("\n".join([*(f"{name} grows" for name in wrong), *lost]) or "nothing grows")
    return 1 if wrong or lost else 0
