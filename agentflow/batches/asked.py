"""What an entry asks: its task, whole, and an answer of an earlier batch that it is to mend.

An answer that breaks its schema is kept in the record that sends its task into the next batch. So
whoever builds that one finds it there, and shows the model what is wrong with it.
"""

from __future__ import annotations

from typing import Final

from agentflow.batches.entries import Item
from agentflow.batches.place import Place
from agentflow.bus.streams.payloads import Payloads
from agentflow.errors import InvalidTask, PayloadLost
from agentflow.handlers.contract import Outcome
from agentflow.log.task import last_of
from agentflow.protocol import subjects
from agentflow.protocol import task as tasks
from agentflow.protocol.record import Last, State
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task
from agentflow.rules.retry import SCHEMA

_BACK: Final = 8
"""Records that are looked through for an answer: a task may wait anew before its next batch."""


def task_of(place: Place, item: Item) -> Task:
    """The task of an entry, as its message gives it. Raises InvalidTask."""
    message = item.message
    body = tasks.parse_body(message.data, message.headers)
    return tasks.build(body, message.headers, place.queue, Priority(item.priority), item.id)


async def whole(place: Place, task: Task) -> Task:
    """The task with what it says besides its message. Raises InvalidTask, BusError."""
    if task.payload is None:
        return task
    try:
        return tasks.joined(task, await Payloads(place.js).get(task.id, task.payload))
    except PayloadLost as error:
        raise InvalidTask(str(error), reason="payload_lost") from None


async def broken(place: Place, task: Task, last: Last) -> Outcome | None:
    """The answer of the batch before that broke the task's schema; None where there is none.

    Raises BusError.
    """
    record = last.record
    if task.schema is None or record is None or not record.failures:
        return None
    for _ in range(_BACK):
        if not record.follows:
            return None
        stored = await place.js.get(subjects.RECORDS, record.follows)
        record = last_of(stored).record
        if record is None or record.id != task.id or record.state != State.WAITING:
            break
    if record is None or (record.state, record.reason) != (State.RETRYING, SCHEMA):
        return None
    return Outcome(text=record.text, content=record.content, stop_reason=record.stop_reason)
