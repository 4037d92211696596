"""The terminal: Textual round the dashboard of the model.

There is one canvas, one clock and one loop. The feed folds its items into the store in this loop,
the clock draws what changed, keys and clicks go to the dashboard, and what the dashboard cannot do
itself comes back as effects, which are carried out here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import ClassVar, Protocol

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from agentflow.rules import feed
from tui.frame import Clock, Pace
from tui.model.dashboard import Dashboard
from tui.model.effects import Effect, Quit
from tui.theme import Theme, chromes
from tui.widgets.canvas import Canvas

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Where the items come from: the live bus, or a recording."""

    async def run(self, apply: Callable[[feed.Item], None]) -> None:
        """Tell everything to `apply`, until cancelled."""

    def now(self) -> float:
        """The time of what is told, in seconds since 1970."""


class Main(Screen[None]):
    """The only screen that is not a dialog."""

    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, canvas: Canvas) -> None:
        super().__init__()
        self.canvas = canvas

    def compose(self) -> ComposeResult:
        """The canvas, and nothing else."""
        yield self.canvas


class DashboardApp(App[int], inherit_bindings=False):
    """The dashboard in a terminal."""

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, dash: Dashboard, source: Source, *, theme: Theme, pace: Pace) -> None:
        super().__init__(ansi_color=theme.palette is None or theme.name == "ansi")
        self.dash = dash
        self.source = source
        self.look = theme
        for chrome in chromes():
            self.register_theme(chrome)
        self.theme = theme.chrome
        self.canvas = Canvas(theme, press=self.press, do=self.do)
        self.clock = Clock(pace, dirty=self._dirty, draw=self._draw)
        self._seen: tuple[object, ...] = ()
        self._touched = True
        self._tasks: list[asyncio.Task[None]] = []

    def get_default_screen(self) -> Screen[None]:
        """The screen with the canvas."""
        return Main(self.canvas)

    def on_mount(self) -> None:
        """Begin to listen and to tick."""
        self.canvas.focus()
        self._tasks = [
            asyncio.create_task(self.source.run(self.dash.store.apply), name="feed"),
            asyncio.create_task(self.clock.run(), name="frames"),
        ]

    # Frames.

    def _dirty(self) -> bool:
        seen = (self.dash.store.revision, int(self.source.now()), self.canvas.size)
        if seen != self._seen or self._touched:
            self._seen, self._touched = seen, False
            return True
        return False

    def _draw(self) -> None:
        width, height = self.canvas.size
        if not width or not height:
            return
        link = self.dash.store.link
        lines = self.dash.frame(width, height, self.source.now())
        self.canvas.paint(lines, faded=link is not None and not link.up)

    # Keys and clicks.

    def press(self, key: str) -> None:
        """A key that no dialog took."""
        self._carry_out(self.dash.press(key, self.source.now()))

    def do(self, command: str, argument: str) -> None:
        """A command: of a click, the palette, or a dialog's answer."""
        self._carry_out(self.dash.do(command, argument, self.source.now()))

    def _carry_out(self, effects: list[Effect]) -> None:
        self._touched = True
        self.clock.hurry()
        for effect in effects:
            if isinstance(effect, Quit):
                self.exit(0)
