"""Somebody who sits before the dashboard: presses keys, clicks, looks."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from textual import events
from textual.driver import Driver
from textual.drivers.headless_driver import HeadlessDriver
from textual.pilot import Pilot

from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.views import feed
from agentflow_tui.app import DashboardApp
from agentflow_tui.frame import FrameRate
from agentflow_tui.theme import THEMES
from tests.dashboard.support.source import LifelikeSource

SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


class Paper(HeadlessDriver):
    """A driver that keeps what a terminal would get."""

    @property
    def is_headless(self) -> bool:
        """It takes output."""
        return False

    def write(self, data: str) -> None:
        """Keep it."""
        self.kept = getattr(self, "kept", "") + data


class Seated(DashboardApp):
    """The app with signals left alone, and the chosen driver."""

    def get_driver_class(self) -> type[Driver]:
        """What a terminal would get is kept, where a test wants it."""
        return Paper

    def heed_signals(self) -> None:
        """The signals belong to the tests."""


class Seat:
    """The dashboard, its feed, and the person."""

    def __init__(self, app: Seated, source: LifelikeSource, pilot: Pilot[int]) -> None:
        self.app = app
        self.source = source
        self.life = source.life
        self.pilot = pilot
        self.dash = app.dash

    async def tell(self, *items: feed.Item) -> int:
        """Let the feed tell items, and look; returns how many lines were drawn."""
        for item in items:
            self.app.dash.store.apply(item)
        return await self.look()

    async def look(self) -> int:
        """Wait for a frame; returns how many of its lines differ from the one before."""
        before = self.app.canvas.changed
        self.app.draw()
        await self.pilot.pause()
        return self.app.canvas.changed - before

    async def press(self, *keys: str) -> None:
        """Press keys, and look."""
        await self.pilot.press(*keys)
        await self.look()

    async def type(self, text: str, *keys: str) -> None:
        """Type into what has the keys (at once, as a paste does), then press keys, and look."""
        self.app.post_message(events.Paste(text))
        await self.pilot.pause()
        if keys:
            await self.pilot.press(*keys)
        await self.look()

    async def click(self, x: int, y: int) -> None:
        """Click there, and look."""
        await self.pilot.click(offset=(x, y))
        await self.look()

    async def resize(self, width: int, height: int) -> None:
        """Make the terminal larger or smaller."""
        await self.pilot.resize_terminal(width, height)
        await self.look()

    async def wheel(self, notches: int) -> None:
        """Turn the wheel over the middle."""
        kind = events.MouseScrollDown if notches > 0 else events.MouseScrollUp
        for _ in range(abs(notches)):
            self.app.canvas.post_message(
                kind(self.app.canvas, 5, 5, 0, 0, 0, False, False, False, 5, 5)
            )
        await self.pilot.pause()
        await self.look()

    @property
    def screen(self) -> str:
        """What is on the screen, dialogs included."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips)

    @property
    def dialog(self) -> str:
        """The name of the dialog that is open, "" for none."""
        return type(self.app.screen).__name__ if len(self.app.screen_stack) > 1 else ""

    @property
    def notice(self) -> str:
        """What stands above the key bar."""
        said = self.dash.notice
        return said.text if said is not None else ""

    @property
    def sent(self) -> str:
        """What the terminal got since the last time it was asked."""
        driver = self.app._driver
        assert isinstance(driver, Paper)
        text: str = getattr(driver, "kept", "")
        driver.kept = ""
        return text


@asynccontextmanager
async def open_seat(
    *,
    size: tuple[int, int] = (120, 36),
    view: str = "overview",
    theme: str = "dark",
    readonly: bool = False,
    ascii: bool = False,
    tasks: int = 200,
    workers: int = 12,
) -> AsyncIterator[Seat]:
    """Open it; time stands still, and nothing happens but what the test tells."""
    source = LifelikeSource(tasks=tasks, workers=workers)
    dash = Dashboard(readonly=readonly, ascii=ascii, view=view)
    app = Seated(dash, source, theme=THEMES[theme], rate=FrameRate(10))
    async with app.run_test(size=size, headless=False) as pilot:
        seat = Seat(app, source, pilot)
        await pilot.pause()
        await seat.look()
        yield seat
