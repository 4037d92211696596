"""What does the dashboard cost? The real app in a pseudo-terminal of 120x36, over a made-up load.

    first paint   from the start of the process to a whole frame in the terminal
    idle          nothing happens but the clock and four heartbeats every two seconds
    busy          1,000 changes a second to 10,000 tasks
    heavy         5,000 changes a second to 50,000 tasks
    live          the same of a real server, whose stream another process writes

Shares of one core are the process's own CPU time over wall time, without the making of the load:
folding items into the store, drawing frames (the model's lines, and their comparison), and the
rest: Textual (strips, the terminal), the loop, and with a live feed the receiving and decoding.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil

from agentflow.local.server import LocalServer
from bench.instruments import machine, memory
from bench.tui.terminal import COLUMNS, LINES, Terminal

RESULTS: Final = Path(__file__).parent.parent / "results" / "tui.json"
PAINTS: Final = 5

CASES: Final[dict[str, dict[str, Any]]] = {
    "idle": {"tasks": 200, "rate": 0, "hertz": 10, "view": "overview"},
    "busy, 10 Hz": {"tasks": 10_000, "rate": 1000, "hertz": 10, "view": "overview"},
    "busy, 4 Hz": {"tasks": 10_000, "rate": 1000, "hertz": 4, "view": "overview"},
    "busy, tasks, 10 Hz": {"tasks": 10_000, "rate": 1000, "hertz": 10, "view": "tasks"},
    "busy, tasks, 4 Hz": {"tasks": 10_000, "rate": 1000, "hertz": 4, "view": "tasks"},
    "heavy, 10 Hz": {"tasks": 50_000, "rate": 5000, "hertz": 10, "view": "overview"},
    "heavy, tasks, 10 Hz": {"tasks": 50_000, "rate": 5000, "hertz": 10, "view": "tasks"},
}

LIVE: Final[dict[str, dict[str, Any]]] = {
    "live, busy, 10 Hz": {"tasks": 10_000, "rate": 1000, "hertz": 10, "view": "overview"},
    "live, busy, 4 Hz": {"tasks": 10_000, "rate": 1000, "hertz": 4, "view": "overview"},
    "live, heavy, 10 Hz": {"tasks": 50_000, "rate": 5000, "hertz": 10, "view": "overview"},
}


async def first_paint() -> tuple[float, float]:
    """Seconds until the key bar, the last line of a frame, is there: wall and CPU."""
    with tempfile.TemporaryDirectory() as folder:
        report = str(Path(folder) / "report")
        terminal = Terminal("-m", "bench.tui.dashboard", report, "60", "200", "0", "10", "overview")
        reading = asyncio.create_task(terminal.until(b"open"))
        try:
            wall = await reading
            times = psutil.Process(terminal.process.pid).cpu_times()
            return wall, times.user + times.system
        finally:
            await asyncio.to_thread(terminal.end)


async def measure_live(seconds: float, case: dict[str, Any]) -> dict[str, Any]:
    """One case on a real server, which another process writes to."""
    with tempfile.TemporaryDirectory() as folder:
        async with LocalServer(folder) as server:
            apply = (sys.executable, "-m", "agentflow", "streams", "apply", "--nats", server.url)
            await asyncio.to_thread(subprocess.run, apply, check=True, capture_output=True)
            load = (server.url, str(case["tasks"]), str(case["rate"]), str(seconds + 30))
            writer = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.tui.records", *load),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert writer.stdin is not None
            assert writer.stdout is not None
            try:
                async with asyncio.timeout(300):
                    await writer.stdout.readline()
                return await measure(seconds, case, server.url, writer.stdin)
            finally:
                writer.kill()
                await writer.wait()


async def measure(
    seconds: float,
    case: dict[str, Any],
    url: str = "",
    start: asyncio.StreamWriter | None = None,
) -> dict[str, Any]:
    """One case. With a `url` the dashboard follows that; `start` is told when it knows all."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        terminal = Terminal(
            "-m",
            "bench.tui.dashboard",
            str(report),
            str(seconds),
            *(str(case[name]) for name in ("tasks", "rate", "hertz", "view")),
            *([url] if url else []),
        )
        deadline = time.monotonic() + seconds + 120

        async def drain() -> None:
            while await terminal.read():
                pass

        draining = asyncio.create_task(drain())
        weight: dict[str, float | None] = {}
        try:
            while not report.exists() or not report.read_text():
                if draining.done() or time.monotonic() > deadline:
                    raise RuntimeError("the dashboard told no figures")
                weight = memory.memory_of(terminal.process.pid)
                if start is not None and report.with_suffix(".begun").exists():
                    start.write(b"go\n")
                    await start.drain()
                    start = None
                await asyncio.sleep(0.2)
        finally:
            await asyncio.to_thread(terminal.end)
            await draining
        told: dict[str, Any] = json.loads(report.read_text())
    own = told["cpu"] - told["making"]
    return {
        "cpu_percent": round(100 * own, 2),
        "folding_percent": round(100 * told["folding"], 2),
        "frames_percent": round(100 * told["framing"], 2),
        "rest_percent": round(100 * (own - told["folding"] - told["framing"]), 2),
        "frames_per_s": round(told["frames_per_s"], 1),
        "lines_per_s": round(told["lines_per_s"], 1),
        "kbytes_per_s": round(told["bytes_per_s"] / 1000, 1),
        "items_per_s": round(told["items_per_s"]),
        "loop_behind_ms": round(1000 * told["behind_s"]),
        "rss_mb": weight.get("rss_mb"),
    }


async def main(seconds: float = 15.0, only: str = "", out: Path = RESULTS) -> int:
    """Run, print, write JSON; returns the exit code."""
    facts = machine.noted()
    paints = sorted([await first_paint() for _ in range(PAINTS)]) if not only else []
    cases: dict[str, dict[str, Any]] = {}
    for name, case in CASES.items():
        if only in name:
            cases[name] = await measure(seconds, case)
            print(f"{name}: {json.dumps(cases[name])}", flush=True)
    for name, case in LIVE.items():
        if only in name:
            cases[name] = await measure_live(seconds, case)
            print(f"{name}: {json.dumps(cases[name])}", flush=True)
    if only:
        return 0
    result = {
        "machine": facts,
        "load": {"seconds": seconds, "columns": COLUMNS, "lines": LINES, "cases": CASES | LIVE},
        "first_paint_s": {
            "best": round(paints[0][0], 2),
            "median": round(paints[PAINTS // 2][0], 2),
            "cpu": round(min(cpu for _, cpu in paints), 2),
        },
        "cases": cases,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    table(result)
    print(f"written to {out}")
    return 0


def table(result: dict[str, Any]) -> None:
    """The result as a person reads it."""
    from rich.console import Console
    from rich.table import Table

    facts, paint = result["machine"], result["first_paint_s"]
    title = f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}"
    shown = Table(title=f"{title}; first paint {paint['best']} s (CPU {paint['cpu']} s)")
    headings = ("", "CPU %", "folding", "frames", "rest", "frames/s", "kB/s", "RSS MB")
    for heading in headings:
        shown.add_column(heading, justify="left" if not heading else "right")
    keys = ("cpu", "folding", "frames", "rest")
    for name, case in result["cases"].items():
        shown.add_row(
            name,
            *(f"{case[f'{key}_percent']}" for key in keys),
            f"{case['frames_per_s']}",
            f"{case['kbytes_per_s']}",
            f"{case['rss_mb']}",
        )
    Console(width=110).print(shown)
