"""One submitted task: wait for its result, look at it, steer it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol, TypeVar, overload

from agentflow.client.tasks.lookup import Lookup
from agentflow.client.tasks.steering import Steering
from agentflow.client.tasks.waiting import Expected, Waiting, failing
from agentflow.client.tasks.watching import Event, Watching
from agentflow.errors import IdReused, ResultTimeout
from agentflow.protocol.asked import Asked
from agentflow.protocol.record import Record
from agentflow.rules import reuse
from agentflow.views.result import Result, result_of_record
from agentflow.waits import waiting_for

T = TypeVar("T")

Ended = tuple[Record, int]
"""The record that ended a task, and its sequence."""

UNKNOWN_FOR: Final = 2.0
"""Seconds an id may be unknown to all while somebody waits for its result."""
LOOK_EVERY: Final = 15.0


class Origin(Protocol):
    """Where a handle comes from, as far as it needs it."""

    waiting: Waiting
    lookup: Lookup
    watching: Watching
    steering: Steering

    @property
    def check(self) -> Callable[[], None]:
        """Raises NotConnected or UsageError where the client does not work."""


class TaskHandle:
    """A task by its id. `newer_than` is the sequence that its result must exceed (after a retry).

    `message_sequence` is where its message stands in AGENTFLOW_TASKS, 0 where that is not known.
    """

    __slots__ = (
        "_expected",
        "_future",
        "_origin",
        "asked",
        "id",
        "message_sequence",
        "newer_than",
        "queue",
    )

    def __init__(
        self, origin: Origin, task_id: str, *, newer_than: int = 0, message_sequence: int = 0
    ) -> None:
        self.id = task_id
        self.newer_than = newer_than
        self.message_sequence = message_sequence
        self.queue: str | None = None
        """Where it was submitted, where that was done here."""
        self.asked: Asked | None = None
        """What was asked under an id that somebody gave it: no other answer is its result."""
        self._origin = origin
        self._expected: Expected | None = None
        self._future: asyncio.Future[Ended] | None = None

    def __repr__(self) -> str:
        return f"TaskHandle({self.id!r})"

    @overload
    async def result(
        self,
        timeout: float | None = None,
        *,
        raise_on_failure: bool = True,
        newer_than: int | None = None,
    ) -> Result: ...

    @overload
    async def result(
        self, timeout: float | None = None, *, type: type[T], newer_than: int | None = None
    ) -> T: ...

    async def result(
        self,
        timeout: float | None = None,
        *,
        raise_on_failure: bool = True,
        newer_than: int | None = None,
        type: type[T] | None = None,
    ) -> Result | T:
        """The result, when the task has ended; with `type`, its value as that class.

        Raises ResultTimeout after `timeout` seconds (the task goes on), TaskNotFound where the task
        is neither queued nor on record (it never was, or the record has expired), IdReused where
        the result is that of another request with this id, and TaskFailed or TaskCancelled unless
        `raise_on_failure` is false.
        """
        if newer_than is not None and newer_than != self.newer_than:
            self.expect_nothing()
            self.newer_than, self.asked = newer_than, None  # a retry may ask otherwise
        future = self.awaited()
        if not future.done():
            try:
                with waiting_for(self.queue):
                    async with asyncio.timeout(timeout):
                        await self._ended(future)
            except TimeoutError:
                raise ResultTimeout(
                    f"task {self.id} had not ended after {timeout:g} s; it goes on",
                    task_id=self.id,
                ) from None
        result = result_of_record(*future.result())
        if (raise_on_failure or type is not None) and (failure := result.failure()) is not None:
            raise failure
        return result if type is None else result.value_as(type)

    def awaited(self) -> asyncio.Future[Ended]:
        """A future for the ending record and its sequence; it is being looked for.

        A result that is here can be had where the client itself works no more.
        """
        if self._future is None:
            self.expect()
        future, expected = self._future, self._expected
        assert future is not None and expected is not None
        if not future.done():
            self._origin.check()
            if expected.idle:
                self._origin.waiting.look_for(expected)
        return future

    async def _ended(self, future: asyncio.Future[Ended]) -> None:
        """Return when the result is here. Raises TaskNotFound."""
        # Waited for, not awaited: who gives up must not take the result from others who wait.
        pause = LOOK_EVERY if self.message_sequence else UNKNOWN_FOR
        lookup = self._origin.lookup
        while not (await asyncio.wait({future}, timeout=pause))[0]:
            pause = LOOK_EVERY
            if await lookup.unknown(self.id, self.message_sequence) and not future.done():
                raise await lookup.not_found(self.id)

    async def record(self) -> Record | None:
        """The last record of its log as it is now, None while no worker has seen the task."""
        return (await self._origin.lookup.read(self.id)).record

    def watch(self) -> AsyncIterator[Event]:
        """Its events from now on; ends when the task has ended."""
        return self._origin.watching.one(self.id, newer_than=self.newer_than)

    async def cancel(self) -> Result:
        """End the task if it has not ended; see Client.cancel."""
        return await self._origin.steering.cancel(self.id, self.message_sequence)

    async def retry(self) -> TaskHandle:
        """Run the failed task once more; see Client.retry."""
        _, follows = await self._origin.steering.retry(self.id)
        return TaskHandle(self._origin, self.id, newer_than=follows)

    def expect(self, *, fresh: bool = False, idle: bool = False) -> None:
        """Take its result when it comes."""
        self._origin.check()
        future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

        fail = failing(future)

        def deliver(record: Record, sequence: int) -> None:
            try:
                if self.asked is not None:
                    reuse.check(self.id, self.asked, record)
            except IdReused as error:
                fail(error)
            else:
                if not future.done():
                    future.set_result((record, sequence))

        self._future = future
        self._expected = self._origin.waiting.expect(
            self.id,
            deliver,
            fail,
            newer_than=self.newer_than,
            fresh=fresh,
            idle=idle,
        )

    def expect_nothing(self) -> None:
        """Let its result pass."""
        if self._expected is not None:
            self._origin.waiting.forget(self._expected)
            self._future = self._expected = None
