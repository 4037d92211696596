"""Many tasks, at most so many under way: submit, yield results as they end, submit more.

What is under way counts until its result was yielded, so a slow consumer slows the submitting and
nothing piles up. Where the input raises, what is under way is waited for and yielded first: it is
paid, and nobody else holds its handles. Per task there is no asyncio task: publishing and the
arrival of a result are plain calls, and only a publish without a clean answer gets one of its own.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Generic, TypeVar

from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.client.tasks.handle import Ended, TaskHandle
from agentflow.client.tasks.submission import OUTSTANDING, Sender, Submission
from agentflow.client.tasks.waiting import Expected, Waiting
from agentflow.errors import BusError, IdReused, ResultTimeout
from agentflow.protocol.asked import NOTHING, Asked, differences
from agentflow.protocol.record import Record
from agentflow.rules import reuse
from agentflow.views.result import Result, result_of_record
from agentflow.waits import waiting_for

T = TypeVar("T")
V = TypeVar("V")

TURN = 64
"""Submissions between two turns of the event loop; results must be read meanwhile."""


class Mapping(Generic[T]):
    """One `Client.map`. `prepare` gives a submission, and whether its id is new.

    Of an id that is not, `compare` raises IdReused where its log holds another request.
    """

    def __init__(
        self,
        connection: Connection,
        waiting: Waiting,
        sender: Sender,
        prepare: Callable[[T, int], tuple[Submission, bool]],
        compare: Callable[[Submission, str], Awaitable[None]],
        *,
        concurrency: int,
        ordered: bool,
    ) -> None:
        self._connection = connection
        self._waiting = waiting
        self._sender = sender
        self._prepare = prepare
        self._compare = compare
        self._named: dict[str, Asked] = {}
        self._concurrency = concurrency
        self._ordered = ordered
        self._ended: deque[tuple[int, Record, int]] = deque()
        self._held: dict[int, tuple[int, Record, int]] = {}
        self._next = 0
        self._expected: dict[int, Expected] = {}
        self._queues: set[str] = set()
        self._open = 0
        self._unanswered = 0
        self._submitted = 0
        self._exhausted = False
        self._error: BaseException | None = None
        self._source_error: BaseException | None = None
        self._slow: set[asyncio.Task[None]] = set()
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def run(self, items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[Result]:
        """Results as they end, or in the items' order."""
        await self._waiting.ready()
        feeder = self._loop.create_task(self._feed(items))
        feeder.add_done_callback(self._fed)
        try:
            while True:
                while self._ended:
                    index, record, sequence = self._ended.popleft()
                    self._open -= 1
                    self._room.set()
                    yield result_of_record(record, sequence, index)
                if self._error is not None:
                    raise self._error
                if self._exhausted and not self._open:
                    if self._source_error is not None:
                        raise self._source_error
                    return
                self._ready.clear()
                with waiting_for(*self._queues):
                    await self._ready.wait()
        finally:
            feeder.cancel()
            for task in self._slow:
                task.cancel()
            for expected in self._expected.values():
                self._waiting.forget(expected)

    # Submitting.

    async def _feed(self, items: Iterable[T] | AsyncIterable[T]) -> None:
        if isinstance(items, AsyncIterable):
            async for item in items:
                await self._submit(item)
        else:
            for item in items:
                await self._submit(item)

    def _fed(self, feeder: asyncio.Task[None]) -> None:
        self._exhausted = True
        error = None if feeder.cancelled() else feeder.exception()
        if error is not None:
            before = self._submitted
            error.add_note(
                f"The input of map raised this. The {before} tasks before were run, and their "
                "results given first."
            )
        self._source_error = error
        self._ready.set()

    async def _submit(self, item: T) -> None:
        while self._open >= self._concurrency or self._unanswered >= OUTSTANDING:
            self._room.clear()
            await self._room.wait()
        index = self._submitted
        submission, fresh = self._prepare(item, index)
        self._submitted += 1
        self._queues.add(submission.queue)
        ask = None if fresh else self._taken(submission, index)
        self._open += 1
        self._expected[index] = self._waiting.expect(
            submission.id, functools.partial(self._arrived, index, ask), self._fail, fresh=fresh
        )
        compared = "" if fresh else f"item {index}: "
        if submission.large is not None:
            # Here: of many at once there would be no end of memory.
            await self._send(submission, compared)
            return
        if compared:
            self._send_slowly(submission, compared)
            return
        try:
            answer = self._connection.ask(
                submission.subject, submission.payload, block=submission.block
            )
        except BusError:
            self._send_slowly(submission)
        else:
            self._unanswered += 1
            answer.add_done_callback(functools.partial(self._answered, submission))
        if self._submitted % TURN == 0:
            await asyncio.sleep(0)

    def _taken(self, submission: Submission, index: int) -> Asked | None:
        """What is asked under the id that an item gives. Raises IdReused for two with one id."""
        ask = submission.asked
        if ask is not None and (before := self._named.setdefault(submission.id, ask)) != ask:
            raise IdReused(submission.id, differences(before, ask), where=f"item {index}: ")
        return ask

    def _answered(self, submission: Submission, answer: asyncio.Future[Message]) -> None:
        self._unanswered -= 1
        self._room.set()
        if answer.cancelled():
            return
        if answer.exception() is not None or not _stored(answer.result()):
            self._send_slowly(submission)

    def _send_slowly(self, submission: Submission, compared: str = "") -> None:
        # It keeps its id, so a message that was stored after all does no harm.
        task = self._loop.create_task(self._send(submission, compared))
        self._slow.add(task)
        task.add_done_callback(self._slow.discard)

    async def _send(self, submission: Submission, compared: str) -> None:
        try:
            if compared:
                await self._compare(submission, compared)
            await self._sender.send(submission)
        except (BusError, IdReused) as error:
            self._fail(error)

    def _fail(self, error: BaseException | None) -> None:
        self._error = self._error or error
        self._ready.set()

    # Results.

    def _arrived(self, index: int, ask: Asked | None, record: Record, sequence: int) -> None:
        del self._expected[index]
        if ask is not None and reuse.asks_otherwise(record, ask):
            told = differences(record.asked or NOTHING, ask)
            self._fail(IdReused(record.id, told, where=f"item {index}: "))
            return
        ended = (index, record, sequence)
        if not self._ordered:
            self._ended.append(ended)
        else:
            self._held[index] = ended
            while (following := self._held.pop(self._next, None)) is not None:
                self._ended.append(following)
                self._next += 1
        self._ready.set()


