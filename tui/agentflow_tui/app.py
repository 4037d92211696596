"""The terminal: Textual round a dashboard that knows no terminal.

There is one canvas, one clock and one loop. The feed folds its items into the store in this loop,
the clock draws what changed, keys and clicks go to the dashboard, and what the dashboard cannot do
itself comes back as effects, which outside.py carries out.

No error of ours ends the picture: what fails in a frame, a key or the feed is a sentence above the
key bar and a traceback in the log, and the dashboard goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, ClassVar, Final

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.screen import Screen

from agentflow.dashboard.feed.source import Source
from agentflow.dashboard.reader.effects import Effect
from agentflow.dashboard.render.amounts import size
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.dashboard.store.store import Store
from agentflow.errors import AgentFlowError, UsageError
from agentflow.telemetry import logs
from agentflow.views import feed
from agentflow.views.display import one_line
from agentflow_tui import files, habits
from agentflow_tui.driver import Terminal
from agentflow_tui.frame import Clock, FrameRate, fastest
from agentflow_tui.opening import opened
from agentflow_tui.outside import Outside
from agentflow_tui.screens.dialog import Dialog
from agentflow_tui.settings import Settings
from agentflow_tui.theme import Theme, choose, chromes
from agentflow_tui.widgets.canvas import Canvas

if TYPE_CHECKING:
    from textual.command import Provider

_log = logging.getLogger(__name__)

TWICE: Final = 1.0
"""Seconds within which ctrl+c must come again to end the dashboard."""
AGAIN: Final = 5.0
"""Seconds until a feed that failed is tried again."""
ENDS: Final = (signal.SIGTERM, signal.SIGHUP)


def _palette() -> type[Provider]:
    """Imported when it is opened."""
    from agentflow_tui.screens.palette import KeyCommands

    return KeyCommands


class Main(Screen[None], inherit_bindings=False):
    """The only screen that is not a dialog."""

    def __init__(self, canvas: Canvas) -> None:
        super().__init__()
        self.canvas = canvas

    def compose(self) -> ComposeResult:
        """The canvas, and nothing else."""
        yield self.canvas


class DashboardApp(App[int], inherit_bindings=False):
    """The dashboard in a terminal."""

    TITLE = "AgentFlow"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("ctrl+p", "command_palette", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False, priority=True),
    ]
    COMMANDS = {_palette}  # noqa: RUF012 -- Textual's own declaration

    def __init__(self, dash: Dashboard, source: Source, *, theme: Theme, rate: FrameRate) -> None:
        # With NO_COLOR Textual would make greys of what it draws itself; so it makes nothing.
        super().__init__(ansi_color=theme.chrome == "ansi-dark")
        self.dash = dash
        self.source = source
        self.look = theme
        for chrome in chromes():
            self.register_theme(chrome)
        self.theme = theme.chrome
        self.canvas = Canvas(theme, press=self.press, do=self.do)
        self.clock = Clock(rate, dirty=self.is_dirty, draw=self.draw)
        self.outside = Outside(self)
        self._seen: tuple[object, ...] = ()
        self._touched = True
        self._followed: list[str] = []
        self.problem = ""
        """What the person has to put right, said when the terminal is their own again."""
        self._interrupted = -TWICE
        self._tasks: list[asyncio.Task[None]] = []

    def get_driver_class(self) -> type[Driver]:
        """The driver that survives its terminal; Textual's own where there is another system."""
        driver = super().get_driver_class()
        return Terminal if issubclass(Terminal, driver) else driver

    def get_default_screen(self) -> Screen[None]:
        """The screen with the canvas."""
        return Main(self.canvas)

    def on_mount(self) -> None:
        """Begin to listen and to tick."""
        self.canvas.focus()
        self.heed_signals()
        if self._driver is not None:
            self._driver.write(f"\x1b]2;{self.title}\x07")
        self._tasks = [
            asyncio.create_task(self._feed(), name="feed"),
            asyncio.create_task(self.clock.run(), name="frames"),
        ]

    def heed_signals(self) -> None:
        """A signal that ends the process ends the picture first."""
        for number in ENDS:
            asyncio.get_running_loop().add_signal_handler(number, self.exit, 128 + number)

    async def on_unmount(self) -> None:
        """End the feed before the loop ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.outside.close()

    # The feed.

    async def _feed(self) -> None:
        while True:
            try:
                await self.source.run(self._take)
            except UsageError as error:
                self.problem = str(error)
                self.exit(2)
                return
            except Exception as error:
                self.report("the feed failed", error)
            await asyncio.sleep(AGAIN)

    def _take(self, item: feed.Item) -> None:
        self.dash.store.apply(item)
        self.clock.stir()

    # Frames.

    def is_dirty(self) -> bool:
        """Whether anything has changed since the last frame; asked once a tick."""
        seen = (self.dash.store.revision, int(self.source.now), self.canvas.size)
        if seen == self._seen and not self._touched:
            return False
        self._seen, self._touched = seen, False
        return True

    def draw(self) -> None:
        """One frame."""
        width, height = self.canvas.size
        if not width or not height:
            return
        with self.guarded("the picture could not be drawn"):
            now = self.source.now
            self.outside.carry_out(self.dash.wanted(now))
            followed = self.dash.followed()
            if followed != self._followed:
                self._followed = followed
                self.source.follow_tokens(followed)
            if self.dash.metered:
                self.dash.meter = self._meter()
            link = self.dash.store.link
            faded = link is not None and not link.up and self.dash.travelled is None
            self.canvas.paint(self.dash.frame(width, height, now), faded=faded)

    def _meter(self) -> str:
        rate, driver = self.clock.rate, self._driver
        sent = driver.written if isinstance(driver, Terminal) else 0
        return (
            f"{rate.frames:,} frames, {1000 * rate.cost:.1f} ms each, "
            f"{self.canvas.changed:,} lines drawn, {size(sent)} to the terminal, "
            f"{self.dash.store.items:,} changes"
        )

    # Keys and clicks.

    def press(self, key: str) -> None:
        """A key that no dialog took; what came behind the one that opened it is the dialog's."""
        if isinstance(self.screen, Dialog):
            self.screen.late(key)
            return
        with self.guarded(f"{key} failed"):
            self._carry_out(self.dash.press(key, self.source.now))

    def do(self, command: str, argument: str) -> None:
        """A command: of a click, the palette, or a dialog's answer."""
        with self.guarded(f"{command} failed"):
            self._carry_out(self.dash.do(command, argument, self.source.now))

    def touch(self) -> None:
        """Something other than the store has changed: draw soon."""
        self._touched = True
        self.clock.hurry()

    def tell(self, text: str, token: str = "text") -> None:
        """A sentence above the key bar."""
        self.dash.tell(text, self.source.now, token)
        self.touch()

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """No error of ours ends the picture: it is told instead."""
        try:
            yield
        except Exception as error:
            self.report(what, error)

    def report(self, what: str, error: Exception) -> None:
        """An error that is not the person's."""
        if not isinstance(error, AgentFlowError):
            _log.error("%s", what, exc_info=error)
        text = one_line(str(error) or type(error).__name__, 200)
        self.tell(f"{what}: {text}", "crit")

    def suspended(self, work: Callable[[], bool]) -> bool:
        """Leave the terminal to another program meanwhile; False where it failed."""
        with self.suspend():
            return work()

    def _carry_out(self, effects: list[Effect]) -> None:
        self.touch()
        self.outside.carry_out(effects)

    def action_interrupt(self) -> None:
        """ctrl+c: never by accident."""
        if isinstance(self.screen, Dialog):
            self.screen.action_leave()
            return
        now = time.monotonic()
        if now - self._interrupted < TWICE:
            self.exit(128 + signal.SIGINT)
        self._interrupted = now
        self.tell("q quits; ctrl+c once more ends it at once")

    def action_command_palette(self) -> None:
        """ctrl+p: over the dashboard, not over a dialog."""
        if self.screen is self.screen_stack[0]:
            super().action_command_palette()

    def on_app_blur(self, event: events.AppBlur) -> None:
        """Nobody looks."""
        self.clock.rate.watched = False

    def on_app_focus(self, event: events.AppFocus) -> None:
        """Somebody looks again."""
        self.clock.rate.watched = True
        self.touch()

    def on_resize(self, event: events.Resize) -> None:
        """Another size: the frame is made for it at once."""
        self.touch()


