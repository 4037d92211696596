"""The terminal as dialogs and effects see it: a dashboard, its feed, and a way to say things.

app.py is the one there is. It stands apart, so that what the app uses need not import the app.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from textual.app import App

from agentflow.dashboard.feed.source import Source
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.errors import AgentFlowError
from agentflow.views.display import one_line
from agentflow_tui.theme import Theme

_log = logging.getLogger(__name__)


class Host(App[int], inherit_bindings=False):
    """An app round a dashboard."""

    def __init__(self, dash: Dashboard, source: Source, theme: Theme) -> None:
        # With NO_COLOR Textual would make greys of what it draws itself; so it makes nothing.
        super().__init__(ansi_color=theme.chrome == "ansi-dark")
        self.dash = dash
        self.source = source
        self.look = theme

    def press(self, key: str) -> None:
        """A key that no dialog took."""
        raise NotImplementedError

    def do(self, command: str, argument: str) -> None:
        """A command: of a click, the palette, or a dialog's answer."""
        raise NotImplementedError

    def touch(self) -> None:
        """Something other than the store has changed: draw soon."""
        raise NotImplementedError

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
