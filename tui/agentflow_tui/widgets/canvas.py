"""The canvas: the whole screen of the dashboard, drawn line by line.

It is given the lines of a frame, compares them with those of the frame before, and has only the
changed ones drawn again. Tables go through it as everything else does: a row that did not change is
the same line and costs a comparison, so no table widget is needed, and none of Textual's caches is
thrown away for one cell. A line becomes a strip of segments once; a row that only moved up or down
is found again by its content.

No markup is ever read: text comes as segments, and the dashboard has taken out whatever a terminal
would obey. Feed items do not come here as messages; they have long been folded into the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from agentflow.dashboard.render.lines import Line
from agentflow_tui.theme import Theme

KEPT: Final = 400
"""Strips that are kept: some screens full."""
WHEEL: Final = 3
"""Rows that one notch of the wheel moves."""

Do = Callable[[str, str], None]


class Canvas(Widget, can_focus=True):
    """The screen. `do` carries out a command of a click, `press` that of a key."""

    ALLOW_SELECT: ClassVar[bool] = False
    DEFAULT_CSS: ClassVar[str] = "Canvas { width: 100%; height: 100%; }"

    def __init__(self, theme: Theme, *, press: Callable[[str], None], do: Do) -> None:
        super().__init__()
        self._theme = theme
        self._press = press
        self._do = do
        self._lines: Sequence[Line] = ()
        self._faded = False
        self._strips: dict[tuple[Line, bool], Strip] = {}
        self.changed = 0
        """Lines that were drawn anew so far, for the meter and the tests."""

    # Drawing.

    def paint(self, lines: Sequence[Line], *, faded: bool = False) -> None:
        """Show a frame: draw the lines that differ from those of the one before."""
        before, self._lines = self._lines, lines
        if len(before) != len(lines) or faded != self._faded:
            self._faded = faded
            self.refresh()
            self.changed += len(lines)
            return
        width = self.size.width
        changed = [
            Region(0, y, width, 1)
            for y, (old, new) in enumerate(zip(before, lines, strict=True))
            # The hits of a line are no part of its looks.
            if old is not new and (old.runs != new.runs or old.base != new.base)
        ]
        if changed:
            self.refresh(*changed)
            self.changed += len(changed)

    def wear(self, theme: Theme) -> None:
        """Draw with another theme from now on."""
        self._theme = theme
        self._strips.clear()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of the frame."""
        if y >= len(self._lines):
            return Strip.blank(self.size.width, self._theme.style("text"))
        line = self._lines[y]
        key = (line, self._faded)
        strip = self._strips.get(key)
        if strip is None:
            if len(self._strips) >= KEPT:
                self._strips.clear()
            strip = self._strips[key] = self._made(line)
        return strip

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines of a region. Textual's styles and filters have nothing to add to them."""
        strips = [self.render_line(y) for y in crop.line_range]
        if crop.column_span != (0, self.size.width):
            strips = [strip.crop(*crop.column_span) for strip in strips]
        return strips

    def _made(self, line: Line) -> Strip:
        style, base, faded = self._theme.style, line.base, self._faded
        segments: list[Segment] = []
        last: Style | None = None
        parts: list[str] = []
        for text, token in line.runs:
            look = style(token, base, faded=faded)
            if look is last:
                parts.append(text)
                continue
            if parts:
                segments.append(Segment("".join(parts), last))
            last, parts = look, [text]
        if parts:
            segments.append(Segment("".join(parts), last))
        width = self.size.width
        # What rich takes for wider or narrower than we do would push the line's end away.
        return Strip(segments).adjust_cell_length(width, style("text", base, faded=faded))

    # Keys and the mouse.

    async def on_key(self, event: events.Key) -> None:
        """Every key that no dialog took."""
        event.stop()
        event.prevent_default()
        self._press(named(event.key, event.character))

    def on_click(self, event: events.Click) -> None:
        """A click on what a line offers."""
        if event.y < len(self._lines):
            for hit in self._lines[event.y].hits:
                if hit.begin <= event.x < hit.end:
                    event.stop()
                    self._do(hit.command, hit.argument)
                    return

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel moves the cursor, which takes the table along."""
        event.stop()
        self._do("move", str(WHEEL))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The other way."""
        event.stop()
        self._do("move", str(-WHEEL))


def named(key: str, character: str | None) -> str:
    """The model's name of a key: the character that it types, else what the terminal calls it."""
    if character is not None and len(character) == 1 and character.isprintable():
        return "space" if character == " " else character
    return key
