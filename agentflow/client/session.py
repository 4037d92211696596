"""The client: `async with agentflow.connect() as client`."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Generator,
    Iterable,
    Mapping,
)
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, Self

from agentflow.actor import actor_name
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.client.live.history import History
from agentflow.client.live.live import NEWEST, Live, Sink, snapshot
from agentflow.client.operate.asking import Asking
from agentflow.client.operate.bulk import Bulk, Selection
from agentflow.client.operate.deadletters import DeadLetters
from agentflow.client.operate.draining import Draining
from agentflow.client.operate.pauses import Pauses
from agentflow.client.operate.serving import unserved
from agentflow.client.operate.steering import Cancellation, Steering
from agentflow.client.operate.why import Asked
from agentflow.client.tasks import mapping, submission
from agentflow.client.tasks.handle import TaskHandle
from agentflow.client.tasks.ids import Ids
from agentflow.client.tasks.lookup import Lookup, read
from agentflow.client.tasks.prompts import Prompts
from agentflow.client.tasks.submission import PATIENCE, Sender, Submission, fields_of
from agentflow.client.tasks.waiting import Waiting
from agentflow.client.tasks.watching import Event, Watching
from agentflow.config import Connect, connect_options, located
from agentflow.errors import (
    NotConnected,
    UsageError,
)
from agentflow.log.task import TaskLog
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
from agentflow.views.result import Result
from agentflow.views.why import Why

Item = str | Mapping[str, Any] | TaskBody
"""A task: its prompt, its fields, or its body. A mapping may also give `queue` and `priority`."""

SNAPSHOT: Final = 20_000
"""Messages of a stream that a snapshot reads."""

_Gates = list[GateView]
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


class Client:
    """A connection to AgentFlow. Its methods raise what errors.py lists, each saying what to do."""

    def __init__(
        self, options: Connect, *, timeout: float = 2.0, patience: float = PATIENCE
    ) -> None:
        self.options = options
        self._timeout = timeout
        self._patience = patience
        self._connection: Connection | None = None
        self._ids = Ids()

    # Opening and closing.

    async def open(self) -> Self:
        """Connect. Raises NotConnected, PermissionDenied."""
        name = actor_name("client")
        connection = await Connection.open(self.options, name, self._timeout)
        self._connection = connection
        self.js = JetStream(connection)
        self.log = TaskLog(self.js, name)
        self.waiting = Waiting(self.js)
        self.sender = Sender(self.js, patience=self._patience)
        self.asking = Asking(connection)
        self.lookup = Lookup(self.js, self.log, self.asking)
        self.watching = Watching(self.js)
        self.steering = Steering(self.js, self.log, self.sender, self.asking)
        self.bulk = Bulk(self.asking, self.steering)
        self.dead = DeadLetters(self.js, self.steering)
        self.gates = Pauses(self.js)
        self.history = History(self.js)
        self.prompts = Prompts(self.js, self.asking)
        return self

    async def close(self) -> None:
        """Write what is buffered and disconnect. Submitted tasks go on."""
        if self._connection is not None:
            self.waiting.close()
            await self._connection.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.open().__await__()

    @property
    def connection(self) -> Connection:
        """The open connection."""
        if self._connection is None:
            raise NotConnected("use the client as: async with agentflow.connect() as client")
        return self._connection

    # Submitting.

    async def submit(
        self,
        prompt: str | None = None,
        *,
        queue: str = "default",
        priority: str = "normal",
        id: str | None = None,
        kind: str | None = None,
        model: str | None = None,
        system: str | None = None,
        max_tokens: int | None = None,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        max_attempts: int | None = None,
        labels: Mapping[str, str] | None = None,
        not_before: datetime | None = None,
        deadline: datetime | None = None,
        start_within: float | None = None,
        reply: str | None = None,
        needs: str | None = None,
    ) -> TaskHandle:
        """Put a task into a queue; returns when the server has stored it.

        Waits while the queue is full or the server is away (up to 30 s). A second submission of an
        id is harmless: the task runs once. Raises InvalidTask, UsageError, BusError.
        """
        fields: dict[str, Any] = {"prompt": prompt}
        if kind is not None:
            fields["kind"] = kind
        if model is not None:
            fields["model"] = model
        if system is not None:
            fields["system"] = system
        if max_tokens is not None:
            fields["max_tokens"] = max_tokens
        if params is not None:
            fields["params"] = params
        if timeout is not None:
            fields["timeout"] = timeout
        if max_attempts is not None:
            fields["max_attempts"] = max_attempts
        if labels is not None:
            fields["labels"] = labels
        if not_before is not None:
            fields["not_before"] = not_before
        if deadline is not None:
            fields["deadline"] = deadline
        if start_within is not None:
            fields["start_within"] = start_within
        message = submission.prepare(
            fields,
            task_id=id or self._ids.new(),
            queue=queue,
            priority=priority,
            reply=reply,
            needs=needs,
        )
        return await self._send(message, fresh=id is None)

    async def submit_body(
        self,
        body: TaskBody,
        *,
        queue: str = "default",
        priority: str = "normal",
        id: str | None = None,
        reply: str | None = None,
        needs: str | None = None,
        follows: int = 0,
        wait_full: bool = True,
    ) -> TaskHandle:
        """`submit` for a body that is there. `follows` continues a failed task's log."""
        given = id or body.id
        message = submission.prepare(
            body,
            task_id=given or self._ids.new(),
            queue=queue,
            priority=priority,
            reply=reply,
            needs=needs,
            follows=follows,
        )
        return await self._send(
            message, fresh=given is None, newer_than=follows, wait_full=wait_full
        )

    async def _send(
        self, message: Submission, *, fresh: bool, newer_than: int = 0, wait_full: bool = True
    ) -> TaskHandle:
        handle = TaskHandle(self, message.id, newer_than=newer_than)
        if fresh and self.waiting.up:
            # The result may be here before somebody asks for it.
            handle.expect(fresh=True, idle=True)
        try:
            ack = await self.sender.send(message, wait_full=wait_full)
        except BaseException:
            handle.expect_nothing()
            raise
        handle.message_sequence = ack.seq
        return handle

    def map(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        concurrency: int = 200,
        ordered: bool = False,
        queue: str = "default",
        priority: str = "normal",
        **options: Any,
    ) -> AsyncGenerator[Result]:
        """Run a task for each item; yields results as they end, or in the items' order.

        At most `concurrency` tasks are under way; items are taken as there is room. A task that
        fails is yielded like any other (`result.ok`), with `result.index` its item's place. Options
        are those of `submit`; an item's own fields come first. Who stops early leaves what is under
        way to run. Raises InvalidTask for an item that is no task, and BusError.
        """
        if concurrency < 1:
            raise UsageError(f"concurrency is {concurrency}, should be 1 or more")
        if "id" in options:
            raise UsageError("an id belongs to one task: give it in the item")
        common = {name: value for name, value in options.items() if value is not None}
        extra = {name: common.pop(name) for name in ("reply", "needs") if name in common}

        def prepare(item: Item, index: int) -> tuple[Submission, bool]:
            fields = {**common, **fields_of(item)}
            given = fields.pop("id", None)
            try:
                message = submission.prepare(
                    fields,
                    task_id=given or self._ids.new(),
                    queue=fields.pop("queue", queue),
                    priority=fields.pop("priority", priority),
                    **extra,
                )
            except UsageError as error:
                raise type(error)(f"item {index}: {error}") from None
            return message, given is None

        run = mapping.Mapping(
            self.connection,
            self.waiting,
            self.sender,
            prepare,
            concurrency=concurrency,
            ordered=ordered,
        )
        return run.run(items)

    async def gather(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        concurrency: int = 200,
        raise_on_failure: bool = False,
        **options: Any,
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
        return mapping.as_completed(handles, timeout)

    def task(self, task_id: str, *, newer_than: int = 0) -> TaskHandle:
        """A handle for a task that was submitted elsewhere or earlier."""
        return TaskHandle(self, subjects.check_id(task_id), newer_than=newer_than)

    def expect(self, task_id: str, *, newer_than: int = 0) -> asyncio.Future[Record]:
        """A future for the record that ends a task; cancel it to wait no longer."""
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()

        def deliver(record: Record, _: int) -> None:
            if not future.done():
                future.set_result(record)

        expected = self.waiting.expect(task_id, deliver, newer_than=newer_than)
        future.add_done_callback(lambda _: self.waiting.forget(expected))
        return future

    def watch(
        self, task_id: str | None = None, *, newer_than: int = 0, tokens: bool = True
    ) -> AsyncGenerator[Event]:
        """Events as they come; of one task, beginning with its state, until it has ended."""
        if task_id is None:
            return self.watching.all(tokens=tokens)
        subjects.check_id(task_id)
        return self.watching.one(task_id, newer_than=newer_than, tokens=tokens)

    async def read(self, task_id: str) -> Last:
        """The last record of a task's log, from the leader. Raises BusError."""
        return await read(self.log, subjects.check_id(task_id))

    async def get(self, task_id: str) -> Result:
        """A task as it is now; while a master lives the beginning of its id is enough.

        Raises TaskNotFound and AmbiguousId.
        """
        return await self.lookup.get(subjects.check_id(task_id))

    async def prompt(self, task_id: str, *, message: str = "") -> TaskBody | None:
        """What a task was told to do, None where its payload is gone (it has succeeded).

        `message` is the identity of the message of a task that has no record, for when no master
        answers. See `client.history` for what happened to the task.
        """
        return await self.prompts.prompt(task_id, message)

    # Steering.

    async def cancel(self, task_id: str) -> Result:
        """End a task that has not ended; returns it as it ended, which may be otherwise.

        The answer that Claude generates for it is hung up on, and what it used is kept.
        """
        return await self.steering.cancel(subjects.check_id(task_id))

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
        selection = Selection(states=tuple(states), queue=queue, label=dict(label or {}))
        return self.bulk.cancel(selection)

    async def retry(self, task_id: str, payload: bytes | None = None) -> TaskHandle:
        """Run a failed task again, its count of failures anew; the handle waits for the new result.

        The payload is kept for 30 days in AGENTFLOW_DEAD (see `client.dead`); another may be given.
        """
        message, follows = await self.steering.retry(subjects.check_id(task_id), payload)
        return TaskHandle(self, message.id, newer_than=follows)

    # Pause, resume, drain, why.

    async def pause(
        self, queue: str | None = None, *, kind: str | None = None, reason: str = "operator"
    ) -> GateView:
        """Let no task of a queue or of a kind start; what runs goes on. Durable, needs no master.

        Raises PermissionDenied where this user may not.
        """
        return await self.gates.pause(queue, kind=kind, reason=reason)

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
        return await self.gates.resume(queue, kind=kind, pool=pool, all=all)

    async def pauses(self) -> _Gates:
        """What is paused or closed now, from the bucket."""
        return await self.gates.standing()

    async def drain(self, worker: str | None = None, *, all: bool = False) -> _Workers:
        """Tell a worker (its name or actor) or all to finish what they run and to exit.

        Returns those told, when each has said that it stops. Raises WorkerNotFound.
        """
        return await self.gates.drain(worker, all=all)

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
        pauses = self.gates
        return await Draining(self.connection, pauses, self.asking).run(
            queue, kind, reason=reason, timeout=timeout, told=told
        )

    async def why(self, task_id: str) -> Why:
        """Why a task waits, or where it stands; while a master lives it knows a queued one's place.

        Raises TaskNotFound and AmbiguousId.
        """
        return await Asked(self).why(task_id)

    # The whole.

    async def list(
        self,
        *,
        state: str | None = None,
        queue: str | None = None,
        label: Mapping[str, str] | None = None,
        limit: int = LIST_DEFAULT,
    ) -> _Results:
        """Tasks, newest first, with the beginnings of their texts. Raises MasterAbsent."""
        if state is not None and state not in set(State):
            raise UsageError(f"state {state[:40]!r} is not one of {', '.join(State)}")
        request = ListRequest(state=state, queue=queue, label=dict(label or {}), limit=limit)
        return await self.asking.tasks(request)

    async def stats(self) -> StatsView:
        """Queues, states, tokens and cost. Raises MasterAbsent."""
        return await self.asking.stats()

    async def workers(self) -> _Workers:
        """The workers, lost ones included. Raises MasterAbsent."""
        return await self.asking.workers()

    def live(self, sink: Sink, *, newest: int = NEWEST) -> Live:
        """All that a dashboard shows, told to `sink` as it comes: `async with client.live(sink):`.

        Reads at most the `newest` messages of a stream, and needs no master. See views/feed.py.
        """
        return Live(self.connection, self.js, self.asking, sink, newest=newest)

    async def snapshot(self, *, newest: int = SNAPSHOT) -> _Items:
        """One complete picture as items of `live`; takes as long as a heartbeat needs to come."""
        return await snapshot(self.connection, self.js, self.asking, newest=newest)

    async def unserved(self, queue: str) -> bool:
        """Whether no worker serves a queue; needs no master."""
        return await unserved(self.js, queue)
