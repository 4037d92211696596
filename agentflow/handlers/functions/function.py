"""A function of one's own as the handler of a kind.

returns a text           the result's text, and its value
returns a ClaudeAnswer   text, content and stop_reason, as kind `claude` has them
returns anything else    the result's value, checked against the annotation
raises Retry             tried again, `delay` seconds later at the earliest
raises Fail              failed, and not tried again
raises AttemptFailed     as the retry table says (what ctx.claude raises)
raises anything else     handler_error of the retry table
raises a group           as the error in it that says most (raised.py)
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
from collections.abc import Callable
from typing import Any, Final

import msgspec

from agentflow import classes
from agentflow.errors import AgentFlowError, Fail, InvalidHandler, InvalidTask, Retry
from agentflow.handlers import trace
from agentflow.handlers.contract import AttemptFailed, Handler, Outcome, Run
from agentflow.handlers.functions import raised
from agentflow.handlers.functions.arguments import Arguments
from agentflow.handlers.functions.context import ClaudeAnswer, Context, SyncContext
from agentflow.handlers.functions.shared_claude import SharedClaude
from agentflow.handlers.functions.threads import Threads
from agentflow.protocol import limits
from agentflow.protocol.faithful import flaw
from agentflow.protocol.task import Defaults

_log = logging.getLogger(__name__)

TWICE: Final = limits.MIB // 2
"""Characters up to which a text is the result's value too."""


class Definition:
    """A function and what was said about it. Raises InvalidHandler where it cannot be run."""

    def __init__(
        self,
        function: Callable[..., Any],
        kind: str,
        *,
        retries: int | None,
        timeout: float | None,
    ) -> None:
        inner = check_function(function)
        name = getattr(function, "__qualname__", repr(function))
        if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
            raise InvalidHandler(
                f"{name} yields; a handler returns its result, and tells of what it has by "
                "ctx.progress"
            )
        self.function = function
        self.kind = kind
        self.is_async = inspect.iscoroutinefunction(inner)
        self.defaults = _defaults(name, retries, timeout)
        self.arguments = Arguments(
            function,
            kind,
            context=Context if self.is_async else SyncContext,
            wrong_context=SyncContext if self.is_async else Context,
        )
        self.logger = logging.getLogger(function.__module__)


def check_function(function: Any) -> Callable[..., Any]:
    """The function within its decorators. Raises InvalidHandler that says what to write instead."""
    name = f"{getattr(function, '__qualname__', None) or repr(function):.80}"
    if isinstance(function, functools.partial):
        inner = getattr(function.func, "__name__", "function")
        raise InvalidHandler(
            f"{name} is a partial, not a function; write one that calls it: "
            f"def name(...): return {inner}(...)"
        )
    if isinstance(function, classmethod | staticmethod | property):
        raise InvalidHandler(
            f"{name} is a {type(function).__name__}; take the function out of its class, as a task "
            "has no object to call it on"
        )
    inner = inspect.unwrap(function) if callable(function) else function
    if not (inspect.isfunction(inner) or inspect.ismethod(inner)):
        raise InvalidHandler(
            f"{name} is not a function; the handler of a kind is one: put @app.task above a def, "
            "which may call it"
        )
    owner, _, last = inner.__qualname__.rpartition(".")
    if inspect.isfunction(inner) and owner and not owner.endswith("<locals>"):
        example = owner.rpartition(".")[2]
        raise InvalidHandler(
            f"{inner.__qualname__} is a method, and a task has no object to call it on; take the "
            f"function out of its class, or decorate that of an object: "
            f'app.task(kind="{last}")({example}().{last})'
        )
    return inner


def _defaults(name: str, retries: int | None, timeout: float | None) -> Defaults:
    most = limits.MAX_ATTEMPTS_LIMIT - 1
    if retries is not None and not (type(retries) is int and 0 <= retries <= most):
        raise InvalidHandler(f"{name}: retries is a number from 0 to {most}, not {retries!r:.40}")
    if timeout is not None:
        number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if not number or math.isnan(timeout) or not 0 < timeout <= limits.TIMEOUT_MAX:
            raise InvalidHandler(
                f"{name}: timeout is a number of seconds up to {limits.TIMEOUT_MAX}, not "
                f"{timeout!r:.40}"
            )
    return Defaults(
        timeout=limits.TIMEOUT_DEFAULT if timeout is None else float(timeout),
        max_attempts=limits.MAX_ATTEMPTS if retries is None else retries + 1,
    )


class Shared:
    """What the functions of an app have in common while a worker runs them."""

    def __init__(self, *, claude_at_start: bool) -> None:
        self.claude = SharedClaude()
        self.threads = Threads()
        self._claude_at_start = claude_at_start

    async def start(self) -> None:
        """Raises KeyMissing, UsageError."""
        if self._claude_at_start:
            await self.claude.get()

    async def close(self) -> None:
        """To be called after the last task; once more does no harm."""
        self.threads.close()
        await self.claude.close()


