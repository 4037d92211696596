"""What all dialogs are: a screen over the dashboard, which goes on below, and gives an answer."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

T = TypeVar("T")


class Dialog(ModalScreen[T | None]):
    """A dialog, which is answered once: None when the person thought better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False, priority=True),
    ]
    answered = False

    def answer(self, answer: T | None) -> None:
        """Close, with this answer. A second one, of a key that was pressed too often, is none."""
        if not self.answered:
            self.answered = True
            # Awaited by its own handler the dialog would wait for itself.
            _ = self.dismiss(answer)

    def action_leave(self) -> None:
        """Esc, and ctrl+c."""
        self.answer(None)
