"""The text of a task as it is generated: pieces by their place, in whatever order they come.

What was lost (a reconnection) leaves a gap, which is shown as one; a later attempt begins anew.
"""

from __future__ import annotations

from typing import Final

from tui.model.lines import wrap

MOST: Final = 512 * 1024
"""Characters that are kept; the beginning goes first."""
GAP: Final = " […] "


class TokenText:
    """Text of one task. `version` grows with it."""

    __slots__ = ("_bytes", "_wrapped", "attempt", "counted", "text", "version")

    def __init__(self) -> None:
        self.attempt = 0
        self.text = ""
        self.counted = 0
        """Output tokens so far, as the worker's heartbeat says."""
        self.version = 0
        self._bytes = 0
        self._wrapped: tuple[int, int, list[str]] = (-1, 0, [])

    def take(self, attempt: int, offset: int, text: str) -> None:
        """A piece that has `offset` bytes of the attempt before it."""
        if attempt < self.attempt:
            return
        if attempt > self.attempt:
            self.attempt, self.text, self._bytes = attempt, "", 0
        size = len(text.encode("utf-8", "replace"))
        if offset + size <= self._bytes:
            return
        if offset > self._bytes:
            self.text += GAP
        self.text += text
        self._bytes = offset + size
        if len(self.text) > MOST:
            self.text = GAP + self.text[-MOST * 3 // 4 :]
        self.version += 1

    def lines(self, width: int) -> list[str]:
        """The text wrapped to a width; kept until it grows."""
        version, at, lines = self._wrapped
        if version != self.version or at != width:
            lines = wrap(self.text, width)
            self._wrapped = (self.version, width, lines)
        return lines
