"""Who wants to know of a change, each called by itself."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)

Listener = Callable[[], Awaitable[None] | None]


class Listeners:
    """Callbacks for one kind of event."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._listeners: list[Listener] = []

    def __len__(self) -> int:
        return len(self._listeners)

    def add(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` each time; call what is returned to end that."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def call(self) -> list[Awaitable[None]]:
        """Call all; returns what is to be awaited. One that fails keeps no other from its turn."""
        later = []
        for listener in list(self._listeners):
            try:
                work = listener()
            except Exception:
                _log.exception("a callback failed after %s", self._event)
            else:
                if work is not None:
                    later.append(work)
        return later
