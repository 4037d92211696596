"""What a task was told to do: its payload, from wherever it lies now.

no record       its message in AGENTFLOW_TASKS, if the caller or a master knows where
queued, running the message that the record names
parked          the schedule; once it has fired, nobody knows where the message is
failed          the dead letter
ended otherwise gone
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from agentflow.bus.streams.pages import page, sequence_of, stored_ns
from agentflow.bus.streams.payloads import Payloads
from agentflow.client.asking import Asking
from agentflow.client.session import Session
from agentflow.errors import (
    InvalidTask,
    MasterAbsent,
    NoStream,
    NotFound,
    PayloadLost,
    TaskNotFound,
)
from agentflow.log.task import last_of
from agentflow.protocol import limits, subjects
from agentflow.protocol import payload as payloads
from agentflow.protocol import task as tasks
from agentflow.protocol.identity import parse_message
from agentflow.protocol.payload import Payload as Reference
from agentflow.protocol.record import PARKED, Record, State
from agentflow.protocol.task import TaskBody

SHOWN: Final = limits.SERVER_MAX_PAYLOAD
"""Bytes of a payload in the object bucket up to which it is shown; a longer one nobody reads."""
Payload = tuple[bytes, Mapping[str, str]]
"""A message's payload and its headers."""


class Prompts:
    """Finds payloads. For display: what it reads may come from any replica."""

    def __init__(self, session: Session, asking: Asking) -> None:
        self._session = session
        self._asking = asking

    async def prompt(self, task_id: str, message: str = "") -> TaskBody | None:
        """The task's fields, None where its payload is gone or cannot be found.

        `message` is the identity of its message, as a row without a record has it. What is no valid
        task is given as its text; a payload in the object bucket of more than 8 MiB as its
        reference. Raises BusError.
        """
        subjects.check_id(task_id)
        try:
            payload = await self._payload(task_id, message)
        except (NotFound, NoStream):
            return None
        if payload is None:
            return None
        body = _body(*payload)
        if body.payload is not None and body.payload.size <= SHOWN:
            return await self._whole(task_id, body, body.payload)
        return body

    async def _whole(self, task_id: str, body: TaskBody, reference: Reference) -> TaskBody:
        """With what lies in the object bucket; as it is where that is gone."""
        try:
            data = await Payloads(self._session.js).get(task_id, reference)
            content = payloads.read_content(data)
            whole = payloads.together(body.prompt, body.system, body.params, content)
        except (PayloadLost, InvalidTask):
            return body
        return msgspec.structs.replace(
            body, prompt=whole.prompt, system=whole.system, params=whole.params, payload=None
        )

    async def _payload(self, task_id: str, message: str) -> Payload | None:
        last = last_of(await self._session.js.last(subjects.RECORDS, subjects.log(task_id)))
        if last.record is None:
            return await self._message(message or await self._known_to_master(task_id))
        return await self._of_record(task_id, last.record)

    async def _of_record(self, task_id: str, record: Record) -> Payload | None:
        if record.state in PARKED:
            stored = await self._session.js.last(
                subjects.SCHEDULE, f"agentflow.schedule.{task_id}.*"
            )
        elif record.state == State.WAITING:
            stored = await self._session.js.last(subjects.BATCH, f"agentflow.batch.*.*.{task_id}.*")
        elif record.state == State.FAILED:
            stored = await self._session.js.last(subjects.DEAD, f"agentflow.dead.*.{task_id}")
        elif record.terminal:
            return None
        else:
            return await self._message(record.message)
        return None if stored is None else (stored.data, stored.headers)

    async def _known_to_master(self, task_id: str) -> str:
        try:
            views = await self._asking.get(task_id)
        except (MasterAbsent, TaskNotFound):
            return ""
        return next((view.message for view in views if view.id == task_id), "")

    async def _message(self, identity: str) -> Payload | None:
        parsed = parse_message(identity)
        if parsed is None:
            return None
        stored = await page(self._session.connection, subjects.TASKS, parsed[0], batch=1)
        for message in stored.messages:
            # The page begins with the next one where it is gone, and a stream made anew gives
            # sequences again.
            if (sequence_of(message), stored_ns(message)) == parsed:
                return message.data, message.headers
        return None


def _body(payload: bytes, headers: Mapping[str, str]) -> TaskBody:
    try:
        return tasks.parse_body(payload, headers)
    except InvalidTask:
        return TaskBody(prompt=payload.decode("utf-8", "replace"))
