"""Generated text on its way to whoever watches: coalesced, never stored, never waited for."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from agentflow.bus.wire.connection import Connection
from agentflow.errors import BusError
from agentflow.protocol import headers as blocks
from agentflow.protocol import limits, subjects

INTERVAL: Final = 1.0 / limits.TOKENS_PER_SECOND
KEPT: Final = 512 * 1024
"""Bytes of an attempt's text that are kept, for who begins to read in the middle."""


class TokenStream:
    """The text of one attempt. `Agentflow-Offset` counts its UTF-8 bytes before each message."""

    __slots__ = (
        "_actor",
        "_attempt",
        "_begins",
        "_connection",
        "_loop",
        "_next",
        "_offset",
        "_parts",
        "_sent",
        "_silent",
        "_subject",
        "_timer",
    )

    def __init__(
        self,
        connection: Connection,
        task_id: str,
        attempt: int,
        actor: str,
        *,
        silent: bool = False,
    ) -> None:
        self._silent = silent
        self._connection = connection
        self._subject = subjects.tokens(task_id)
        self._attempt = str(attempt)
        self._actor = actor
        self._loop = asyncio.get_running_loop()
        self._parts: list[str] = []
        self._offset = 0
        self._sent: deque[bytes] = deque()
        self._begins = 0
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, text: str) -> None:
        """Add text; it goes out at once or with what follows within a twentieth of a second."""
        if not isinstance(text, str):
            raise TypeError(f"a handler emits text, not {type(text).__name__}")
        if not text or self._silent:
            return
        self._parts.append(text)
        if self._timer is None:
            wait = self._next - self._loop.time()
            if wait <= 0:
                self.flush()
            else:
                self._timer = self._loop.call_later(wait, self.flush)

    def sent(self) -> tuple[int, str]:
        """What has gone out so far, and how many bytes of it are not kept any more."""
        return self._begins, b"".join(self._sent).decode("utf-8", "replace")

    def flush(self) -> None:
        """Send what is there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._parts:
            return
        data = "".join(self._parts).encode("utf-8", "replace")
        self._parts.clear()
        headers = {
            subjects.ATTEMPT: self._attempt,
            subjects.ACTOR: self._actor,
            subjects.OFFSET: str(self._offset),
        }
        self._offset += len(data)
        self._sent.append(data)
        while self._offset - self._begins > KEPT:
            self._begins += len(self._sent.popleft())
        self._next = self._loop.time() + INTERVAL
        try:
            self._connection.publish(self._subject, data, block=blocks.encode(headers))
        except BusError:
            return  # whoever watches sees the gap in the offsets
