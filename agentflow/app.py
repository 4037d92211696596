"""An app: functions of your own, each the handler of a kind of task.

    import agentflow

    app = agentflow.App()

    @app.task(kind="summarise", retries=3, timeout=60)
    async def summarise(ctx: agentflow.Context, path: str, words: int = 50) -> Summary:
        ...

`agentflow worker module:app` runs its tasks; docs/handlers.md has the whole.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, overload

from agentflow.errors import Fail, InvalidHandler, Retry, UsageError
from agentflow.handlers import registry
from agentflow.handlers.contract import AttemptFailed, Handler
from agentflow.handlers.functions.context import ClaudeAnswer, Context, SyncContext
from agentflow.handlers.functions.function import (
    Definition,
    OwnHandler,
    Shared,
    check_function,
)
from agentflow.handlers.functions.submitting import (
    AsyncWithContext,
    AsyncWithout,
    Decorator,
    PlainWithContext,
    PlainWithout,
    Submitter,
)
from agentflow.protocol import limits
from agentflow.protocol.task import Task

__all__ = [
    "App",
    "AttemptFailed",
    "ClaudeAnswer",
    "Context",
    "Fail",
    "Retry",
    "SyncContext",
]

P = ParamSpec("P")
R = TypeVar("R")

_KIND: Final = re.compile(limits.KIND_PATTERN)


class App:
    """Functions by kind.

    With `claude=True` the Claude client is made at the start of a worker, so that a missing key is
    told there; without it, when the first function asks.
    """

    def __init__(self, *, claude: bool = False) -> None:
        self._claude = claude
        self._definitions: dict[str, Definition] = {}

    def __repr__(self) -> str:
        return f"App({', '.join(self._definitions)})"

    @property
    def kinds(self) -> list[str]:
        """The kinds that have a function."""
        return list(self._definitions)

    @property
    def checks(self) -> dict[str, Callable[[Task], object]]:
        """By kind what raises InvalidTask for a task whose arguments its function does not take."""
        return {
            kind: definition.arguments.from_task for kind, definition in self._definitions.items()
        }

    @overload
    def task(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> AsyncWithContext[P, R]: ...
    @overload
    def task(
        self, function: Callable[Concatenate[SyncContext, P], R], /
    ) -> PlainWithContext[P, R]: ...
    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncWithout[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> PlainWithout[P, R]: ...
    @overload
    def task(
        self,
        *,
        kind: str | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        queue: str = "default",
    ) -> Decorator: ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        *,
        kind: str | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        queue: str = "default",
    ) -> Any:
        """Make a function the handler of `kind`, by default its name. The function stays as it is.

        `retries` and `timeout` (seconds a try may take) hold for tasks that do not say it
        themselves; without them 4 and 600. It gets `submit`, which takes what the function takes
        but for its context, and `options`: how such tasks are sent, by default to `queue`. Raises
        InvalidHandler.
        """

        if isinstance(function, str):
            raise InvalidHandler(
                f'task("{function[:64]}") names no function; above one write '
                f'@app.task(kind="{function[:64]}")'
            )

        def register(handler: Callable[..., Any]) -> Callable[..., Any]:
            check_function(handler)
            name = kind if kind is not None else getattr(handler, "__name__", "")
            if not isinstance(name, str) or not _KIND.fullmatch(name):
                raise InvalidHandler(
                    f"{name!r:.80} cannot name a kind; use up to 64 letters, digits, - _ and ., as "
                    'in @app.task(kind="order")'
                )
            if name in self._definitions:
                raise InvalidHandler(f"kind {name} has two functions; one app can run only one")
            definition = Definition(handler, name, retries=retries, timeout=timeout)
            self._definitions[name] = definition
            with contextlib.suppress(AttributeError):  # an object's method takes none
                attributes: Any = handler
                submitter = Submitter[..., Any](handler, name, definition.arguments, queue)
                attributes.submit, attributes.options = submitter.submit, submitter.options
            return handler

        return register if function is None else register(function)

    def handlers(self) -> dict[str, Handler]:
        """Handlers by kind, as a worker takes them. Raises UsageError for an app without any."""
        if not self._definitions:
            raise UsageError("this app has no tasks; put @app.task() above a function")
        shared = Shared(claude_at_start=self._claude)
        return {
            kind: OwnHandler(definition, shared) for kind, definition in self._definitions.items()
        }

    @asynccontextmanager
    async def open(self) -> AsyncIterator[dict[str, Handler]]:
        """`handlers`, started; closed at the end. For a worker in your own process.

        Raises UsageError, KeyMissing.
        """
        async with registry.open_handlers(own=self.handlers()) as handlers:
            yield handlers
