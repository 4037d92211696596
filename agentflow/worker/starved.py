"""Whether all slots wait for tasks that only these slots would run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Final

from agentflow.worker.held import Holding

_log = logging.getLogger(__name__)

EVERY: Final = 1.0
AFTER: Final = 5.0
"""Seconds of waiting with all slots before it is told: another worker may be at those tasks."""


class Starved:
    """Watches the runs of one worker; `free` says how many slots it has left."""

    def __init__(
        self, holding: Holding, queues: Collection[str], slots: int, free: Callable[[], int]
    ) -> None:
        self._holding = holding
        self._queues = frozenset(queues)
        self._slots = slots
        self._free = free
        self._since: float | None = None
        self._told: str | None = None

    async def watch(self) -> None:
        """Look after all runs; runs until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            queues = self._waited_for()
            if queues is None:
                self._since = self._told = None
            elif self._since is None:
                self._since = time.monotonic()
            elif self._told is None and time.monotonic() - self._since >= AFTER:
                self._told = self._sentence(queues)
                _log.warning("%s", self._told, extra={"action": "starved"})

    def notes(self) -> list[str]:
        """What a person should know of."""
        return [] if self._told is None else [self._told]

    def _waited_for(self) -> set[str] | None:
        """The queues that all slots wait for; None where one does not, or is free."""
        if self._free() > 0:
            return None
        runs = [held.run for held in self._holding]
        if not runs:
            return None
        queues: set[str] = set()
        for run in runs:
            if run is None or not run.waits:
                return None
            wanted = run.waits.queues()
            if wanted and wanted.isdisjoint(self._queues):
                return None
            queues |= wanted & self._queues
        return queues

    def _sentence(self, queues: set[str]) -> str:
        named = ", ".join(sorted(queues or self._queues))
        slots = "its only slot waits" if self._slots == 1 else f"all {self._slots} slots wait"
        return (
            f"{slots} for other tasks of queue {named}, which this worker serves itself: without "
            "another worker none of them goes on; give such tasks a queue and a worker of their "
            "own (docs/handlers.md, Waiting for other tasks)"
        )
