"""One submitted task: wait for its result, look at it, steer it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, TypeVar, overload

from agentflow.client.tasks.waiting import Expected, Waiting
from agentflow.errors import ResultTimeout
from agentflow.protocol.record import Record
from agentflow.views.result import Result, result_of_record

if TYPE_CHECKING:
    from agentflow.client.session import Client
    from agentflow.client.tasks.watching import Event

T = TypeVar("T")

UNKNOWN_FOR: Final = 2.0
"""Seconds an id may be unknown to all while somebody waits for its result."""
LOOK_EVERY: Final = 15.0


class TaskHandle:
    """A task by its id. `newer_than` is the sequence that its result must exceed (after a retry).

    `message_sequence` is where its message stands in AGENTFLOW_TASKS, 0 where that is not known.
    """

    __slots__ = ("_client", "_expected", "_future", "id", "message_sequence", "newer_than")

    def __init__(
        self, client: Client, task_id: str, *, newer_than: int = 0, message_sequence: int = 0
    ) -> None:
        self.id = task_id
        self.newer_than = newer_than
        self.message_sequence = message_sequence
        self._client = client
        self._expected: Expected | None = None
        self._future: asyncio.Future[tuple[Record, int]] | None = None

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
        is neither queued nor on record (it never was, or the record has expired), and TaskFailed or
        TaskCancelled unless `raise_on_failure` is false.
        """
        if newer_than is not None and newer_than != self.newer_than:
            self.expect_nothing()
            self.newer_than = newer_than
        future = self.awaited()
        if not future.done():
            try:
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

    def awaited(self) -> asyncio.Future[tuple[Record, int]]:
        """A future for the ending record and its sequence; it is being looked for."""
        if self._future is None:
            self.expect()
        future, expected = self._future, self._expected
        assert future is not None and expected is not None
        if expected.idle and not future.done():
            self._client.waiting.look_for(expected)
        return future

    async def _ended(self, future: asyncio.Future[tuple[Record, int]]) -> None:
        """Return when the result is here. Raises TaskNotFound."""
        # Waited for, not awaited: who gives up must not take the result from others who wait.
        pause = LOOK_EVERY if self.message_sequence else UNKNOWN_FOR
        while not (await asyncio.wait({future}, timeout=pause))[0]:
            pause = LOOK_EVERY
            if (
                await self._client.lookup.unknown(self.id, self.message_sequence)
                and not future.done()
            ):
                raise await self._client.lookup.not_found(self.id)

    async def record(self) -> Record | None:
        """The last record of its log as it is now, None while no worker has seen the task."""
        return (await self._client.read(self.id)).record

    def watch(self) -> AsyncIterator[Event]:
        """Its events from now on; ends when the task has ended."""
        return self._client.watch(self.id, newer_than=self.newer_than)

    async def cancel(self) -> Result:
        """End the task if it has not ended; see Flow.cancel."""
        return await self._client.steering.cancel(self.id, self.message_sequence)

    async def retry(self) -> TaskHandle:
        """Run the failed task once more; see Flow.retry."""
        return await self._client.retry(self.id)

    def expect(self, *, fresh: bool = False, idle: bool = False) -> None:
        """Take its result when it comes."""
        self._future, self._expected = expect(
            self._client.waiting, self.id, newer_than=self.newer_than, fresh=fresh, idle=idle
        )

    def expect_nothing(self) -> None:
        """Let its result pass."""
        if self._expected is not None:
            self._client.waiting.forget(self._expected)
            self._future = self._expected = None


def expect(
    waiting: Waiting, task_id: str, *, newer_than: int = 0, fresh: bool = False, idle: bool = False
) -> tuple[asyncio.Future[tuple[Record, int]], Expected]:
    """A future for the ending record and its sequence, and the interest to forget."""
    future: asyncio.Future[tuple[Record, int]] = asyncio.get_running_loop().create_future()

    def deliver(record: Record, sequence: int) -> None:
        if not future.done():
            future.set_result((record, sequence))

    return future, waiting.expect(task_id, deliver, newer_than=newer_than, fresh=fresh, idle=idle)
