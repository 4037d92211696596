"""The dashboard under load, in a terminal of its own: the process that `run.py` measures.

    python -m bench.tui.dashboard REPORT SECONDS TASKS RATE HERTZ VIEW [URL]

It runs the real app, over the lifelike feed of the tests or the live feed of a server, for so long
after all tasks are known, and then writes what its parts took, in seconds of the loop's thread: the
making of the load (which no dashboard has), the folding of items, the drawing of frames.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from agentflow.client import Client
from agentflow.config import Connect
from agentflow.dashboard.feed.live import LiveFeed
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.views import feed
from agentflow_tui.app import DashboardApp
from agentflow_tui.frame import FrameRate
from agentflow_tui.theme import choose
from tests.dashboard.support.source import LifelikeSource

STEP = 0.05
CALM = 0.5


class Load(LifelikeSource):
    """The lifelike feed, with its own cost and that of folding measured apart."""

    def __init__(self, *, tasks: int, workers: int, rate: float, seconds: float) -> None:
        super().__init__(tasks=tasks, workers=workers, rate=rate)
        self.seconds = seconds
        self.making = 0.0
        self.folding = 0.0
        self.items = 0
        self.behind = 0.0
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    async def run(self, apply: Callable[[feed.Item], None]) -> None:
        """Begin, then so many items a second, as evenly as the loop allows."""
        for item in self.life.begin(rows_at_once=100):
            apply(item)
            await asyncio.sleep(0)
        self.begun.set()
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        last = loop.time()
        clock = time.thread_time
        while (now := loop.time()) < end:
            began = clock()
            items = list(self.life.pass_time(now - last, self.rate or 0.0))
            made = clock()
            for item in items:
                apply(item)
            self.folding += clock() - made
            self.making += made - began
            self.items += sum(len(item.rows) for item in items if isinstance(item, feed.Rows))
            self.behind = max(self.behind, now - last - (STEP if self.rate else CALM))
            last = now
            # A live feed wakes nobody where there is nothing to tell.
            await asyncio.sleep(STEP if self.rate else CALM)
        self.ended.set()
        await asyncio.Event().wait()


class Live:
    """The feed of a real server, with the cost of folding measured apart."""

    making = 0.0

    def __init__(self, url: str, *, tasks: int, seconds: float) -> None:
        self._feed = LiveFeed(Connect(urls=(url,)))
        self._tasks = tasks
        self.seconds = seconds
        self.folding = 0.0
        self.items = 0
        self.behind = 0.0
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    @property
    def now(self) -> float:
        """The server's time."""
        return self._feed.now

    @property
    def client(self) -> Client | None:
        """The client."""
        return self._feed.client

    def follow_tokens(self, ids: Iterable[str]) -> None:
        """Hear what is generated for these tasks."""
        self._feed.follow_tokens(ids)

    async def run(self, apply: Callable[[feed.Item], None]) -> None:
        """Begin when all is read; then as long as is wanted."""
        known = 0

        def take(item: feed.Item) -> None:
            nonlocal known
            began = time.thread_time()
            apply(item)
            self.folding += time.thread_time() - began
            if isinstance(item, feed.Rows):
                known += len(item.rows)
                if self.begun.is_set():
                    self.items += len(item.rows)
            if known >= self._tasks and not self.begun.is_set():
                self.begun.set()
                asyncio.get_running_loop().call_later(self.seconds, self.ended.set)

        await self._feed.run(take)


class Measured(DashboardApp):
    """The app, with its frames measured."""

    framing = 0.0

    def draw(self) -> None:
        began = time.thread_time()
        super().draw()
        self.framing += time.thread_time() - began


async def main(
    report: Path, seconds: float, tasks: int, rate: float, hertz: float, view: str, url: str = ""
) -> None:
    """Run, and tell."""
    workers = 200 if tasks > 1000 else 4
    source: Load | Live = Load(tasks=tasks, workers=workers, rate=rate, seconds=seconds)
    if url:
        source = Live(url, tasks=tasks, seconds=seconds)
    app = Measured(Dashboard(view=view), source, theme=choose("dark", {}), rate=FrameRate(hertz))

    async def measure() -> None:
        await source.begun.wait()
        report.with_suffix(".begun").touch()
        # What the beginning leaves behind is no part of the load.
        await asyncio.sleep(1.0)
        driver = app._driver
        framing, folding, making = app.framing, source.folding, source.making
        process, frames, drawn = time.process_time(), app.clock.rate.frames, app.canvas.changed
        written, began = getattr(driver, "written", 0), time.monotonic()
        await source.ended.wait()
        wall = time.monotonic() - began
        report.write_text(
            json.dumps(
                {
                    "seconds": round(wall, 2),
                    "cpu": (time.process_time() - process) / wall,
                    "making": (source.making - making) / wall,
                    "folding": (source.folding - folding) / wall,
                    "framing": (app.framing - framing) / wall,
                    "frames_per_s": (app.clock.rate.frames - frames) / wall,
                    "lines_per_s": (app.canvas.changed - drawn) / wall,
                    "bytes_per_s": (getattr(driver, "written", 0) - written) / wall,
                    "items_per_s": source.items / seconds,
                    "behind_s": round(source.behind, 3),
                }
            )
        )

    measuring = asyncio.create_task(measure())
    await app.run_async()
    measuring.cancel()


if __name__ == "__main__":
    name, seconds, tasks, rate, hertz, view = sys.argv[1:7]
    asyncio.run(
        main(Path(name), float(seconds), int(tasks), float(rate), float(hertz), view, *sys.argv[7:])
    )
