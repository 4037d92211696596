"""The form for a new task. What its fields are and what is wrong with them, the dashboard says
(reader/submission.py); here they are typed in, and what was typed goes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Label, Select, TextArea

from agentflow.dashboard.reader.submission import Checked, Field
from agentflow.dashboard.render.lines import Line, line, wrap
from agentflow_tui.screens.dialog import Dialog
from agentflow_tui.screens.editor import edited
from agentflow_tui.theme import Theme
from agentflow_tui.widgets.panel import Panel

READ_MOST: Final = 16 * 1024 * 1024
"""Bytes of a prompt's file that are read; more no stream takes."""
JUDGED_AFTER: Final = 0.25
"""Seconds of rest after a key until what was typed is judged."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What was typed, and whether the task is to be opened once it is stored."""

    values: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    follow: bool = False


Check = Callable[[dict[str, str], str | None, str], Checked]
"""Judge values, the content of their file, and why that cannot be read."""


class Submit(Dialog[Draft]):
    """Gives the task to submit."""

    DEFAULT_CSS = """
    Submit { align: center middle; }
    Submit > Vertical {
        width: 100; max-width: 100%; height: auto; max-height: 100%;
        background: $background; border: round $border; padding: 0 1;
        border-title-style: bold;
    }
    Submit VerticalScroll { height: auto; max-height: 100%; }
    Submit .row { height: auto; }
    Submit .name { width: 12; color: $foreground 70%; }
    Submit .wrong { color: $error; width: 100%; padding-left: 12; display: none; }
    Submit Input { height: 1; border: none; padding: 0; width: 1fr; background: $panel; }
    Submit Input:focus { border: none; background: $boost; }
    Submit TextArea { height: 7; width: 1fr; border: none; padding: 0; background: $panel; }
    Submit TextArea:focus { border: none; }
    Submit Select { width: 24; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "send(False)", show=False, priority=True),
        Binding("ctrl+f", "send(True)", show=False, priority=True),
        Binding("ctrl+e", "editor", show=False, priority=True),
    ]

    def __init__(
        self,
        fields: list[Field],
        theme: Theme,
        *,
        check: Check,
        estimate: Callable[[dict[str, str]], list[str]],
    ) -> None:
        super().__init__()
        self._fields = fields
        self._theme = theme
        self._check = check
        self._estimate = estimate
        self._tried = False
        """Whether it was to be sent once: before, nothing is called missing."""
        self._due: asyncio.TimerHandle | None = None
        self.left: dict[str, str] = {}
        """What had been typed when the person left: it is there again the next time."""

    def compose(self) -> ComposeResult:
        """A row a field; below, what it would mean."""
        with Vertical() as box:
            box.border_title = "submit a task"
            with VerticalScroll(can_focus=False):
                for each in self._fields:
                    with Horizontal(classes="row"):
                        yield Label(each.title, classes="name", markup=False)
                        yield self._entry(each)
                    yield Label("", id=f"wrong-{each.name}", classes="wrong", markup=False)
                yield Panel(self._theme, [], id="meaning")
            yield Panel(self._theme, [_KEYS], id="keys")

    def _entry(self, each: Field) -> Widget:
        name = f"field-{each.name}"
        if each.kind == "text":
            return TextArea(each.value, id=name, soft_wrap=True, tab_behavior="focus")
        if each.kind == "choice":
            return Select(
                [(choice, choice) for choice in each.choices],
                value=each.value or each.choices[0],
                allow_blank=False,
                compact=True,
                id=name,
            )
        hint = each.hint or (f"such as {', '.join(each.choices[:6])}" if each.choices else "")
        suggester = SuggestFromList(each.choices) if each.choices else None
        return Input(
            each.value, placeholder=hint, suggester=suggester, id=name, select_on_focus=False
        )

    def on_mount(self) -> None:
        """The prompt has the keys."""
        self.query(TextArea).first().focus()
        self._judge()

    # What was typed.

    def values(self) -> dict[str, str]:
        """By field."""
        typed: dict[str, str] = {}
        for each in self._fields:
            entry = self.query_one(f"#field-{each.name}")
            if isinstance(entry, TextArea):
                typed[each.name] = entry.text
            elif isinstance(entry, Select):
                typed[each.name] = str(entry.value)
            elif isinstance(entry, Input):
                typed[each.name] = entry.value
        return typed

    def on_input_changed(self, event: Input.Changed) -> None:
        """Judge it in a moment."""
        self._soon()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Judge it in a moment."""
        self._soon()

    def on_select_changed(self, event: Select.Changed) -> None:
        """Judge it in a moment."""
        self._soon()

    def on_resize(self, event: events.Resize) -> None:
        """What is too long for the width is wrapped anew."""
        self._soon()

    def on_unmount(self) -> None:
        """Nothing is judged any more."""
        if self._due is not None:
            self._due.cancel()

    def _soon(self) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = asyncio.get_running_loop().call_later(JUDGED_AFTER, self._judge)

    def _judge(self) -> Checked:
        values = self.values()
        content, unreadable = _content(values.get("file", ""))
        checked = self._check(values, content, unreadable)
        typed = {name for name, text in values.items() if text.strip()}
        for each in self._fields:
            label = self.query_one(f"#wrong-{each.name}", Label)
            problem = checked.problems.get(each.name, "")
            if each.name not in typed and not self._tried:
                problem = ""
            label.update(problem)
            label.display = bool(problem)
        self.query_one("#meaning", Panel).show(self._meaning(values, checked))
        return checked

    def _meaning(self, values: dict[str, str], checked: Checked) -> list[Line]:
        room = max(20, min(96, self.size.width - 4) - 12)
        lines: list[Line] = []
        for name, text, token in (
            ("estimate", "; ".join(self._estimate(values)), "text"),
            ("command", checked.command, "code"),
        ):
            for at, part in enumerate(wrap(text, room)[:6]):
                lines.append(line((f"{name if not at else '':<12}", "dim"), (part, token)))
        return lines

    def command_lines(self) -> tuple[str, str]:
        """Those that submit what was typed."""
        checked = self._judge()
        return checked.command, checked.nats

    # Ending.

    def action_send(self, follow: bool) -> None:
        """ctrl+s, ctrl+f."""
        self._tried = True
        checked = self._judge()
        if not checked.ok:
            wrong = next(each.name for each in self._fields if each.name in checked.problems)
            self.query_one(f"#field-{wrong}").focus()
            return
        self.answer(Draft(self.values(), checked.arguments, checked.command, follow))

    def action_leave(self) -> None:
        """Esc: closes an open list of choices first."""
        for choice in self.query(Select):
            if choice.expanded:
                choice.expanded = False
                return
        self.left = self.values()
        super().action_leave()

    def action_editor(self) -> None:
        """ctrl+e: the prompt in the person's own editor."""
        area = self.query(TextArea).first()
        with self.app.suspend():
            text = edited(area.text)
        if text is not None:
            area.text = text


def _content(name: str) -> tuple[str | None, str]:
    """What the file has, or why that is not known."""
    if not name.strip():
        return None, ""
    path = Path(name.strip()).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(READ_MOST + 1)
        if len(data) > READ_MOST:
            return None, "it is larger than any stream takes"
        return data.decode(), ""
    except UnicodeDecodeError:
        return None, "it is not UTF-8 text"
    except OSError as error:
        return None, error.strerror or str(error)
    except ValueError as error:  # no path at all
        return None, str(error)


_KEYS: Final = line(
    ("ctrl+s", "key.act"),
    (" submit   ", "dim"),
    ("ctrl+f", "key.act"),
    (" submit and open   ", "dim"),
    ("ctrl+e", "key"),
    (" editor   ", "dim"),
    ("f2", "key"),
    (" command   ", "dim"),
    ("f3", "key"),
    (" for nats   ", "dim"),
    ("esc", "key"),
    (" leave", "dim"),
)
