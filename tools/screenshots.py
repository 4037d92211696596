"""Pictures of the dashboard for the README: a simulated stack under load, four views of it as SVG.

    make screenshots

What is seen is real (records, tokens, failures of the simulated API), but for the names of this
machine, which are nobody's business.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from textual.pilot import Pilot

from agentflow.client import Client
from agentflow.config import Connect
from agentflow.dashboard.feed.live import LiveFeed
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.local.demo import Demo
from agentflow.views import feed
from agentflow_tui.app import DashboardApp
from agentflow_tui.frame import FrameRate
from agentflow_tui.theme import THEMES

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
SIZE = (120, 34)
WITHIN = 180.0
FONTS = "'Fira Code', 'DejaVu Sans Mono', Menlo, Consolas, monospace"


class Staged:
    """A live feed from which the names of this machine are taken."""

    def __init__(self, source: LiveFeed) -> None:
        self._source = source

    @property
    def now(self) -> float:
        """The time of the feed."""
        return self._source.now

    @property
    def client(self) -> Client | None:
        """Its client."""
        return self._source.client

    def follow_tokens(self, ids: Iterable[str]) -> None:
        """Hear what is generated for these tasks."""
        self._source.follow_tokens(ids)

    async def run(self, apply: Callable[[feed.Item], None]) -> None:
        """Tell everything, but for names."""
        await self._source.run(lambda item: apply(_staged(item)))


def _staged(item: feed.Item) -> feed.Item:
    if not isinstance(item, feed.Beat):
        return item
    beat = item.beat
    name = "master-1" if beat.role == "master" else beat.name
    return msgspec.structs.replace(
        item, beat=msgspec.structs.replace(beat, host="host-1", name=name, pid=4000)
    )


async def main() -> None:
    """Start a stack, look at it, write the pictures."""
    with Demo() as demo:
        source = Staged(LiveFeed(Connect(urls=(demo.url,))))
        app = DashboardApp(Dashboard(), source, theme=THEMES["dark"], rate=FrameRate(10))
        async with asyncio.timeout(WITHIN), app.run_test(size=SIZE) as pilot:
            totals = lambda: app.dash.store.totals  # noqa: E731 -- the store may be another one
            await until(pilot, lambda: totals().state("succeeded") > 300)
            await until(pilot, lambda: totals().state("failed") > 3 and totals().running)
            await picture(app, pilot, "overview", "1")
            await picture(app, pilot, "tasks", "2", "+")
            await picture(app, pilot, "costs", "5")
            await until(pilot, lambda: longest(app) is not None)
            app.do("open_task", longest(app) or "")
            await until(pilot, lambda: spoken(app) > 600)
            await picture(app, pilot, "task")


def longest(app: DashboardApp) -> str | None:
    """A task that has run for a moment and still does: its text is on its way."""
    store = app.dash.store
    rows = [store.rows[task] for task in store.totals.running]
    rows = [row for row in rows if row.kind == "claude" and row.started is not None]
    return max(rows, key=lambda row: row.started or 0).id if rows else None


def spoken(app: DashboardApp) -> int:
    """Characters of the text on the screen."""
    followed = app.dash.followed()
    texts = app.dash.store.tokens
    if followed and (row := app.dash.store.rows.get(followed[0])) is not None and row.finished:
        # Too short an answer: look at another task.
        app.do("open_task", longest(app) or "")
    return max((len(texts[task].text) for task in followed if task in texts), default=0)


async def until(pilot: Pilot[int], condition: Callable[[], object]) -> None:
    """Wait for it, while the dashboard goes on."""
    while not condition():
        await pilot.pause(0.1)


async def picture(app: DashboardApp, pilot: Pilot[int], name: str, *keys: str) -> None:
    """Press keys, and write what is on the screen then."""
    await pilot.press(*keys)
    await pilot.pause(1.2)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.svg"
    path.write_text(plain(app.export_screenshot(title="agentflow tui")), encoding="utf-8")
    print(path.relative_to(FOLDER.parents[1]))


def plain(svg: str) -> str:
    """A picture that loads nothing from anywhere."""
    svg = re.sub(r"@font-face\s*{[^}]*}", "", svg)
    svg = re.sub(r"font-family: Fira Code, monospace", f"font-family: {FONTS}", svg)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


if __name__ == "__main__":
    asyncio.run(main())
