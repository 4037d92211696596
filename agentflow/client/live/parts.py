"""Parts that work at the same time: each starts again when it fails, and none fails in silence.

What keeps a part from its work is told once, and again when it is something else; that it works
again is told too (`well`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from agentflow.bus.wire.connection import Connection
from agentflow.errors import BusError, PermissionDenied

_log = logging.getLogger(__name__)

RETRY_MIN: Final = 0.2
RETRY_MAX: Final = 5.0
WELL_AFTER: Final = 12.0
"""Seconds of work after which a part that failed is well: a request fails within five."""
DENIED: Final = 30.0
"""Seconds until what was not permitted is tried again: an administrator may change it."""

Work = Callable[[], Awaitable[None]]
Tell = Callable[[str, str], None]
"""Takes a part's name and what is wrong with it; "" when it is well again."""


class Parts:
    """Named background tasks on one connection."""

    def __init__(self, connection: Connection, tell: Tell) -> None:
        self._connection = connection
        self._tell = tell
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wrong: dict[str, str] = {}
        self._pauses: dict[str, float] = {}

    def start(self, name: str, work: Work) -> None:
        """Run `work` until it returns or all is closed."""
        self._tasks[name] = asyncio.get_running_loop().create_task(
            self._keep(name, work), name=f"live {name}"
        )

    def well(self, name: str) -> None:
        """A part says that it works."""
        self._pauses.pop(name, None)
        if self._wrong.pop(name, ""):
            self._tell(name, "")

    def wrong(self, name: str, text: str) -> None:
        """A part says what it cannot do; it may go on with the rest."""
        if self._wrong.get(name) != text:
            self._wrong[name] = text
            _log.warning("%s: %s", name, text)
            self._tell(name, text)

    async def close(self) -> None:
        """End all."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _work(self, name: str, work: Work) -> None:
        loop = asyncio.get_running_loop()
        healing = loop.call_later(WELL_AFTER, self.well, name) if name in self._wrong else None
        try:
            await work()
        finally:
            if healing is not None:
                healing.cancel()

    async def _keep(self, name: str, work: Work) -> None:
        while True:
            try:
                await self._work(name, work)
                self.well(name)
                return
            except PermissionDenied as error:
                self.wrong(name, str(error))
                pause = DENIED
            except BusError as error:
                pause = self._longer(name)
                if not self._connection.connected.is_set():
                    # That the connection is lost is told elsewhere.
                    await self._connection.connected.wait()
                    pause = RETRY_MIN
                elif pause > RETRY_MIN:  # once is nothing: a leader may have changed
                    self.wrong(name, str(error))
            except Exception as error:
                _log.exception("%s failed; it is started again", name)
                self.wrong(name, f"{type(error).__name__}: {error}")
                pause = self._longer(name)
            await asyncio.sleep(pause)

    def _longer(self, name: str) -> float:
        pause = self._pauses.get(name, RETRY_MIN)
        self._pauses[name] = min(2 * pause, RETRY_MAX)
        return pause
