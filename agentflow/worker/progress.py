"""The progress a handler reports, as records in its task's log.

Each write runs in a task of its own. The handler may be interrupted while it reports (a timeout, a
cancellation, the end of the worker); the write may not, because the record that ends the attempt
can only follow a write whose outcome is known. Reports after the end go nowhere: a stray one would
follow the final record, and the fence would let it.
"""

from __future__ import annotations

import asyncio

from agentflow.log.task import Overtaken, TaskLog
from agentflow.protocol import limits
from agentflow.protocol.record import State
from agentflow.rules import records
from agentflow.rules.records import Origin
from agentflow.worker.held import Ending, Held


class Progress:
    """The reports of one attempt."""

    __slots__ = ("_closed", "_held", "_lock", "_log", "_origin", "_writes")

    def __init__(self, log: TaskLog, held: Held, origin: Origin) -> None:
        self._log = log
        self._held = held
        self._origin = origin
        self._lock: asyncio.Lock | None = None
        self._closed = False
        self._writes: set[asyncio.Task[None]] = set()

    async def report(self, fraction: float | None, note: str | None) -> None:
        """Write how far the run is. Raises Overtaken when the task belongs to another by now."""
        fraction = None if fraction is None else float(fraction)
        note = None if note is None else str(note)[: limits.ERROR_TEXT]
        # Two tasks of one handler may report at once; the log takes one write at a time.
        lock = self._lock = self._lock or asyncio.Lock()
        write = asyncio.get_running_loop().create_task(self._write(lock, fraction, note))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        await asyncio.shield(write)

    async def _write(self, lock: asyncio.Lock, fraction: float | None, note: str | None) -> None:
        async with lock:
            held = self._held
            if self._closed or held.ending is Ending.SUPERSEDED:
                return
            assert held.last is not None
            record = records.follow(
                self._origin,
                held.last,
                State.RUNNING,
                actor=self._log.actor,
                now=self._log.now(),
                progress=fraction,
                note=note,
            )
            try:
                held.last = await self._log.append(record)
            except Overtaken:
                # The handler may swallow the error; the cancellation it cannot.
                held.interrupt(Ending.SUPERSEDED)
                raise

    async def close(self) -> None:
        """Take no more reports, and wait for the write that is under way."""
        self._closed = True
        if self._writes and self._lock is not None:
            async with self._lock:
                return
