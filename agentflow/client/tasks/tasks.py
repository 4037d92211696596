"""Tasks of one client: submitted, waited for, read. Also where a handle comes from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from pathlib import Path
from typing import Any, Unpack

from agentflow.attachments import Folder
from agentflow.client.asking import Asking
from agentflow.client.session import Session
from agentflow.client.tasks import mapping
from agentflow.client.tasks.handle import TaskHandle
from agentflow.client.tasks.ids import Ids
from agentflow.client.tasks.lookup import Lookup
from agentflow.client.tasks.options import DEFAULTS, MapOptions, SubmitOptions
from agentflow.client.tasks.prompts import Prompts
from agentflow.client.tasks.several import several
from agentflow.client.tasks.steering import Steering
from agentflow.client.tasks.submission import Sender, Submission, fields_of, prepare
from agentflow.client.tasks.waiting import Waiting, failing
from agentflow.client.tasks.watching import Event, Watching
from agentflow.errors import UsageError
from agentflow.protocol import subjects
from agentflow.protocol.record import Record
from agentflow.protocol.task import TaskBody
from agentflow.rules import reuse
from agentflow.views.result import Result

Item = str | Mapping[str, Any] | TaskBody
"""A task: its prompt, its fields, or its body. A mapping may also give `queue` and `priority`."""


class Tasks:
    """What Client does with tasks; its methods say what each means."""

    def __init__(self, session: Session, asking: Asking, *, patience: float) -> None:
        self._session = session
        self.check = session.check
        self._ids = Ids()
        self.waiting = Waiting(session)
        self.sender = Sender(session, patience=patience)
        self.lookup = Lookup(session, asking)
        self.watching = Watching(session)
        self.prompts = Prompts(session, asking)
        self.steering = Steering(session, self.sender, asking)

    # Submitting.

    async def submit(
        self, prompt: str | None = None, **options: Unpack[SubmitOptions]
    ) -> TaskHandle:
        """See Client.submit."""
        fields = {"prompt": prompt, **_given(options)}
        task_id = fields.pop("id", None)
        message = self._message(fields, task_id, *_address(fields))
        return await self._send(message, fresh=task_id is None)

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
        """See Client.submit_body."""
        task_id = body.id if id is None else id
        message = prepare(
            fields_of(body),
            task_id=self._ids.new() if task_id is None else task_id,
            queue=queue,
            priority=priority,
            lane=lane,
            reply=reply,
            needs=needs,
            follows=follows,
        )
        return await self._send(
            message, fresh=task_id is None, newer_than=follows, wait_full=wait_full
        )

    def message(
        self,
        fields: Mapping[str, Any],
        *,
        task_id: str | None = None,
        queue: str = DEFAULTS["queue"],
        priority: str = DEFAULTS["priority"],
        lane: str | None = None,
    ) -> Submission:
        """A task ready to be stored; it reads no files. Raises InvalidTask, UsageError."""
        self.check()
        chosen = self._ids.new() if task_id is None else task_id
        return prepare(fields, task_id=chosen, queue=queue, priority=priority, lane=lane)

    async def store(self, message: Submission, *, wait_full: bool = True) -> int:
        """Store a message, and expect no result of it; returns its sequence. Raises BusError.

        Whether its id is new is not looked at.
        """
        return (await self.sender.send(message, wait_full=wait_full)).seq

    async def _send(
        self, message: Submission, *, fresh: bool, newer_than: int = 0, wait_full: bool = True
    ) -> TaskHandle:
        handle = TaskHandle(self, message.id, newer_than=newer_than)
        handle.queue = message.queue
        if not fresh:
            handle.asked = message.asked
            await self._compare(message)
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

    async def _compare(self, message: Submission, where: str = "") -> None:
        """Raise IdReused where the log of its id holds another request."""
        if (ask := message.asked) is not None:
            reuse.check(message.id, ask, await self.lookup.known(message.id), where=where)

    def map(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        concurrency: int,
        ordered: bool,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[Result]:
        """See Client.map."""
        several(items, "tasks", waits=True)
        if concurrency < 1:
            raise UsageError(f"concurrency is {concurrency}, should be 1 or more")
        if "id" in options:
            raise UsageError("an id belongs to one task: give it in the item")
        common = _given(options)
        address = _address(common)

        def prepared(item: Item, index: int) -> tuple[Submission, bool]:
            try:
                fields = {**common, **fields_of(item)}
                task_id = fields.pop("id", None)
                return self._message(fields, task_id, *address), task_id is None
            except UsageError as error:
                raise type(error)(f"item {index}: {error}") from None

        run = mapping.Mapping(
            self._session.connection,
            self.waiting,
            self.sender,
            prepared,
            self._compare,
            concurrency=concurrency,
            ordered=ordered,
        )
        return run.run(items)

    def _message(
        self,
        fields: dict[str, Any],
        task_id: str | None,
        reply: str | None,
        needs: str | None,
    ) -> Submission:
        """The message for a task; where it goes is taken out of the fields."""
        if isinstance(fields.get("params"), dict):
            fields["params"] = Folder(Path()).attached(fields.get("kind"), fields["params"])
        queue = fields.pop("queue", DEFAULTS["queue"])
        priority = fields.pop("priority", DEFAULTS["priority"])
        lane = fields.pop("lane", None)
        return prepare(
            fields,
            task_id=self._ids.new() if task_id is None else task_id,
            queue=queue,
            priority=priority,
            lane=lane,
            reply=reply,
            needs=needs,
        )

    # Results and events.

    def handle(self, task_id: str, *, newer_than: int = 0) -> TaskHandle:
        """See Client.task."""
        self.check()
        return TaskHandle(self, subjects.check_id(task_id), newer_than=newer_than)

    def expect(self, task_id: str, *, newer_than: int = 0) -> asyncio.Future[Record]:
        """See Client.expect."""
        self.check()
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()

        def deliver(record: Record, _: int) -> None:
            if not future.done():
                future.set_result(record)

        expected = self.waiting.expect(task_id, deliver, failing(future), newer_than=newer_than)
        future.add_done_callback(lambda _: self.waiting.forget(expected))
        return future

    def watch(
        self,
        task_id: str | None = None,
        *,
        newer_than: int = 0,
        tokens: bool = True,
        after: int | None = None,
    ) -> AsyncGenerator[Event]:
        """See Client.watch."""
        self.check()
        if task_id is None:
            return self.watching.all(tokens=tokens, after=after)
        subjects.check_id(task_id)
        return self.watching.one(task_id, newer_than=newer_than, tokens=tokens, after=after)

    async def retry(
        self, task_id: str, payload: bytes | None = None, *, queue: str | None = None
    ) -> TaskHandle:
        """See Client.retry."""
        message, follows = await self.steering.retry(subjects.check_id(task_id), payload, queue)
        return TaskHandle(self, message.id, newer_than=follows)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say something."""
    return {name: value for name, value in options.items() if value is not None}


def _address(options: dict[str, Any]) -> tuple[str | None, str | None]:
    """What only the call says, and no item of `map` itself; it is taken out of the options."""
    return options.pop("reply", None), options.pop("needs", None)
