"""Generated text on its way to whoever watches: coalesced, never stored, never waited for."""

from __future__ import annotations

import asyncio
from typing import Final

from agentflow.bus.wire.connection import Connection
from agentflow.errors import BusError
from agentflow.protocol import headers as blocks
from agentflow.protocol import limits, subjects

INTERVAL: Final = 1.0 / limits.TOKENS_PER_SECOND


class TokenStream:
    """The text of one attempt. `Agentflow-Offset` counts its UTF-8 bytes before each message."""

    __slots__ = (
        "_actor",
        "_attempt",
        "_connection",
        "_loop",
        "_next",
        "_offset",
        "_parts",
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
        self._next = self._loop.time() + INTERVAL
        try:
            self._connection.publish(self._subject, data, block=blocks.encode(headers))
        except BusError:
            return  # whoever watches sees the gap in the offsets
