"""How long does a master take to know 100,000 tasks, and what does it weigh then?

The streams hold 100,000 ended tasks (two records each, labels, a text of 900 characters) and 1,000
queued ones. A master starts on them as its own process; until its index is complete it is asked for
one task after the other, because it must answer meanwhile. The aim: 15 s, 60 MB.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.errors import BusError
from agentflow.local.server import LocalServer
from agentflow.protocol import api, headers, record, subjects
from agentflow.protocol.api import ListRequest, StatsView
from agentflow.protocol.record import EMPTY, Last, State, Usage
from agentflow.rules import records
from agentflow.rules.records import Origin, Spent
from bench.instruments import machine, memory
from bench.instruments.child import process

TASKS: Final = 100_000
QUEUED: Final = 1_000
WINDOW: Final = 1_000
TEXT: Final = "A queue keeps the order of the day. " * 25
ASK_EVERY: Final = 0.02
RESULTS: Final = Path(__file__).parent / "results" / "index.json"


async def fill(js: JetStream, tasks: int, queued: int = QUEUED) -> None:
    """Tasks that ran and ended, as a worker writes them, and some that wait."""
    gate = asyncio.Semaphore(WINDOW)

    async def ended(number: int) -> None:
        async with gate:
            now = datetime.now(UTC)
            origin = Origin(
                id=task_id(number),
                queue=f"queue-{number % 5}",
                priority="normal",
                message=f"{number}-{time.time_ns()}",
                submitted=now,
                kind="claude",
                labels={"job": "bench", "line": str(number)},
                model="claude-sonnet-4-5",
            )
            actor = f"host-4711-{number % 8:06x}"
            claim = records.claimed(origin, EMPTY, actor=actor, now=now)
            last = Last(await store(claim), claim)
            final = records.follow(
                origin,
                last,
                State.FAILED if number % 50 == 0 else State.SUCCEEDED,
                actor=actor,
                now=now,
                ended=now,
                spent=Spent(usage=Usage(120, 240), cost_micro=4_200, run_s=1.5),
                text=TEXT,
                stop_reason="end_turn",
            )
            await store(final)

    async def store(entry: record.Record) -> int:
        block = headers.fence(entry.id, entry.follows)
        return (await js.store(entry.subject, record.encode(entry), block, 30.0)).seq

    for first in range(0, tasks, WINDOW):
        await asyncio.gather(*(ended(number) for number in range(first, first + WINDOW)))
    for number in range(queued):
        await js.store(subjects.task("waiting"), b"%d" % number)


def task_id(number: int) -> str:
    """Ids as the client makes them: 20 characters, and not in order of the sequences."""
    return f"{number * 7_919 % 1_000_003:09d}k3v9xq0w5zt"


async def stats(connection: Connection) -> StatsView | None:
    """The master's own word; None while none answers."""
    try:
        message = await connection.request(subjects.api(api.STATS), b"{}", timeout=2.0)
    except BusError:
        return None
    return msgspec.json.decode(message.data, type=StatsView)


async def timed(connection: Connection, verb: str, request: Any) -> float:
    """Milliseconds of one request."""
    began = time.perf_counter()
    await connection.request(subjects.api(verb), msgspec.json.encode(request), timeout=30.0)
    return (time.perf_counter() - began) * 1000


async def rebuild(connection: Connection, url: str) -> dict[str, Any]:
    """Start a master, wait until it knows everything, ask it, weigh it."""
    began = time.perf_counter()
    async with process("-m", "agentflow", "master", "--nats", url) as master:
        while True:
            state = await stats(connection)
            if state is not None:
                break
            await asyncio.sleep(ASK_EVERY)
        answers = time.perf_counter() - began
        waits: list[float] = []
        number = 0
        while not state.ready:
            number = (number + 7_919) % TASKS
            waits.append(await timed(connection, api.GET, api.GetRequest(id=task_id(number))))
            await asyncio.sleep(ASK_EVERY)
            state = await stats(connection) or state
        seconds = time.perf_counter() - began
        figures: dict[str, Any] = {
            "answers_after_s": round(answers, 2),
            "knows_all_after_s": round(seconds, 2),
            "tasks_known": state.tasks_known,
            "cpu_s": cpu(master.pid),
            "get_while_rebuilding_ms": {
                "count": len(waits),
                "p50": round(statistics.median(waits), 1) if waits else None,
                "max": round(max(waits), 1) if waits else None,
            },
            "memory": memory.memory_of(master.pid),
        }
        for name, verb, request in (
            ("get", api.GET, api.GetRequest(id=task_id(TASKS // 2))),
            ("get_prefix", api.GET, api.GetRequest(id=task_id(TASKS // 2)[:8])),
            ("list_50", api.LIST, ListRequest()),
            ("list_failed", api.LIST, ListRequest(state="failed")),
            ("list_label", api.LIST, ListRequest(label={"line": "77777"})),
            ("list_1000", api.LIST, ListRequest(limit=1000)),
            ("stats", api.STATS, {}),
        ):
            times = [await timed(connection, verb, request) for _ in range(5)]
            figures[f"{name}_ms"] = round(statistics.median(times), 1)
        figures["memory_after_requests"] = memory.memory_of(master.pid)
    assert state.tasks_known == TASKS + QUEUED, f"{state.tasks_known:,} tasks are known"
    return figures


def cpu(pid: int) -> float | None:
    """Seconds of processor time of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / 100


async def main(rounds: int = 3, out: Path = RESULTS) -> int:
    """Run, print, write JSON; returns the exit code."""
    facts = machine.noted()
    rounds_done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        async with (
            LocalServer(folder) as server,
            await Connection.open(Connect(urls=(server.url,))) as connection,
        ):
            js = JetStream(connection)
            await provision.ensure_streams(js)
            began = time.perf_counter()
            await fill(js, TASKS)
            print(f"{TASKS:,} tasks were written in {time.perf_counter() - began:.1f} s")
            for number in range(rounds):
                rounds_done.append(await rebuild(connection, server.url))
                print(f"round {number + 1}: {json.dumps(rounds_done[-1])}", flush=True)
    seconds = statistics.median(figures["knows_all_after_s"] for figures in rounds_done)
    rss = max(figures["memory"]["rss_mb"] or 0.0 for figures in rounds_done)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        json.dumps(
            {"machine": facts, "tasks": TASKS, "queued": QUEUED, "rounds": rounds_done}, indent=2
        )
        + "\n"
    )
    print(f"{TASKS + QUEUED:,} tasks known after {seconds:.1f} s (median), {rss:.0f} MB RSS (most)")
    print(f"written to {out}")
    return 0
