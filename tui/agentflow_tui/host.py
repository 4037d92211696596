"""The terminal as dialogs and effects see it: a dashboard, its feed, and a way to say things.

app.py is the one there is. It is named by what is asked of it, so that what the app uses need not
import the app.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, runtime_checkable

from textual.screen import Screen

from agentflow.dashboard.feed.source import Source
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow_tui.theme import Theme

T = TypeVar("T")


@runtime_checkable
class Host(Protocol):
    """An app round a dashboard."""

    dash: Dashboard
    source: Source
    look: Theme

    def press(self, key: str) -> None:
        """A key that no dialog took."""

    def do(self, command: str, argument: str) -> None:
        """A command: of a click, the palette, or a dialog's answer."""

    def touch(self) -> None:
        """Something other than the store has changed: draw soon."""

    def tell(self, text: str, token: str = "text") -> None:
        """A sentence above the key bar."""

    def guarded(self, what: str) -> AbstractContextManager[None]:
        """No error of ours ends the picture: it is told instead."""

    def report(self, what: str, error: Exception) -> None:
        """An error that is not the person's."""

    def suspended(self, work: Callable[[], bool]) -> bool:
        """Leave the terminal to another program meanwhile; False where it failed."""

    # Of Textual.

    def push_screen(
        self, screen: Screen[T], callback: Callable[[T | None], Any] | None = None
    ) -> Any:
        """Open a dialog."""

    def copy_to_clipboard(self, text: str) -> None:
        """Ask the terminal to keep a text."""

    def exit(self, result: int | None = None) -> None:
        """End the app."""
