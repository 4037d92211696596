"""What the commands call of a client, answered by a gateway. Its methods mean what Client's do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Final, Self

import msgspec

from agentflow.client import Event, Result
from agentflow.client.operate.bulk import Selection, as_stream, concurrently
from agentflow.client.tasks.ids import Ids
from agentflow.client.tasks.steering import Cancellation
from agentflow.errors import NoAnswer, NotConnected, StreamFull, TaskError, TaskNotFound
from agentflow.protocol import subjects
from agentflow.protocol.record import Failure, Record, State, Timings, Usage
from agentflow.protocol.task import TaskBody
from agentflow.remote.wire import Wire
from agentflow.views.result import result_of_record

AGAIN_EVERY: Final = 1.0
AT_ONCE: Final = 16
PAGE: Final = 1000


class Handle(msgspec.Struct, frozen=True):
    """A task that was submitted."""

    id: str
    queue: str
    message_sequence: int = 0


class _Task(msgspec.Struct):
    """A task as a gateway tells it."""

    id: str
    state: str
    queue: str
    priority: str
    kind: str
    model: str | None
    labels: dict[str, str]
    attempt: int
    failures: int
    worker: str | None
    submitted: datetime | None
    started: datetime | None
    ended: datetime | None
    updated: datetime | None
    resume_at: datetime | None
    reason: str | None
    stop_reason: str | None
    error: str | None
    usage: Usage
    cost_usd: float | None
    progress: float | None
    note: str | None
    simulated: bool

    def result(self) -> Result:
        """The same as a result without text."""
        type_, _, message = (self.error or "").partition(": ")
        return Result(
            id=self.id,
            state=self.state,
            queue=self.queue,
            priority=self.priority,
            kind=self.kind,
            model=self.model,
            labels=self.labels,
            attempts=self.attempt,
            failures=self.failures,
            actor=self.worker or "",
            stop_reason=self.stop_reason,
            reason=self.reason,
            error=Failure(type=type_, message=message) if self.error else None,
            usage=self.usage,
            cost_usd=self.cost_usd,
            timings=Timings(submitted=self.submitted, started=self.started, ended=self.ended),
            resume_at=self.resume_at,
            progress=self.progress,
            note=self.note,
            simulated=self.simulated,
            updated=self.updated,
        )


class _Page(msgspec.Struct):
    tasks: list[_Task]
    next: str | None


class _Step(msgspec.Struct):
    sequence: int
    record: Record


class _History(msgspec.Struct):
    records: list[_Step]


class _Stored(msgspec.Struct):
    id: str
    queue: str
    sequence: int


class _Queue(msgspec.Struct):
    queue: str
    state: str


class _Ended(msgspec.Struct):
    id: str
    state: str
    cancelled: bool
    sequence: int
    usage: Usage = Usage()
    cost_usd: float | None = None


class _Happened(msgspec.Struct, rename="camel"):
    task_id: str
    queue: str = ""
    priority: str = ""
    kind: str = ""
    model: str | None = None
    labels: dict[str, str] = {}
    attempt: int = 0
    sequence: int = 0
    text: str = ""
    offset: int = 0
    record: Record | None = None

    def event(self, name: str) -> Event:
        """The event that it was."""
        tokens = name == "task.tokens"
        return Event(
            kind="tokens" if tokens else "record" if self.record is not None else "task",
            id=self.task_id,
            sequence=self.sequence,
            record=self.record,
            queue=self.queue,
            priority=self.priority,
            task_kind=self.kind,
            model=self.model,
            labels=self.labels,
            attempt=self.attempt,
            text=self.text,
            offset=self.offset,
        )


class RemoteClient:
    """A gateway, as `async with RemoteClient(url) as client`."""

    def __init__(self, url: str, *, patience: float = 30.0) -> None:
        self._wire = Wire(url)
        self._patience = patience
        self._ids = Ids()
        self.operate = _Operate(self)
        self.history = _Log(self)

    async def __aenter__(self) -> Self:
        await self._wire.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._wire.__aexit__()

    @property
    def wire(self) -> Wire:
        """The way to the gateway."""
        return self._wire

    async def submit_body(
        self,
        body: TaskBody,
        *,
        queue: str = "default",
        priority: str = "normal",
        lane: str | None = None,
        wait_full: bool = True,
    ) -> Handle:
        """Put a task into a queue; sent again under the same id where no answer came."""
        task_id = body.id or self._ids.new()
        place = {"queue": queue, "priority": priority, "id": task_id}
        fields = msgspec.to_builtins(body) | place | ({"lane": lane} if lane else {})
        end = time.monotonic() + self._patience
        while True:
            try:
                answer = await self._wire.ask(
                    "POST", "/v1/tasks", fields, headers={"Idempotency-Key": task_id}
                )
            except StreamFull:
                if not wait_full:
                    raise
            except (NotConnected, NoAnswer):
                if time.monotonic() > end:
                    raise
            else:
                stored = answer.read(_Stored)
                return Handle(stored.id, stored.queue, stored.sequence)
            await asyncio.sleep(AGAIN_EVERY)

    async def unserved(self, queue: str) -> bool:
        """Whether no worker serves a queue, as far as the gateway knows."""
        queues = (await self._wire.ask("GET", "/v1/queues")).read(list[_Queue])
        return any(each.queue == queue and each.state == "unserved" for each in queues)

    async def get(self, task_id: str) -> Result:
        """A task as it is now."""
        subjects.check_id(task_id)
        log = await self.history.log(task_id)
        if log:
            sequence, record = log[-1]
            return result_of_record(record, sequence)
        return (await self._wire.ask("GET", f"/v1/tasks/{task_id}")).read(_Task).result()

    async def list(
        self,
        *,
        state: str | Sequence[str] | None = None,
        queue: str | None = None,
        kind: str | None = None,
        query: str | None = None,
        since: datetime | None = None,
        label: Mapping[str, str] | None = None,
        limit: int = 50,
    ) -> list[Result]:
        """Tasks, newest first."""
        found: list[Result] = []
        states = [state] if isinstance(state, str) else state or []
        asked = [
            *(("state", each) for each in states),
            ("queue", queue),
            ("kind", kind),
            ("q", query),
            ("since", since and since.isoformat()),
        ]
        wanted: list[tuple[str, str]] = [(name, value) for name, value in asked if value]
        wanted += [("label", f"{name}={value}") for name, value in (label or {}).items()]
        cursor: str | None = ""
        while cursor is not None and len(found) < limit:
            more = [("limit", str(min(PAGE, limit - len(found))))]
            more += [("cursor", cursor)] if cursor else []
            answer = await self._wire.ask("GET", "/v1/tasks", query=[*wanted, *more])  # type: ignore[arg-type]
            page = answer.read(_Page)
            found += [task.result() for task in page.tasks]
            cursor = page.next
        return found

    async def watch(
        self, task_id: str | None = None, *, tokens: bool = True
    ) -> AsyncGenerator[Event]:
        """Events as they come; of one task, beginning with its state, until it has ended."""
        path = "/v1/events" if task_id is None else f"/v1/tasks/{task_id}/events"
        query = {"records": "true", "tokens": "true" if tokens else "false"}
        async with aclosing(self._wire.events(path, query)) as events:
            async for told in events:
                event = msgspec.json.decode(told.data, type=_Happened).event(told.event)
                yield event
                if task_id is not None and event.record is not None and event.record.terminal:
                    return

    async def cancel_one(self, task_id: str) -> Cancellation:
        """End a task. Raises TaskNotFound."""
        subjects.check_id(task_id)
        ended = (await self._wire.ask("POST", f"/v1/tasks/{task_id}/cancel")).read(_Ended)
        result = Result(
            id=ended.id,
            state=ended.state,
            usage=ended.usage,
            cost_usd=ended.cost_usd,
            sequence=ended.sequence,
        )
        return Cancellation(result, already=not ended.cancelled)


class _Log:
    def __init__(self, client: RemoteClient) -> None:
        self._client = client

    async def log(self, task_id: str) -> list[tuple[int, Record]]:
        """A task's records."""
        answer = await self._client.wire.ask("GET", f"/v1/tasks/{task_id}/history")
        return [(step.sequence, step.record) for step in answer.read(_History).records]