def _stored(message: Message) -> bool:
    return b'"seq":' in message.data and b'"error":' not in message.data


async def as_completed(
    handles: Iterable[TaskHandle], timeout: float | None = None
) -> AsyncGenerator[Result]:
    """Results of submitted tasks as they end. Raises ResultTimeout."""
    ended: asyncio.Queue[asyncio.Future[Ended]] = asyncio.Queue()
    handles = list(handles)
    futures = [handle.awaited() for handle in handles]
    queues = {handle.queue for handle in handles}
    for future in futures:
        future.add_done_callback(ended.put_nowait)
    loop = asyncio.get_running_loop()
    end = None if timeout is None else loop.time() + timeout
    try:
        for left in range(len(futures), 0, -1):
            try:
                with waiting_for(*queues):
                    async with asyncio.timeout_at(end):
                        future = await ended.get()
            except TimeoutError:
                raise ResultTimeout(
                    f"{left} of {len(futures)} tasks had not ended after {timeout:g} s; they go on"
                ) from None
            yield result_of_record(*future.result())
    finally:
        for future in futures:
            future.remove_done_callback(ended.put_nowait)


async def typed(results: AsyncGenerator[Result], kind: type[V]) -> AsyncGenerator[V]:
    """Each result's value as a class. Raises TaskError for the first that is none."""
    async with aclosing(results):
        async for result in results:
            if (failure := result.failure()) is not None:
                raise failure
            yield result.value_as(kind)
