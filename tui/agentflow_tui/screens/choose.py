"""One of some commands: a list, moved in with the keys of a table, or by the first letter."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Label, OptionList
from textual.widgets.option_list import Option

from agentflow.dashboard.reader.effects import Choose as Offered
from agentflow.views.display import one_line
from agentflow_tui.screens.dialog import Dialog
from agentflow_tui.widgets.canvas import named

Chosen = tuple[str, str]
"""Command and argument."""


class Choose(Dialog[Chosen]):
    """Gives what was chosen."""

    DEFAULT_CSS = """
    Choose { align: center middle; }
    Choose > Vertical {
        width: 70; max-width: 90%; height: auto; max-height: 80%;
        background: $panel; border: round $border; padding: 0 1;
    }
    Choose Label { text-style: bold; width: 100%; }
    Choose #keys { text-style: none; color: $foreground 60%; }
    Choose OptionList {
        height: auto; max-height: 100%; border: none; padding: 0; background: $panel;
    }
    Choose OptionList:focus { border: none; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", show=False),
        Binding("j", "down", show=False),
        Binding("k", "up", show=False),
    ]

    def __init__(self, offered: Offered) -> None:
        super().__init__()
        self._offered = offered

    def compose(self) -> ComposeResult:
        """Title and list."""
        with Vertical():
            yield Label(self._offered.title, markup=False)
            yield OptionList(
                *(Option(one_line(title, 200)) for _, _, title in self._offered.options),
                markup=False,
            )
            yield Label("enter chooses   esc leaves", id="keys", markup=False)

    def on_mount(self) -> None:
        """The list has the keys."""
        self.query_one(OptionList).focus()

    def on_key(self, event: events.Key) -> None:
        """A letter goes to the next title that begins with it."""
        letter = named(event.key, event.character)
        if len(letter) != 1 or not letter.isalnum() or letter in "jkq":
            return
        options = self.query_one(OptionList)
        titles = [title.lower() for _, _, title in self._offered.options]
        begin = (options.highlighted or 0) + 1
        for at in (*range(begin, len(titles)), *range(min(begin, len(titles)))):
            if titles[at].startswith(letter.lower()):
                options.highlighted = at
                break

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter, or a click."""
        event.stop()
        command, argument, _ = self._offered.options[event.option_index]
        self.answer((command, argument))

    def action_down(self) -> None:
        """One down."""
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        """One up."""
        self.query_one(OptionList).action_cursor_up()