class _Operate:
    def __init__(self, client: RemoteClient) -> None:
        self.bulk = _Bulk(client)
        self.jobs = _Jobs(client)


class _Job(msgspec.Struct):
    id: str


class _Jobs:
    def __init__(self, client: RemoteClient) -> None:
        self._client = client

    async def find(self, named: str) -> _Job:
        """The job of this id, or whose id begins so."""
        return (await self._client.wire.ask("GET", f"/v1/jobs/{named}")).read(_Job)


class _Bulk:
    def __init__(self, client: RemoteClient) -> None:
        self._client = client

    async def count(self, selection: Selection) -> dict[str, int]:
        """How many tasks a selection has now, by state."""
        counts: dict[str, int] = {}
        async for result in self._tasks(selection):
            counts[result.state] = counts.get(result.state, 0) + 1
        return counts

    async def cancel(self, selection: Selection) -> AsyncGenerator[Cancellation]:
        """Cancel what a selection has."""

        async def end(result: Result) -> Cancellation:
            return await self._client.cancel_one(result.id)

        async for outcome in concurrently(self._tasks(selection), end, AT_ONCE):
            yield outcome

    async def cancel_ids(
        self, ids: Sequence[str]
    ) -> AsyncGenerator[tuple[str, Cancellation | TaskError]]:
        """Cancel tasks by id; an id that nobody knows comes with the error."""

        async def end(task_id: str) -> tuple[str, Cancellation | TaskError]:
            try:
                return task_id, await self._client.cancel_one(task_id)
            except TaskNotFound as error:
                return task_id, error

        async for outcome in concurrently(as_stream(dict.fromkeys(ids)), end, AT_ONCE):
            yield outcome

    async def _tasks(self, selection: Selection) -> AsyncIterator[Result]:
        states: Iterable[str] = [str(request.state) for request in selection.requests()]
        for state in states:
            found = await self._client.list(
                state=State(state), queue=selection.queue, label=selection.label, limit=1_000_000
            )
            for result in found:
                yield result
