"""The task messages a worker holds, and the lease that keeps them its own.

A held message is renewed three times a lease, whether its task runs, waits or asks. Renewal only
saves work: what is safe is decided by the log alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Any

from agentflow.bus.streams.puller import ACK, IN_PROGRESS, nak
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Delivered
from agentflow.errors import NotConnected
from agentflow.handlers.contract import Run
from agentflow.protocol.record import Last
from agentflow.worker.tokens import TokenStream


class Ending(StrEnum):
    """Why a run is interrupted from outside."""

    SUPERSEDED = "superseded"  # another writer owns the log: leave quietly
    CANCELLED = "cancelled"  # somebody asked for it: keep the usage in a final record
    STOPPING = "stopping"  # this worker stops: hand the task back


class Interrupted(Exception):
    """What was done for a held message was ended from outside; its `ending` says why."""


class Held:
    """One held message: its delivery, its place in the log, and the run that works on it."""

    __slots__ = (
        "_interruptible",
        "_waiting",
        "by",
        "charged",
        "delivered",
        "end_without",
        "ending",
        "id",
        "kind",
        "last",
        "over_at",
        "queue",
        "run",
        "since",
        "stream",
        "told",
        "work",
    )

    def __init__(self, delivered: Delivered) -> None:
        self.delivered = delivered
        self.charged: float | None = None
        """Tokens that its lane was charged, where its queue has lanes."""
        self.id = ""
        self.queue = ""
        self.kind = ""
        self.since = datetime.now(UTC)
        self.last: Last | None = None
        """The record this worker wrote last for the task; set once it is claimed."""
        self.run: Run | None = None
        self.stream: TokenStream | None = None
        """The text that the run has generated."""
        self.ending: Ending | None = None
        self.by: str | None = None
        """Who asked for that ending, where somebody said so."""
        self.work: asyncio.Task[None] | None = None
        """The asyncio task in which all of this is done."""
        self.end_without: Callable[[], Coroutine[Any, Any, None]] | None = None
        """Ends the attempt without its handler, while that runs."""
        self.over_at: float | None = None
        """By time.monotonic: when the handler that runs must have ended."""
        self.told = False
        """Whether somebody was told that the handler does not."""
        self._interruptible = False
        self._waiting: list[asyncio.Future[None]] = []

    async def let_go(self) -> None:
        """Return when this worker holds the message no longer."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def tell_let_go(self) -> None:
        """Wake those who wait for that. Frees what leads back here: memory is free at once."""
        self.run = self.work = self.end_without = None
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def interrupt(self, ending: Ending, by: str | None = None) -> None:
        """End what is interruptible now or will be; a write under way is finished first."""
        if self.ending is None:
            self.ending, self.by = ending, by
            if self.over_at is not None:
                self.over_at = min(self.over_at, time.monotonic())
            if self._interruptible and self.work is not None:
                self.work.cancel()

    def leave_handler(self, work: asyncio.Task[None]) -> None:
        """From here on `work` is done for the message, and not what its handler does."""
        self._interruptible = False
        self.over_at, self.told = None, False
        self.work = work

    def interruptible(self) -> _Interruptible:
        """Within it, `interrupt` ends what `work` does; then, or before, it raises Interrupted."""
        return _Interruptible(self)


class _Interruptible:
    __slots__ = ("_held",)

    def __init__(self, held: Held) -> None:
        self._held = held

    def __enter__(self) -> None:
        if self._held.ending is not None:
            raise Interrupted
        self._held._interruptible = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._held._interruptible = False
        if error is None or self._held.ending is None:
            return
        # Whatever the code within made of its cancellation: its asyncio task goes on.
        current = asyncio.current_task()
        assert current is not None
        current.uncancel()
        raise Interrupted from error


class Holding:
    """All messages held by this process, by identity."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._held: dict[str, Held] = {}
        self.lease = 15.0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def get(self, identity: str) -> Held | None:
        """The message of this identity, if held."""
        return self._held.get(identity)

    def of_task(self, task_id: str) -> list[Held]:
        """The messages of this task, whether it runs already or waits for its claim.

        Two messages may have one id. A search: it is asked only when somebody cancels a task.
        """
        return [held for held in self._held.values() if held.id == task_id]

    def add(self, held: Held) -> None:
        """Hold a message."""
        self._held[held.delivered.identity] = held

    def remove(self, held: Held) -> None:
        """Hold it no longer."""
        self._held.pop(held.delivered.identity, None)

    def ack(self, held: Held) -> None:
        """Tell the queue that the message is done with; without a connection it comes again."""
        self._answer(held, ACK)

    def give_back(self, held: Held, delay: float = 0.0) -> None:
        """Tell the queue to deliver the message again, after `delay` seconds."""
        self._answer(held, nak(delay))

    def _answer(self, held: Held, answer: bytes) -> None:
        try:
            self._connection.publish(held.delivered.message.reply, answer)
        except NotConnected:
            return

    async def renew(self) -> None:
        """Renew all held messages, three times a lease; runs until cancelled."""
        while True:
            await asyncio.sleep(self.lease / 3)
            for held in self:
                self._answer(held, IN_PROGRESS)
