"""The text of a task as it is generated: pieces by their place, in whatever order they come.

What was lost (a reconnection) leaves a gap, which is shown as one; a later attempt begins anew.
Wrapping goes on where it stopped: of a text that grows only the end is looked at again. How wide a
text is wrapped and which are followed is one viewer's own affair, so the store keeps none of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from agentflow.dashboard.render.lines import wrap
from agentflow.protocol.control import Heartbeat
from agentflow.views import feed

TEXTS: Final = 8
"""Tasks whose generated text is kept, those that are followed no more among them."""
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
        open_lines = wrap(self._carry + text[self._at :], self.width)
        if len(text) - self._at > TAIL:
            self._closed += open_lines[:-1]
            self._at, self._carry = len(text), open_lines[-1]
            open_lines = open_lines[-1:]
        return self._closed + open_lines


class Texts(dict[str, TokenText]):
    """By id the texts of the tasks that a viewer follows: a listener of the store."""

    def follow(self, ids: Iterable[str]) -> None:
        """Keep the text that is generated for these tasks; what was followed before goes first."""
        for task_id in ids:
            # To the end of the order, in which the first is the one to go.
            text = self.pop(task_id, None)
            self[task_id] = TokenText() if text is None else text
        while len(self) > TEXTS:
            del self[next(iter(self))]

    def hear_tokens(self, item: feed.Tokens) -> None:
        """Take a piece, where its task is followed."""
        if (text := self.get(item.id)) is not None:
            text.take(item.attempt, item.offset, item.text)

    def hear_beat(self, beat: Heartbeat) -> None:
        """Take how many tokens a worker counts."""
        for task in beat.tasks:
            if (text := self.get(task.id)) is not None:
                text.counted = max(text.counted, task.output_tokens)

    def copy(self) -> Texts:
        """The same texts, which no longer grow with these."""
        return Texts({task_id: text.copy() for task_id, text in self.items()})
