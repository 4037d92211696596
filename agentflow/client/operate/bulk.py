"""Many tasks at once: a bounded number under way, and each one's outcome as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from agentflow.client.asking import Asking
from agentflow.client.session import Session
from agentflow.client.tasks.steering import Cancellation, Steering
from agentflow.errors import TaskError, UsageError
from agentflow.protocol import api
from agentflow.protocol.api import ListRequest
from agentflow.protocol.record import State
from agentflow.views import query
from agentflow.views.result import Result
from agentflow.views.row import row_of_result

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE: Final = 64
PASSES: Final = 5
"""A task that changes its state while the lists are read is found by another reading."""
UNENDED: Final = (State.QUEUED, State.SCHEDULED, State.RETRYING, State.WAITING, State.RUNNING)


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks that have not ended; all conditions must hold. Without states, those of any."""

    states: tuple[str, ...] = ()
    queue: str | None = None
    kind: str | None = None
    label: dict[str, str] = {}
    query: str | None = None

    def test(self, now: float) -> Callable[[Result], bool]:
        """Whether a task is meant: a master of an older version knows no kind and no query.

        Raises UsageError.
        """
        try:
            wanted = query.parse(self.query or "")
        except query.QueryError as error:
            raise UsageError(f"the query {(self.query or '')[:80]!r}: {error}") from None

        def means(task: Result) -> bool:
            row = row_of_result(task)
            return self.kind in (None, row.kind) and wanted.wants(row, now)

        return means

    def requests(self) -> list[ListRequest]:
        """What to ask the master for. Raises UsageError."""
        wrong = [state for state in self.states if state not in UNENDED]
        if wrong:
            raise UsageError(
                f"state {wrong[0][:40]!r} cannot be cancelled; only {', '.join(UNENDED)} can"
            )
        return [
            ListRequest(
                state=state,
                queue=self.queue,
                kind=self.kind,
                label=self.label,
                query=self.query,
                limit=api.LIST_MOST,
            )
            for state in UNENDED
            if not self.states or state in self.states
        ]


async def concurrently(
    items: AsyncIterator[T], work: Callable[[T], Awaitable[R]], at_once: int = AT_ONCE
) -> AsyncGenerator[R]:
    """The outcome of `work` for every item, as they end; the first error ends all."""
    under_way: set[asyncio.Future[R]] = set()
    try:
        async for item in items:
            under_way.add(asyncio.ensure_future(work(item)))
            if len(under_way) < at_once:
                continue
            ended, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for future in ended:
                yield future.result()
        while under_way:
            ended, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for future in ended:
                yield future.result()
    finally:
        for future in under_way:
            future.cancel()
        if under_way:
            await asyncio.wait(under_way)


class Bulk:
    """Cancels many tasks."""

    def __init__(self, session: Session, asking: Asking, steering: Steering) -> None:
        self._session = session
        self._asking = asking
        self._steering = steering

    async def count(self, selection: Selection) -> dict[str, int]:
        """How many tasks a selection has now, by state. Raises MasterAbsent, UsageError."""
        counts = {}
        for request in selection.requests():
            answer = await self._asking.page(msgspec.structs.replace(request, limit=1))
            if answer.total:
                counts[str(request.state)] = answer.total
        return counts

    async def total(self, state: str, label: Mapping[str, str]) -> int:
        """How many tasks with these labels are in a state. Raises MasterAbsent."""
        request = ListRequest(state=state, label=dict(label), limit=1)
        return (await self._asking.page(request)).total

    async def cancel(self, selection: Selection) -> AsyncGenerator[Cancellation]:
        """Cancel what a selection has; a task that moves on meanwhile is found all the same."""

        async def end(task: Result) -> Cancellation:
            return await self._steering.end(task.id, message=task.message)

        requests = selection.requests()
        means = selection.test(self._session.js.now().timestamp())
        seen: set[str] = set()
        for _ in range(PASSES):
            before = len(seen)
            async for outcome in concurrently(self._unseen(requests, seen, means), end):
                yield outcome
            if len(seen) == before:
                return

    async def _unseen(
        self, requests: Sequence[ListRequest], seen: set[str], means: Callable[[Result], bool]
    ) -> AsyncGenerator[Result]:
        for first in requests:
            request: ListRequest | None = first
            while request is not None:
                answer = await self._asking.page(request)
                for task in answer.tasks:
                    if task.id not in seen and means(task):
                        seen.add(task.id)
                        yield task
                more = answer.next if answer.tasks else None
                request = msgspec.structs.replace(request, after=more) if more else None

    async def cancel_ids(
        self, ids: Sequence[str]
    ) -> AsyncGenerator[tuple[str, Cancellation | TaskError]]:
        """Cancel tasks by id; an id that nobody knows comes with the error."""

        async def end(task_id: str) -> tuple[str, Cancellation | TaskError]:
            try:
                return task_id, await self._steering.end(task_id)
            except TaskError as error:
                return task_id, error

        self._session.check()
        async for outcome in concurrently(as_stream(dict.fromkeys(ids)), end):
            yield outcome


async def as_stream(items: Mapping[T, object]) -> AsyncGenerator[T]:
    """What is there already, for `concurrently`."""
    for item in items:
        yield item
