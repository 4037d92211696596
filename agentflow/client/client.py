"""The client: `async with agentflow.connect() as client`."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, NamedTuple, Self, TypeVar, Unpack, overload

from agentflow import opened
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.client.asking import Asking
from agentflow.client.live.history import History
from agentflow.client.live.live import NEWEST, Live, Sink, snapshot
from agentflow.client.operate import limits
from agentflow.client.operate.bulk import Selection
from agentflow.client.operate.deadletters import DeadLetters
from agentflow.client.operate.operate import Operate
from agentflow.client.operate.serving import unserved
from agentflow.client.session import Session
from agentflow.client.tasks.handle import TaskHandle
from agentflow.client.tasks.mapping import as_completed, typed
from agentflow.client.tasks.options import MapOptions, SubmitOptions, spelled_out
from agentflow.client.tasks.several import several
from agentflow.client.tasks.steering import Cancellation
from agentflow.client.tasks.submission import PATIENCE
from agentflow.client.tasks.tasks import Item, Tasks
from agentflow.client.tasks.watching import Event
from agentflow.config import Connect, connect_options, located
from agentflow.errors import NotConnected, UsageError
from agentflow.protocol import subjects
from agentflow.protocol.api import (
    LIST_DEFAULT,
    GateView,
    ListRequest,
    StatsView,
    WorkerView,
)
from agentflow.protocol.record import Last, Record, State
from agentflow.protocol.task import TaskBody
from agentflow.rules.draining import DrainView
from agentflow.views import feed
from agentflow.views.batches import BatchView
from agentflow.views.limits import RouteView
from agentflow.views.result import Result
from agentflow.views.why import Why

T = TypeVar("T")

SNAPSHOT: Final = 20_000
"""Messages of a stream that a snapshot reads."""

_Gates = list[GateView]
_Routes = list[RouteView]
_Items = list[feed.Item]
_Results = list[Result]  # within the class `list` is a method
_Workers = list[WorkerView]


def connect(
    nats: str | None = None,
    *,
    creds: str | None = None,
    user: str | None = None,
    tls_ca: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    inbox_prefix: str | None = None,
    context: str | None = None,
    store: str | None = None,
    options: Connect | None = None,
) -> Client:
    """A client, to be used as `async with connect() as client` or `client = await connect()`.

    Without a server named here or in AGENTFLOW_NATS it is the local stack's. A password comes from
    AGENTFLOW_PASSWORD, or with `options`. Raises UsageError.
    """
    if options is None:
        options = connect_options(
            nats=nats,
            creds=creds,
            user=user,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            inbox_prefix=inbox_prefix,
            context=context,
        )
    return Client(located(options, store))


class _Parts(NamedTuple):
    """What stands on an open session."""

    session: Session
    asking: Asking
    tasks: Tasks
    operate: Operate
    history: History


class Client:
    """A connection to AgentFlow. Its methods raise what errors.py lists, each saying what to do.

    It works in the process and the event loop that opened it; anywhere else, and before and after
    that, every method says so (NotConnected, UsageError).
    """

    def __init__(
        self, options: Connect, *, timeout: float = 2.0, patience: float = PATIENCE
    ) -> None:
        self.options = options
        self._timeout = timeout
        self._patience = patience
        self._opened: _Parts | None = None

    # Opening and closing.

    async def open(self) -> Self:
        """Connect, unless it is open here. Raises NotConnected, PermissionDenied."""
        if self._opened is None or not self._opened.session.usable:
            session = await Session.open(self.options, self._timeout)
            asking = Asking(session)
            tasks = Tasks(session, asking, patience=self._patience)
            operate = Operate(session, asking, tasks)
            self._opened = _Parts(session, asking, tasks, operate, History(session))
        opened.client.set(self)
        return self

    async def close(self) -> None:
        """Write what is buffered and disconnect. Submitted tasks go on."""
        if opened.client.get() is self:
            opened.client.set(None)
        if self._opened is not None:
            await self._opened.session.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.open().__await__()

    # Its parts. Everything below goes through them, and so past this one check.

    @property
    def _parts(self) -> _Parts:
        if self._opened is None:
            raise NotConnected(
                "this client is not open; use it as: async with agentflow.connect() as client"
            )
        self._opened.session.check()
        return self._opened

    @property
    def connection(self) -> Connection:
        """The open connection."""
        return self._parts.session.connection

    @property
    def js(self) -> JetStream:
        """JetStream on it."""
        return self._parts.session.js

    @property
    def tasks(self) -> Tasks:
        """What serves the methods for tasks."""
        return self._parts.tasks

    @property
    def operate(self) -> Operate:
        """What serves the methods for many tasks, queues and workers."""
        return self._parts.operate

    @property
    def dead(self) -> DeadLetters:
        """Dead letters: find, group, retry, drop."""
        return self._parts.operate.dead

    @property
    def history(self) -> History:
        """The past, from the records as far as they are kept."""
        return self._parts.history

    # Submitting.

    @spelled_out(SubmitOptions)
    async def submit(
        self, prompt: str | None = None, **options: Unpack[SubmitOptions]
    ) -> TaskHandle:
        """Put a task into a queue; returns when the server has stored it.

        Waits while the queue is full or the server is away (up to 30 s). A second submission of an
        id is harmless: the task runs once. Where something else was asked under the id nothing is
        sent (IdReused). An image or document in params.messages that has a `path` is read from
        there (docs/client.md). Raises InvalidTask, UsageError, BusError.
        """
        return await self.tasks.submit(prompt, **options)

    async def submit_body(
        self,
        body: TaskBody,
        *,
        queue: str = "default",
        priority: str = "normal",
        lane: str | None = None,
        id: str | None = None,
        reply: str | None = None,
        needs: str | None = None,
        follows: int = 0,
        wait_full: bool = True,
    ) -> TaskHandle:
        """`submit` for a body that is there; reads no files. `follows` continues a failed log."""
        return await self.tasks.submit_body(
            body,
            queue=queue,
            priority=priority,
            lane=lane,
            id=id,
            reply=reply,
            needs=needs,
            follows=follows,
            wait_full=wait_full,
        )

    @overload
    def map(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        concurrency: int = 200,
        ordered: bool = False,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[Result]: ...
    @overload
    def map(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        concurrency: int = 200,
        ordered: bool = False,
        type: type[T],
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[T]: ...
    @spelled_out(MapOptions)
    def map(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        concurrency: int = 200,
        ordered: bool = False,
        type: type[T] | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[Result] | AsyncGenerator[T]:
        """Run a task for each item; yields results as they end, or in the items' order.

        At most `concurrency` tasks are under way; items are taken as there is room. A task that
        fails is yielded like any other (`result.ok`), with `result.index` its item's place. Options
        are those of `submit`; an item's own fields come first. Who stops early leaves what is under
        way to run. With `type` each is its value as that class, and the first failure is raised.
        Raises UsageError at once where `items` is a text or a dict, InvalidTask for an item that is
        no task, IdReused for one whose id is that of another request, what `items` raises (either
        after the results of the tasks before it), and BusError.
        """
        results = self.tasks.map(items, concurrency=concurrency, ordered=ordered, **options)
        return results if type is None else typed(results, type)

    @spelled_out(MapOptions)
    async def gather(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        concurrency: int = 200,
        raise_on_failure: bool = False,
        **options: Unpack[MapOptions],
    ) -> _Results:
        """`map` in the items' order, as a list.

        Failures are in it like any other result (`result.ok`); with `raise_on_failure` the first
        one is raised, and what is under way runs on.
        """
        results = []
        async with aclosing(
            self.map(items, concurrency=concurrency, ordered=True, **options)
        ) as run:
            async for result in run:
                if raise_on_failure and (failure := result.failure()) is not None:
                    raise failure
                results.append(result)
        return results

    # Results and events.

    def as_completed(
        self, handles: Iterable[TaskHandle], *, timeout: float | None = None
    ) -> AsyncGenerator[Result]:
        """The results of some tasks as they end, failures among them (`result.ok`).

        Raises ResultTimeout when not all have ended after `timeout` seconds.
        """
        self._parts.session.check()
        several(handles, "tasks")
        return as_completed(handles, timeout)

    def task(self, task_id: str, *, newer_than: int = 0) -> TaskHandle:
        """A handle for a task that was submitted elsewhere or earlier."""
        return self.tasks.handle(task_id, newer_than=newer_than)

    def expect(self, task_id: str, *, newer_than: int = 0) -> asyncio.Future[Record]:
        """A future for the record that ends a task; cancel it to wait no longer."""
        return self.tasks.expect(task_id, newer_than=newer_than)

    def watch(
        self,
        task_id: str | None = None,
        *,
        newer_than: int = 0,
        tokens: bool = True,
        after: int | None = None,
    ) -> AsyncGenerator[Event]:
        """Events as they come; of one task, beginning with its state, until it has ended.

        Of one that runs the text so far comes first. With `after`, the sequence of a record, all
        records behind it come, as far as they are kept.
        """
        return self.tasks.watch(task_id, newer_than=newer_than, tokens=tokens, after=after)

    async def read(self, task_id: str) -> Last:
        """The last record of a task's log, from the leader. Raises BusError."""
        return await self.tasks.lookup.read(subjects.check_id(task_id))

    async def get(self, task_id: str) -> Result:
        """A task as it is now; while a master lives the beginning of its id is enough.

        Raises TaskNotFound and AmbiguousId.
        """
        return await self.tasks.lookup.get(subjects.check_id(task_id))

    async def prompt(self, task_id: str, *, message: str = "") -> TaskBody | None:
        """What a task was told to do, None where its payload is gone (it has succeeded).

        `message` is the identity of the message of a task that has no record, for when no master
        answers. See `client.history` for what happened to the task.
        """
        return await self.tasks.prompts.prompt(task_id, message)

    # Steering.

    async def cancel(self, task_id: str) -> Result:
        """End a task that has not ended; returns it as it ended, which may be otherwise.

        The answer that Claude generates for it is hung up on, and what it used is kept.
        """
        return await self.tasks.steering.cancel(subjects.check_id(task_id))

    def cancel_all(
        self,
        *,
        states: Iterable[str] = (),
        queue: str | None = None,
        label: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Cancellation]:
        """Cancel all tasks that fit and have not ended; yields each as it is done.

        `cancellation.already` says that a task ended otherwise meanwhile. Raises MasterAbsent.
        """
        bulk = self.operate.bulk
        several(states, "states")
        return bulk.cancel(Selection(states=tuple(states), queue=queue, label=dict(label or {})))

    async def retry(
        self, task_id: str, payload: bytes | None = None, *, queue: str | None = None
    ) -> TaskHandle:
        """Run a failed task again, its count of failures anew; the handle waits for the new result.

        The payload is kept for 30 days in AGENTFLOW_DEAD (see `client.dead`); another may be given,
        and another queue than it was in.
        """
        return await self.tasks.retry(task_id, payload, queue=queue)

    # Pause, resume, drain, why.

    async def pause(
        self, queue: str | None = None, *, kind: str | None = None, reason: str = "operator"
    ) -> GateView:
        """Let no task of a queue or of a kind start; what runs goes on. Durable, needs no master.

        Raises PermissionDenied where this user may not.
        """
        return await self.operate.pauses.pause(queue, kind=kind, reason=reason)

    async def resume(
        self,
        queue: str | None = None,
        *,
        kind: str | None = None,
        pool: str | None = None,
        all: bool = False,
    ) -> _Gates:
        """Let what was paused or closed go on; returns what was lifted.

        `pool` is a pool, or a pool and a family with a dot between.
        """
        return await self.operate.pauses.resume(queue, kind=kind, pool=pool, all=all)

    async def pauses(self) -> _Gates:
        """What is paused or closed now, from the bucket."""
        return await self.operate.pauses.standing()

    async def drain(self, worker: str | None = None, *, all: bool = False) -> _Workers:
        """Tell a worker (its name or actor) or all to finish what they run and to exit.

        Returns those told, when each has said that it stops. Raises WorkerNotFound.
        """
        return await self.operate.draining.workers(worker, all=all)

    async def drain_tasks(
        self,
        queue: str | None = None,
        *,
        kind: str | None = None,
        reason: str = "drain",
        timeout: float | None = None,
        told: Callable[[DrainView], None] = lambda _: None,
    ) -> DrainView:
        """Pause a queue or a kind, and wait until nothing of it runs. Durable, needs no master.

        The pause stays until `resume`. After `timeout` seconds the view returned is not `done` and
        says what runs; `told` gets each view before. Takes three seconds at least.
        """
        return await self.operate.draining.tasks(
            queue, kind, reason=reason, timeout=timeout, told=told
        )

    async def limits(self) -> _Routes:
        """How the limits of all routes stand, and who waits for them. Needs no master."""
        return await limits.standing(self.js)

    async def why(self, task_id: str) -> Why:
        """Why a task waits, or where it stands; while a master lives it knows a queued one's place.

        Raises TaskNotFound and AmbiguousId.
        """
        return await self.operate.questions.why(task_id)

    async def batches(self) -> builtins.list[BatchView]:
        """The batches under way, and what is gathered for the next ones."""
        return await self.operate.batches.standing()

    async def cancel_batch(self, batch_id: str) -> BatchView:
        """Have a batch cancelled; what is not answered by then fails with `batch_canceled`."""
        return await self.operate.batches.cancel(batch_id)

    # The whole.

    async def list(
        self,
        *,
        state: str | Sequence[str] | None = None,
        queue: str | None = None,
        kind: str | None = None,
        label: Mapping[str, str] | None = None,
        since: datetime | None = None,
        query: str | None = None,
        limit: int = LIST_DEFAULT,
    ) -> list[Result]:
        """Tasks, newest first; `since` is the earliest last change, `query` a filter as the
        dashboard's. Raises MasterAbsent."""
        states = [state] if isinstance(state, str) else list(state or ())
        if wrong := [each for each in states if each not in set(State)]:
            raise UsageError(f"state {wrong[0][:40]!r} is not one of {', '.join(State)}")
        request = ListRequest(
            state=states[0] if len(states) == 1 else None,
            states=states if len(states) > 1 else [],
            queue=queue,
            kind=kind,
            label=dict(label or {}),
            since=since,
            query=query,
            limit=limit,
        )
        return await self._parts.asking.tasks(request)

    async def stats(self) -> StatsView:
        """Queues, states, tokens and cost. Raises MasterAbsent."""
        return await self._parts.asking.stats()

    async def workers(self) -> _Workers:
        """The workers, lost ones included. Raises MasterAbsent."""
        return await self._parts.asking.workers()

    def live(self, sink: Sink, *, newest: int = NEWEST) -> Live:
        """All that a dashboard shows, told to `sink` as it comes: `async with client.live(sink):`.

        Reads at most the `newest` messages of a stream, and needs no master. See views/feed.py.
        """
        parts = self._parts
        return Live(parts.session, parts.asking, sink, newest=newest)

    async def snapshot(self, *, newest: int = SNAPSHOT) -> _Items:
        """One complete picture as items of `live`; takes as long as a heartbeat needs to come."""
        parts = self._parts
        return await snapshot(parts.session, parts.asking, newest=newest)

    async def unserved(self, queue: str) -> bool:
        """Whether no worker serves a queue; needs no master."""
        return await unserved(self.js, queue)
