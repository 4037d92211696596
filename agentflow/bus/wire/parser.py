"""What the server sends, taken apart: nats-py's parser with a short way for messages.

Nearly all that arrives are whole messages for callbacks. nats-py matches each by regular
expressions, moves the rest of its buffer and awaits twice; this was a fifth of a busy process.
Anything else (control lines, parts of messages) is left to nats-py, which also keeps the state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from agentflow.bus.wire.message import Message

_log = logging.getLogger(__name__)

SMALL: Final = 4096
_MSG: Final = b"MSG "
_HMSG: Final = b"HMSG"


class ShortcutParser(Parser):
    """Calls `callbacks[sid]` with each message that is wholly there."""

    def __init__(self, client: object, callbacks: dict[int, Callable[[Message], None]]) -> None:
        super().__init__(client)
        self._callbacks = callbacks

    async def parse(self, data: bytes = b"") -> None:
        """Take what was read from the socket."""
        if self.state != AWAITING_CONTROL_LINE:
            await super().parse(data)
            return
        if self.buf:
            data = bytes(self.buf) + data
            self.buf.clear()
        rest, soon = self._take_messages(data)
        if rest == len(data):
            return
        if soon:
            self.buf.extend(data[rest:])
        else:
            await super().parse(data[rest:])

    def _take_messages(self, data: bytes) -> tuple[int, bool]:
        """Dispatch whole messages from the start of `data`.

        Returns where the rest begins, and whether it is the start of a small message, which the
        next read completes. Of a large one nothing is put together again and again here.
        """
        at = 0
        callbacks = self._callbacks
        while True:
            kind = data[at : at + 4]
            if kind != _MSG and kind != _HMSG:
                return at, False
            end = data.find(b"\r\n", at)
            if end < 0:
                return at, len(data) - at < SMALL
            words = data[at:end].split()
            try:
                callback = callbacks[int(words[2])]
                size = int(words[-1])
                head = int(words[-2]) if kind == _HMSG else 0
            except (KeyError, ValueError, IndexError):
                return at, False  # nats-py's own subscription, or nothing it can read either
            start = end + 2
            following = start + size + 2
            if following > len(data):
                return at, size < SMALL
            with_reply = len(words) == (6 if head else 5)
            at = following
            try:
                callback(
                    Message(
                        # Others may publish where we listen, and the server lets any byte by.
                        words[1].decode(errors="backslashreplace"),
                        words[3].decode(errors="backslashreplace") if with_reply else "",
                        data[start + head : start + size],
                        data[start : start + head] if head else b"",
                    )
                )
            except Exception:
                # One bad message must not make the whole connection deaf.
                _log.exception("a callback failed on %s", words[1].decode(errors="replace"))
