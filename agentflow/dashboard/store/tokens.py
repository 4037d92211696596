"""The text of a task as it is generated: pieces by their place, in whatever order they come.

What was lost (a reconnection) leaves a gap, which is shown as one; a later attempt begins anew.
Wrapping goes on where it stopped: of a text that grows only the end is looked at again.
"""

from __future__ import annotations

from typing import Final

from agentflow.dashboard.render.lines import wrap

MOST: Final = 512 * 1024
"""Characters that are kept; the beginning goes first."""
GAP: Final = " […] "
TAIL: Final = 4096
"""Characters of an open line after which its beginning is not wrapped again."""


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
        self._wrapped = _Wrapped(0)

    def take(self, attempt: int, offset: int, text: str) -> None:
        """A piece that has `offset` bytes of the attempt before it."""
        if attempt < self.attempt:
            return
        if attempt > self.attempt:
            self.attempt, self.text, self._bytes, self.counted = attempt, "", 0, 0
            self._wrapped = _Wrapped(0)
        size = len(text.encode("utf-8", "replace"))
        if offset + size <= self._bytes:
            return
        if offset > self._bytes:
            self.text += GAP
        self.text += text
        self._bytes = offset + size
        if len(self.text) > MOST:
            self.text = GAP + self.text[-MOST * 3 // 4 :]
            self._wrapped = _Wrapped(0)
        self.version += 1

    def lines(self, width: int) -> list[str]:
        """The text wrapped to a width."""
        if self._wrapped.width != width:
            self._wrapped = _Wrapped(width)
        return self._wrapped.lines(self.text)

    def copy(self) -> TokenText:
        """The same text, which no longer grows with this one."""
        other = TokenText()
        other.attempt, other.text, other.counted = self.attempt, self.text, self.counted
        other.version, other._bytes = self.version, self._bytes
        return other


class _Wrapped:
    """A growing text in lines of a width."""

    __slots__ = ("_at", "_carry", "_closed", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self._closed: list[str] = []
        """Lines that no longer change."""
        self._at = 0
        """How far the text has gone into them, and `_carry` is what it left of its last line."""
        self._carry = ""

    def lines(self, text: str) -> list[str]:
        end = text.rfind("\n", self._at) + 1
        if end > self._at:
            self._closed += wrap(self._carry + text[self._at : end - 1], self.width)
            self._at, self._carry = end, ""
        found = wrap(self._carry + text[self._at :], self.width)
        if len(text) - self._at > TAIL:
            self._closed += found[:-1]
            self._at, self._carry = len(text), found[-1]
            found = found[-1:]
        return self._closed + found
