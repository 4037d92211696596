"""Is there such a task? Its log says, else its message, else the master, who knows the queues."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from agentflow.client.asking import Asking, only
from agentflow.client.session import Session
from agentflow.errors import (
    AgentFlowError,
    BusError,
    MasterAbsent,
    NoStream,
    NotFound,
    TaskNotFound,
)
from agentflow.protocol import limits, subjects
from agentflow.protocol.record import EMPTY, Last, Record
from agentflow.views.result import Result, result_of_record

_log = logging.getLogger(__name__)

_HOUR: Final = 3600


class Lookup:
    """Looks for tasks by their ids."""

    def __init__(self, session: Session, asking: Asking) -> None:
        self._session = session
        self._asking = asking

    async def read(self, task_id: str) -> Last:
        """The last record, for a user: a server that nobody has used yet holds no tasks."""
        try:
            return await self._session.log.read(task_id)
        except NotFound:
            return EMPTY
        except NoStream as error:
            raise NoStream(
                "JetStream does not answer; `agentflow doctor` says what is wrong with the server"
            ) from error

    async def known(self, task_id: str) -> Record | None:
        """The last record before its task is submitted, None also where it cannot be read.

        Whoever may only submit reads no log, and a worker compares again.
        """
        try:
            return (await self.read(task_id)).record
        except BusError as error:
            _log.debug("the log of %s before its submission: %s", task_id, error)
            return None

    async def get(self, task_id: str) -> Result:
        """See Client.get."""
        last = await self.read(task_id)
        if last.record is not None:
            return result_of_record(last.record, last.sequence)
        try:
            tasks = await self._asking.get(task_id)
        except MasterAbsent:
            raise TaskNotFound(
                f"task {task_id} has no record: it is unknown, or still queued"
                f"{await self._kept()}; no master answers, "
                "which could tell (and find a task by the beginning of its id)",
                task_id=task_id,
            ) from None
        except TaskNotFound as error:
            raise TaskNotFound(f"{error}{await self._kept()}", task_id=task_id) from None
        if not tasks:
            raise await self.not_found(task_id)
        task = only(tasks, task_id)
        last = await self.read(task.id)
        if last.record is not None:
            return result_of_record(last.record, last.sequence)
        return task

    async def unknown(self, task_id: str, message_sequence: int = 0) -> bool:
        """Whether a task is certainly neither queued nor on record.

        False where nobody can tell: its message is unknown here, and no master answers that has
        read the streams.
        """
        self._session.check()
        try:
            if (await self.read(task_id)).record is not None:
                return False
            if message_sequence:
                queued = await self._session.js.get(subjects.TASKS, message_sequence)
                # A stream made anew gives sequences again.
                gone = queued is None or queued.headers.get(subjects.ID) != task_id
            else:
                gone = not await self._master_knows(task_id)
            # A worker writes the record before it lets go of the message.
            return gone and (await self.read(task_id)).record is None
        except AgentFlowError as error:
            _log.debug("looking for task %s: %s", task_id, error)
            return False

    async def _master_knows(self, task_id: str) -> bool:
        try:
            return any(task.id == task_id for task in await self._asking.get(task_id))
        except TaskNotFound:
            return not (await self._asking.stats()).ready

    async def not_found(self, task_id: str) -> TaskNotFound:
        """The error for a task that is neither queued nor on record."""
        return TaskNotFound(f"there is no task {task_id}{await self._kept()}", task_id=task_id)

    async def _kept(self) -> str:
        """That records end, as the end of a sentence."""
        age: float = limits.RETENTION
        with suppress(BusError):
            config = (await self._session.js.stream_info(subjects.RECORDS))["config"]
            age = config.get("max_age", 0) / 1e9
        return f" (a task is on record for {_span(age)} after its end)" if age else ""


def _span(seconds: float) -> str:
    days, hours = seconds / limits.DAY, seconds / _HOUR
    if days >= 1:
        return f"{days:g} day{'s' * (days != 1)}"
    return f"{hours:g} hours" if hours >= 1 else f"{seconds:g} s"