def _keep_trace(error: BaseException, run: Run) -> None:
    """Keep and tell where it failed, which what is raised instead does not say."""
    one = raised.meant(error)
    run.trace = trace.trace_of(one, error)
    # What a function says on purpose is no news.
    on_purpose = isinstance(one, AgentFlowError)
    _log.log(
        logging.DEBUG if on_purpose else logging.WARNING,
        "task %s: its handler raised %s: %s",
        run.task.id,
        type(one).__name__,
        one,
        exc_info=trace.exc_info(error),
        extra={"action": "handler", "task_id": run.task.id, "attempt": run.attempt},
    )


class OwnHandler:
    """Runs the tasks of one kind with a function."""

    def __init__(self, definition: Definition, shared: Shared) -> None:
        self._definition = definition
        self._shared = shared
        self._prefix = f"kind {definition.kind}, task "

    @property
    def defaults(self) -> Defaults:
        """Limits of tasks that name none themselves."""
        return self._definition.defaults

    def use_claude(self, handler: Handler) -> None:
        """Ask Claude through the handler that runs kind `claude` here."""
        from agentflow.handlers.claude.handler import (
            ClaudeHandler,  # imported long since: here is one
        )

        if isinstance(handler, ClaudeHandler):
            self._shared.claude.use(handler)

    async def start(self) -> None:
        """Called once, before the first task."""
        await self._shared.start()

    async def close(self) -> None:
        """Called once, after the last task."""
        await self._shared.close()

    def pools(self) -> dict[str, Any]:
        """For heartbeats: how the limits of Claude's credential stand."""
        return self._shared.claude.pools()

    def notes(self) -> list[str]:
        """For heartbeats: threads that go on although their runs are over."""
        left = [
            name.removeprefix(self._prefix)
            for name in self._shared.threads.left
            if name.startswith(self._prefix)
        ]
        if not left:
            return []
        shown = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
        return [
            f"{len(left)} thread{'s' * (len(left) > 1)} of kind {self._definition.kind} still run "
            f"after the end of: {shown}"
        ]

    async def __call__(self, run: Run) -> Outcome:
        """Run the function. Raises InvalidTask and AttemptFailed."""
        definition = self._definition
        arguments = definition.arguments.from_task(run.task)
        context: Context | SyncContext | None = None
        if definition.arguments.context is not None:
            kind = Context if definition.is_async else SyncContext
            context = kind(run, self._shared.claude, definition.logger)
            arguments[definition.arguments.context] = context
        flush = True
        try:
            if definition.is_async:
                value = await definition.function(**arguments)
            else:
                value = await self._in_thread(run, arguments)
        except asyncio.CancelledError:
            flush = False
            raise
        except (BaseExceptionGroup, Retry, Fail) as error:
            _keep_trace(error, run)
            raise raised.judged(error) from error
        except (InvalidTask, AttemptFailed) as error:
            _keep_trace(error, run)
            raise
        finally:
            if context is not None:
                await context.close(flush=flush)
        return self._outcome(value, run)

    async def _in_thread(self, run: Run, arguments: dict[str, Any]) -> Any:
        call = functools.partial(self._definition.function, **arguments)
        try:
            return await self._shared.threads.run(call, f"{self._prefix}{run.task.id}")
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                _log.warning(
                    "task %s: its function does not hear that the run is over; its thread goes on "
                    "until it returns, and its slot is free",
                    run.task.id,
                )
            raise

    def _outcome(self, value: Any, run: Run) -> Outcome:
        if isinstance(value, ClaudeAnswer):
            plain = [{"type": "text", "text": value.text}]
            return Outcome(
                text=value.text or None,
                content=None if value.content in (plain, []) else value.content,
                stop_reason=value.stop_reason,
                value=classes.plain(value.value),
            )
        annotation = self._definition.arguments.answer
        where = f"task {run.task.id}: kind {run.task.kind}"
        try:
            wrong = flaw(value, "its result", binary=self._definition.arguments.binary)
            if wrong:
                raise InvalidTask(f"{where}: {wrong}", reason="result_not_json")
            plainly = classes.plain(value)
            # A structure of the very class promised is taken as it is.
            if annotation is not Any and type(value) is not annotation:
                classes.read(plainly, annotation)
        except msgspec.ValidationError as error:
            text = f"{where} did not return what it promised: {error}"
            raise InvalidTask(text, reason="bad_outcome") from error
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            text = f"{where} returned what cannot be written as JSON: {error}"
            raise InvalidTask(text, reason="result_not_json") from error
        if not isinstance(value, str):
            return Outcome(value=plainly)
        # Twice a long text would not fit a record, and only `text` can be cut.
        return Outcome(text=value, value=plainly if len(value) <= TWICE else None)