def _keep_log() -> str:
    """Log into a file, as nothing may write into the picture; a sentence where there can be none.

    Raises UsageError for a file that was asked for.
    """
    asked = os.environ.get(logs.FILE_ENV)
    try:
        logs.set_up(logs.settings(level="WARNING", file=asked or str(files.log())))
    except UsageError as error:
        if asked:
            raise
        logs.set_up(logs.settings(level="WARNING", file=os.devnull))
        return f"no log is kept: {error}"
    return ""


def run(settings: Settings) -> None:
    """Open the dashboard; returns when it was left.

    Raises UsageError for what the person must put right, and SystemExit with 128 and its number
    where a signal ended it.
    """
    for stream in (sys.__stdin__, sys.__stderr__):
        if stream is None or not stream.isatty():
            raise UsageError("this is no terminal; `agentflow tui --once` prints a picture")
    theme = choose(settings.theme, os.environ)
    log_nowhere = _keep_log()
    dash = Dashboard(
        readonly=settings.readonly,
        ascii=settings.ascii,
        view=settings.view,
        zone=UTC if settings.utc else None,
    )
    dash.recording = settings.replay.name if settings.replay is not None else ""
    kept = habits.place()
    broken = habits.set_aside(kept)
    dash.adopt(habits.read(kept))
    if said := broken or log_nowhere:
        dash.tell(said, time.time(), "warn")

    def forget() -> None:
        dash.store = Store()

    with opened(settings, forget) as source:
        app = DashboardApp(dash, source, theme=theme, rate=FrameRate(fastest(os.environ)))
        code = app.run()
    habits.keep(dash.habits(), kept)
    if app.problem:
        raise UsageError(app.problem)
    if code:
        raise SystemExit(code)
