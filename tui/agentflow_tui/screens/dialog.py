"""What all dialogs are: a screen over the dashboard, which goes on below, and gives an answer.

One that would change the system knows the command lines that do the same; f2 and f3 copy them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final, TypeVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from agentflow.dashboard.render.lines import Run

T = TypeVar("T")

COPY_KEYS: Final[tuple[Run, ...]] = (
    ("f2", "key"),
    (" copy the command   ", "dim"),
    ("f3", "key"),
    (" for nats   ", "dim"),
)
"""What a dialog with command lines says of them."""


class Dialog(ModalScreen[T | None]):
    """A dialog, which is answered once: None when the person thought better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False, priority=True),
        Binding("f2", "copy_line(0)", show=False, priority=True),
        Binding("f3", "copy_line(1)", show=False, priority=True),
    ]
    answered = False
    copy: Callable[[str, str], None] = staticmethod(lambda text, what: None)
    """Copies a text, and says what it is; whoever opens the dialog gives it."""

    def answer(self, answer: T | None) -> None:
        """Close, with this answer. A second one, of a key that was pressed too often, is none."""
        if not self.answered:
            self.answered = True
            # Awaited by its own handler the dialog would wait for itself.
            _ = self.dismiss(answer)

    def late(self, key: str) -> None:
        """A key that came in one read with the one that opened this, and went past it: no act may
        come of it."""

    def command_lines(self) -> tuple[str, str]:
        """What does the same, with `agentflow` and with `nats` alone; "" where nothing does."""
        return "", ""

    def action_copy_line(self, which: int) -> None:
        """f2, f3."""
        if text := self.command_lines()[which]:
            self.copy(text, ("the command", "the command for nats")[which])

    def action_leave(self) -> None:
        """Esc, and ctrl+c."""
        self.answer(None)
