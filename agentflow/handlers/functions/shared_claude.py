"""The one Claude client of a process, for functions that ask Claude while they run.

anthropic costs 1.2 s and 74 MB, so it is imported when the first function asks; in a thread,
because the loop has leases to renew meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentflow.handlers.claude.handler import ClaudeHandler


def _make() -> ClaudeHandler:
    from agentflow.handlers import registry

    return registry.make_claude()


class SharedClaude:
    """Makes the handler when it is first asked for, or uses the one the worker has."""

    def __init__(self, make: Callable[[], ClaudeHandler] = _make) -> None:
        self._make = make
        self._handler: ClaudeHandler | None = None
        self._starting: asyncio.Task[ClaudeHandler] | None = None
        self._own = True

    def use(self, handler: ClaudeHandler) -> None:
        """Use this one, which somebody else starts and closes."""
        self._handler, self._own = handler, False

    async def get(self) -> ClaudeHandler:
        """The handler, started. Raises KeyMissing, UsageError."""
        if self._handler is not None:
            return self._handler
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
            self._starting.add_done_callback(self._started)
        # A run that is cancelled meanwhile must not take the client away from the others.
        return await asyncio.shield(self._starting)

    async def _start(self) -> ClaudeHandler:
        handler = await asyncio.to_thread(self._make)
        await handler.start()
        return handler

    def _started(self, starting: asyncio.Task[ClaudeHandler]) -> None:
        self._starting = None
        if not starting.cancelled() and starting.exception() is None:
            self._handler = starting.result()

    def pools(self) -> dict[str, Any]:
        """As the handler's own; nothing while there is none, or where it speaks for itself."""
        return self._handler.pools() if self._own and self._handler is not None else {}

    async def close(self) -> None:
        """End the client, if it was made here."""
        if self._starting is not None:
            await asyncio.wait({self._starting})
        if self._own and self._handler is not None:
            handler, self._handler = self._handler, None
            await handler.close()
