"""A line of text, asked for at the bottom of the screen; the view above stays and goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Label

from agentflow.dashboard.reader.effects import Prompt as Asked
from agentflow_tui.screens.dialog import Dialog
from agentflow_tui.widgets.canvas import named

ENTER = ("enter", "ctrl+j")
"""The second is what a terminal makes of it before it is ours."""
HISTORY = 50
"""Answers that are remembered of each question."""


class Prompt(Dialog[str]):
    """Gives the answer, or None when the person thought better of it."""

    DEFAULT_CSS = """
    Prompt { background: transparent; align: left bottom; }
    Prompt > Horizontal { dock: bottom; height: 1; background: $panel; }
    Prompt Label { width: auto; padding: 0 1; color: $accent; text-style: bold; }
    Prompt #hint { color: $foreground 60%; text-style: none; max-width: 60%; }
    Prompt Input {
        border: none; height: 1; padding: 0; width: 1fr; background: $panel;
    }
    Prompt Input:focus { border: none; background: $panel; }
    Prompt:ansi Label, Prompt:nocolor Label { color: ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "older", show=False, priority=True),
        Binding("down", "newer", show=False, priority=True),
    ]

    def __init__(self, asked: Asked, history: Sequence[str] = ()) -> None:
        super().__init__()
        self._asked = asked
        self._history = [*history, asked.value]
        self._at = len(self._history) - 1
        self._early = ""
        """What was typed before there was a field for it."""
        self._sent = False
        self._ready = False

    def compose(self) -> ComposeResult:
        """Question, answer, hint."""
        with Horizontal():
            yield Label(self._asked.label, markup=False)
            yield Input(self._asked.value, select_on_focus=False)
            yield Label(self._asked.hint, id="hint", markup=False)

    def on_mount(self) -> None:
        """The cursor stands at the end."""
        field = self.query_one(Input)
        field.focus()
        field.value += self._early
        field.cursor_position = len(field.value)
        self._fit(self.app.size.width)
        self._ready = True
        if self._sent:
            # Within its own mounting a screen cannot be closed.
            self.call_later(self.answer, field.value)

    def late(self, key: str) -> None:
        """What is typed fast, or pasted, belongs to the text."""
        typed = " " if key == "space" else key if len(key) == 1 else ""
        if not self._ready:
            if key == "backspace":
                self._early = self._early[:-1]
            elif not self._sent:
                self._early += typed
            self._sent = self._sent or key in ENTER
            return
        field = self.query_one(Input)
        if key in ENTER:
            self.answer(field.value)
        elif key == "backspace":
            field.action_delete_left()
        elif typed:
            field.insert_text_at_cursor(typed)

    def on_key(self, event: events.Key) -> None:
        """A key that came before the field had the focus."""
        if self.focused is None or not self._ready:
            event.stop()
            event.prevent_default()
            self.late(named(event.key, event.character))

    def on_resize(self, event: events.Resize) -> None:
        """The hint is the first to go."""
        self._fit(event.size.width)

    def _fit(self, width: int) -> None:
        self.query_one("#hint").display = width >= 40 + len(self._asked.hint)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter."""
        event.stop()
        self.answer(event.value)

    def action_older(self) -> None:
        """What was answered before."""
        self._go(-1)

    def action_newer(self) -> None:
        """And after that."""
        self._go(1)

    def _go(self, step: int) -> None:
        self._at = min(len(self._history) - 1, max(0, self._at + step))
        field = self.query_one(Input)
        field.value = self._history[self._at]
        field.cursor_position = len(field.value)


def remember(history: list[str], answer: str) -> None:
    """Keep an answer, the newest last, each once."""
    if answer:
        if answer in history:
            history.remove(answer)
        history.append(answer)
        del history[:-HISTORY]
