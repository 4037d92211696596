"""Requests to the master. Tasks need none; lists and numbers do."""

from __future__ import annotations

import contextlib
from typing import Any, Final, TypeVar

import msgspec

from agentflow.client.session import Session
from agentflow.errors import (
    AgentFlowError,
    AmbiguousId,
    BusError,
    MasterAbsent,
    NoAnswer,
    TaskNotFound,
    UsageError,
)
from agentflow.protocol import api, subjects
from agentflow.protocol.api import (
    ErrorBody,
    GetRequest,
    ListRequest,
    StatsView,
    Tasks,
    TaskView,
    Workers,
    WorkerView,
)

TIMEOUT: Final = 2.0

T = TypeVar("T")


class Asking:
    """The master's requests as methods. All raise MasterAbsent where none answers."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, task_id: str) -> list[TaskView]:
        """The task of this id, else those whose id begins so."""
        views = (await self._ask(api.GET, GetRequest(id=task_id), Tasks)).tasks
        exact = [view for view in views if view.id == task_id]
        return exact or views

    async def tasks(self, request: ListRequest) -> list[TaskView]:
        """Tasks, newest first; asks as often as `limit` needs."""
        views: list[TaskView] = []
        while len(views) < request.limit:
            wanted = min(request.limit - len(views), api.LIST_MOST)
            answer = await self.page(msgspec.structs.replace(request, limit=wanted))
            views += answer.tasks
            if answer.next is None or not answer.tasks:
                break
            request = msgspec.structs.replace(request, after=answer.next)
        return views

    async def page(self, request: ListRequest) -> Tasks:
        """One answer: tasks, how many match, and where the next ones begin."""
        return await self._ask(api.LIST, request, Tasks)

    async def stats(self) -> StatsView:
        """Numbers of the whole."""
        return await self._ask(api.STATS, {}, StatsView)

    async def workers(self) -> list[WorkerView]:
        """The workers, the lost ones last."""
        return (await self._ask(api.WORKERS, {}, Workers)).workers

    async def _ask(self, verb: str, request: Any, answer: type[T]) -> T:
        connection = self._session.connection
        try:
            message = await connection.request(
                subjects.api(verb), msgspec.json.encode(request), timeout=TIMEOUT
            )
        except NoAnswer:
            if not connection.connected.is_set():
                raise
            raise MasterAbsent from None
        code = message.headers.get(api.ERROR_CODE) if message.block else None
        if code:
            raise _refusal(code, message.headers.get(api.ERROR_TEXT, ""), message.data)
        try:
            return msgspec.json.decode(message.data, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BusError(f"the master's answer cannot be read: {error}") from None


def only(views: list[TaskView], task_id: str) -> TaskView:
    """The one task that an id, or the beginning of one, means. Raises AmbiguousId."""
    if len(views) > 1:
        names = ", ".join(view.id for view in views[:5]) + (", ..." if len(views) > 5 else "")
        raise AmbiguousId(
            f"{len(views)} tasks or more have an id that begins with {task_id}: {names}",
            task_id=task_id,
        )
    return views[0]


def _refusal(code: str, text: str, body: bytes) -> AgentFlowError:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        error = msgspec.json.decode(body, type=ErrorBody).error
        text = error.message or text
        if error.type == TaskNotFound.__name__:
            return TaskNotFound(text)
    return UsageError(text) if code == "400" else AgentFlowError(f"the master says: {text}")
