"""`python -m bench batches`: tasks through the batch lane, with what each costs the bus.

One worker parks and gathers, the simulator stands for the API: so these are figures of the lane,
not of anybody's batches. Operations and bytes are the server's own count of messages, from just
before the first submission to the last result.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.protocol import subjects
from bench.instruments import machine

RESULTS = Path(__file__).parent / "results" / "batches.json"
PACE: Final = '{"gather": 2, "look": 0.2, "poll": 0.5, "settle": 60, "enough": 100000, "flush": 2}'
TEXT: Final = "x" * 1_000


def _varz(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/varz", timeout=5) as answer:
        told: dict[str, Any] = json.loads(answer.read())
        return told


async def main(count: int, out: Path = RESULTS) -> int:
    """Measure, print, write JSON; returns the exit code."""
    from tests.support.nats_server import NatsServer

    facts = machine.describe()
    with tempfile.TemporaryDirectory() as folder:
        server = NatsServer(Path(folder) / "nats").start()
        try:
            figures = await _measure(server.url, server.monitoring_port, count, Path(folder))
        finally:
            server.kill()
    out.write_text(json.dumps({"machine": facts, "tasks": count, "figures": figures}, indent=1))
    print(json.dumps(figures, indent=1))
    return 0


async def _measure(url: str, port: int, count: int, folder: Path) -> dict[str, Any]:
    connection = await Connection.open(Connect(urls=(url,)), "bench")
    js = JetStream(connection)
    await provision.ensure_streams(js)
    simulator = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agentflow.simulator"), stdout=asyncio.subprocess.PIPE
    )
    assert simulator.stdout is not None
    claude = (await simulator.stdout.readline()).decode().split()[-1]
    await asyncio.to_thread(_mode, claude, {"batches": {"processing": 3}, "text": "answered " * 20})
    ended = asyncio.Event()
    done = 0

    def result(message: Any) -> None:
        nonlocal done
        done += 1
        if done == count:
            ended.set()

    await connection.subscribe(subjects.LIVE_RESULTS, result)
    before = await asyncio.to_thread(_varz, port)
    began = time.monotonic()
    for start in range(0, count, 500):
        part = range(start, min(start + 500, count))
        await asyncio.gather(*(_submit(js, number) for number in part))
    submitted = time.monotonic()
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agentflow", "worker", "--kinds", "claude", "-c", "100"),
        *("--nats", url),
        env=os.environ
        | {"ANTHROPIC_BASE_URL": claude, "ANTHROPIC_API_KEY": "simulated"}
        | {"AGENTFLOW_BATCHES": PACE, "HOME": str(folder)},
    )
    marks: dict[str, float] = {}
    most = 0
    while not ended.is_set():
        most = max(most, _memory(worker.pid))
        state = await _state(js)
        if state["parked"] and "started" not in marks:
            marks["started"] = time.monotonic()
        if state["parked"] >= count and "parked" not in marks:
            marks["parked"] = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), 0.1)
    finished = time.monotonic()
    after = await asyncio.to_thread(_varz, port)
    told = await asyncio.to_thread(_ledger, claude)
    for process in (worker, simulator):
        process.terminate()
        await process.wait()
    await connection.close()
    return {
        "submitted_s": round(submitted - began, 2),
        "parked_s": round(marks.get("parked", finished) - marks.get("started", submitted), 2),
        "from_parked_to_settled_s": round(finished - marks.get("parked", submitted), 2),
        "messages_in_a_task": round((after["in_msgs"] - before["in_msgs"]) / count, 2),
        "messages_out_a_task": round((after["out_msgs"] - before["out_msgs"]) / count, 2),
        "bytes_in_a_task": round((after["in_bytes"] - before["in_bytes"]) / count),
        "bytes_out_a_task": round((after["out_bytes"] - before["out_bytes"]) / count),
        "worker_mb_most": round(most / 1e6),
        "batches": len(told["batches"]),
        "body_mb": round(sum(batch["bytes"] for batch in told["batches"]) / 1e6, 1),
        "paid": sum(told["paid"].values()),
    }


async def _submit(js: JetStream, number: int) -> None:
    body = json.dumps({"id": f"t{number}", "prompt": f"{number} {TEXT}", "batch": True})
    await js.store("agentflow.tasks.default", body.encode(), timeout=30)


async def _state(js: JetStream) -> dict[str, int]:
    info = await js.stream_info(subjects.BATCH)
    return {"parked": info["state"]["last_seq"]}


def _mode(claude: str, mode: dict[str, Any]) -> None:
    data = json.dumps(mode).encode()
    request = urllib.request.Request(f"{claude}/_fake/mode", data=data, method="POST")
    urllib.request.urlopen(request, timeout=10).close()


def _ledger(claude: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{claude}/_fake/batches", timeout=60) as answer:
        told: dict[str, Any] = json.loads(answer.read())
        return told


def _memory(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
