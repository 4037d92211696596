"""Whether an act is to be done: to what, how many, what it costs, and the command that does it.

A danger has a red border; above `acts.TYPE_ABOVE` targets their number must be typed.
"""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Input, Label

from agentflow.dashboard.reader.acts import Preview
from agentflow.dashboard.render.lines import Line, line, wrap
from agentflow.views.display import one_line
from agentflow_tui.screens.dialog import COPY_KEYS, Dialog
from agentflow_tui.theme import Theme
from agentflow_tui.widgets.panel import Panel

COMMAND_LINES = 6


class Confirm(Dialog[bool]):
    """Gives True when it is to be done."""

    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical {
        width: 90; max-width: 100%; height: auto; max-height: 100%;
        background: $background; border: round $border; padding: 0 1;
        border-title-style: bold;
    }
    Confirm > Vertical.danger { border: heavy $error; border-title-color: $error; }
    Confirm VerticalScroll { height: auto; max-height: 14; }
    Confirm Input { height: 1; border: none; padding: 0; width: 12; background: $panel; }
    Confirm Input:focus { border: none; }
    Confirm Label { width: 100%; }
    """

    def __init__(self, preview: Preview, theme: Theme) -> None:
        super().__init__()
        self._preview = preview
        self._theme = theme

    def compose(self) -> ComposeResult:
        """What it would mean, the number to type, the keys."""
        preview = self._preview
        with Vertical(classes="danger" if preview.danger else ""):
            with VerticalScroll(can_focus=False):
                yield Panel(self._theme, self._lines(80), id="meaning")
            if preview.type_number:
                yield Label(f"type {preview.count} to go on:", id="ask", markup=False)
                yield Input(type="integer", max_length=9)
            yield Panel(self._theme, [self._keys()], id="keys")

    def on_mount(self) -> None:
        """The number has the keys, where one is to be typed."""
        if self._preview.type_number:
            self.query_one(Input).focus()
        else:
            self.set_focus(None)

    def on_resize(self, event: events.Resize) -> None:
        """What is too long for the width is wrapped anew."""
        self.query_one("#meaning", Panel).show(self._lines(min(86, event.size.width - 4)))

    def _lines(self, width: int) -> list[Line]:
        preview = self._preview
        head = line((preview.title, "title"))
        room = max(20, width - 9)
        lines = [head]
        for each in preview.lines:
            # The first run is the name of the line, what follows is what it says.
            name, *said = each.runs
            token = said[0][1] if said else "text"
            parts = wrap(one_line("".join(text for text, _ in said)), room) or [""]
            lines.append(line((name[0], name[1]), (parts[0], token)))
            lines += [line((" " * 9, "text"), (part, token)) for part in parts[1:]]
        commands = wrap(one_line(preview.command), room)
        if len(commands) > COMMAND_LINES:
            commands = [*commands[: COMMAND_LINES - 1], "… (f2 copies all of it)"]
        for at, part in enumerate(commands):
            lines.append(line((f"{'command' if not at else '':<9}", "dim"), (part, "code")))
        return lines

    def command_lines(self) -> tuple[str, str]:
        """Those of the preview."""
        return self._preview.command, self._preview.nats

    def _keys(self) -> Line:
        copies = COPY_KEYS if self._preview.nats else COPY_KEYS[:2]
        if self._preview.type_number:
            return line(
                ("enter", "key.act"),
                (" do it   ", "dim"),
                *copies,
                ("esc", "key"),
                (" leave", "dim"),
            )
        return line(
            ("y", "key.act"),
            (" or ", "dim"),
            ("enter", "key.act"),
            (" do it   ", "dim"),
            *copies,
            ("n", "key"),
            (" or ", "dim"),
            ("esc", "key"),
            (" leave", "dim"),
        )

    def on_key(self, event: events.Key) -> None:
        """Yes or no; any other key does nothing."""
        if self._preview.type_number:
            return
        if event.key in ("y", "enter"):
            event.stop()
            self.answer(True)
        elif event.key in ("n", "q"):
            event.stop()
            self.answer(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Only the very number goes on."""
        event.stop()
        if event.value.strip() == str(self._preview.count):
            self.answer(True)
        else:
            self.query_one("#ask", Label).update(
                f"{event.value.strip() or 'nothing'} is not {self._preview.count}; "
                f"type {self._preview.count} to go on:"
            )
            event.input.clear()
