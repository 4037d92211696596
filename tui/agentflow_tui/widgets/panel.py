"""Lines of the dashboard in a dialog: drawn as on the canvas, at their own height."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from agentflow.dashboard.render.lines import Line, clip
from agentflow_tui.theme import Theme


class Panel(Widget):
    """Some lines. They take the width that there is, and the height that they need."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "Panel { width: 100%; height: auto; }"

    def __init__(self, theme: Theme, lines: Sequence[Line] = (), *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._theme = theme
        self._lines = list(lines)

    def show(self, lines: Sequence[Line]) -> None:
        """Other lines."""
        if list(lines) != self._lines:
            grown = len(lines) != len(self._lines)
            self._lines = list(lines)
            self.refresh(layout=grown)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """All of it."""
        return container.width

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A row a line."""
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        """One of the lines."""
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width, self._theme.style("text"))
        line = clip(self._lines[y], width)
        style = self._theme.style
        return Strip(
            [Segment(text, style(token, line.base)) for text, token in line.runs]
        ).adjust_cell_length(width, style("text", line.base))
