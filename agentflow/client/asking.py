"""Requests to the master. Tasks need none; lists and numbers do."""

from __future__ import annotations

import contextlib
from typing import Any, Final, NamedTuple, TypeVar

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
    Workers,
    WorkerView,
)
from agentflow.views.api import result_of_json
from agentflow.views.result import Result

TIMEOUT: Final = 2.0

T = TypeVar("T")


class Page(NamedTuple):
    """Tasks of a list, how many match in all, and where the next ones begin."""

    tasks: list[Result]
    total: int
    next: str | None


class Asking:
    """The master's requests as methods. All raise MasterAbsent where none answers."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, task_id: str) -> list[Result]:
        """The task of this id, else those whose id begins so."""
        tasks = _page(await self._ask(api.GET, GetRequest(id=task_id), Tasks)).tasks
        exact = [task for task in tasks if task.id == task_id]
        return exact or tasks

    async def tasks(self, request: ListRequest) -> list[Result]:
        """Tasks, newest first; asks as often as `limit` needs."""
        tasks: list[Result] = []
        while len(tasks) < request.limit:
            wanted = min(request.limit - len(tasks), api.LIST_MOST)
            answer = await self.page(msgspec.structs.replace(request, limit=wanted))
            tasks += answer.tasks
            if answer.next is None or not answer.tasks:
                break
            request = msgspec.structs.replace(request, after=answer.next)
        return tasks

    async def page(self, request: ListRequest) -> Page:
        """One answer."""
        return _page(await self._ask(api.LIST, request, Tasks))

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
            raise _unreadable(error) from None


def _page(answer: Tasks) -> Page:
    try:
        tasks = [result_of_json(task) for task in answer.tasks]
    except msgspec.ValidationError as error:
        raise _unreadable(error) from None
    return Page(tasks, answer.total, answer.next)


def _unreadable(error: Exception) -> BusError:
    return BusError(f"the master's answer cannot be read: {error}")


def only(tasks: list[Result], task_id: str) -> Result:
    """The one task that an id, or the beginning of one, means. Raises AmbiguousId."""
    if len(tasks) > 1:
        names = ", ".join(task.id for task in tasks[:5]) + (", ..." if len(tasks) > 5 else "")
        raise AmbiguousId(
            f"{len(tasks)} tasks or more have an id that begins with {task_id}: {names}",
            task_id=task_id,
        )
    return tasks[0]


def _refusal(code: str, text: str, body: bytes) -> AgentFlowError:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        error = msgspec.json.decode(body, type=ErrorBody).error
        text = error.message or text
        if error.type == TaskNotFound.__name__:
            return TaskNotFound(text)
    return UsageError(text) if code == "400" else AgentFlowError(f"the master says: {text}")
