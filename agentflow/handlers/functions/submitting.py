"""A function of one's own submits itself: `await summarise.submit(path=...)`, held by its types.

`app.task` leaves a function as it is and gives it `submit` and `options`. The arguments are checked
as the worker will check them; the task goes through the client that is open here (opened.py), and
its result comes back as what the function returns.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from types import NoneType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

import msgspec

from agentflow import classes, opened
from agentflow.errors import InvalidTask, NotConnected
from agentflow.handlers.functions.arguments import ALSO, Arguments
from agentflow.handlers.functions.context import ClaudeAnswer, Context, SyncContext
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task

Q = ParamSpec("Q")
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)


class OwnTask(Generic[R_co]):
    """A submitted task of a function. `handle` is the client's own."""

    __slots__ = ("_returns", "handle")

    def __init__(self, handle: Any, returns: Any) -> None:
        self.handle = handle
        self._returns = returns

    def __repr__(self) -> str:
        return f"OwnTask({self.id!r})"

    @property
    def id(self) -> str:
        """The task's id."""
        name: str = self.handle.id
        return name

    async def result(self, timeout: float | None = None) -> R_co:
        """What the function returned, when it has. Raises as TaskHandle.result does."""
        returned: Any
        if self._returns in (ClaudeAnswer, Any, None, NoneType):
            whole = await self.handle.result(timeout)
            returned = _answer(whole) if self._returns is ClaudeAnswer else whole.value
        else:
            returned = await self.handle.result(timeout, type=self._returns)
        result: R_co = returned
        return result


class Submitter(Generic[P, R]):
    """How a function submits itself: what it takes, and how its tasks are sent."""

    def __init__(
        self, function: Callable[..., Any], kind: str, arguments: Arguments, queue: str
    ) -> None:
        parameters = inspect.signature(function).parameters.values()
        self._signature = inspect.Signature(
            [one for one in parameters if one.name != arguments.context]
        )
        self._kind = kind
        self._arguments = arguments
        self._options: dict[str, Any] = {"queue": queue}
        self._client: opened.Submits | None = None

    def options(
        self,
        *,
        client: opened.Submits | None = None,
        id: str | None = None,
        queue: str | None = None,
        priority: Literal["high", "normal", "low"] | Priority | None = None,
        timeout: float | None = None,
        max_attempts: int | None = None,
        labels: Mapping[str, str] | None = None,
        not_before: datetime | None = None,
        deadline: datetime | None = None,
        start_within: float | None = None,
    ) -> Submitter[P, R]:
        """The same function, its tasks sent so: each as in Client.submit."""
        given = {name: value for name, value in locals().items() if value is not None}
        other = object.__new__(Submitter)
        other.__dict__ |= self.__dict__
        other._client = client or self._client
        sent = {name: value for name, value in given.items() if name not in ("self", "client")}
        other._options = self._options | sent
        return other

    async def submit(self, *arguments: P.args, **named: P.kwargs) -> OwnTask[R]:
        """Put a task with these arguments into its queue, by the client that is open here.

        Raises InvalidTask for arguments that do not fit, NotConnected, BusError.
        """
        client = self._client or opened.client.get()
        if client is None:
            raise NotConnected(
                f"{self._kind}.submit needs an open client: use it within async with "
                "agentflow.connect(), or name one: .options(client=...)"
            )
        given = dict(self._signature.bind(*arguments, **named).arguments)
        fields = self._fields(given)
        handle = await client.submit(kind=self._kind, **fields, **self._options)
        return OwnTask(handle, self._arguments.answer)

    def _fields(self, given: dict[str, Any]) -> dict[str, Any]:
        """The fields of the task that gives these arguments. Raises InvalidTask."""
        whole = self._arguments.whole
        try:
            if whole is not None:
                given = given.get(whole, {})
            plain: dict[str, Any] = classes.plain(given)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidTask(
                f"kind {self._kind}: an argument cannot be written as JSON: {error}"
            ) from None
        fields: dict[str, Any] = {
            name: plain.pop(name) for name in ("prompt", *ALSO) if name in plain
        }
        task = Task(
            id="", queue="", priority=Priority.NORMAL, kind=self._kind, params=plain, **fields
        )
        try:
            self._arguments.from_task(task)
        except InvalidTask as error:
            raise InvalidTask(str(error).removeprefix("task : "), reason=error.reason) from None
        return {**fields, "params": plain}


def _answer(whole: Any) -> ClaudeAnswer:
    """A task's result as the answer that its function returned."""
    names = [field.name for field in msgspec.structs.fields(ClaudeAnswer)]
    fields = {name: getattr(whole, name) for name in names} | {"text": whole.text or ""}
    if fields["content"] is None:
        fields["content"] = [{"type": "text", "text": whole.text}] if whole.text else []
    return ClaudeAnswer(**fields)


# What type checkers see of a decorated function. At run time it is the function itself.


class OwnFunction(Protocol[Q, V_co, P, R]):
    """A function that submits itself: called as ever with Q, submitted with P, which is Q without
    its context."""

    def __call__(self, *arguments: Q.args, **named: Q.kwargs) -> V_co: ...

    async def submit(self, *arguments: P.args, **named: P.kwargs) -> OwnTask[R]:
        """See Submitter.submit."""

    def options(
        self,
        *,
        client: opened.Submits | None = None,
        id: str | None = None,
        queue: str | None = None,
        priority: Literal["high", "normal", "low"] | Priority | None = None,
        timeout: float | None = None,
        max_attempts: int | None = None,
        labels: Mapping[str, str] | None = None,
        not_before: datetime | None = None,
        deadline: datetime | None = None,
        start_within: float | None = None,
    ) -> Submitter[P, R]:
        """See Submitter.options."""


_Awaited = Coroutine[Any, Any, R]
AsyncWithContext = OwnFunction[Concatenate[Context, P], _Awaited[R], P, R]
PlainWithContext = OwnFunction[Concatenate[SyncContext, P], R, P, R]
AsyncWithout = OwnFunction[P, _Awaited[R], P, R]
PlainWithout = OwnFunction[P, R, P, R]


class Decorator(Protocol):
    """What `app.task(...)` gives."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], _Awaited[R]], /
    ) -> AsyncWithContext[P, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[SyncContext, P], R], /
    ) -> PlainWithContext[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, _Awaited[R]], /) -> AsyncWithout[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> PlainWithout[P, R]: ...
