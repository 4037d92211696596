"""What a function is given beside its arguments: the run, seen from inside.

`Context` is for async functions, `SyncContext` for plain ones, which run in a thread: it has the
same methods, and its calls wait.

When the run is over (timeout, cancel, the worker stops), an async function is cancelled. A thread
cannot be; so `progress` and `claude` of a SyncContext raise CancelledError from then on, and
`cancelled` is true for functions that call neither.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, MutableMapping, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec

from agentflow import classes
from agentflow.errors import InvalidTask, KeyMissing
from agentflow.handlers.contract import WHOLE, AttemptFailed, Outcome, Run
from agentflow.handlers.functions import reports
from agentflow.handlers.functions.reports import Reports
from agentflow.handlers.functions.shared_claude import SharedClaude
from agentflow.protocol import limits
from agentflow.protocol.faithful import flaw
from agentflow.protocol.record import Failure, Usage
from agentflow.protocol.task import Task
from agentflow.rules.records import add_repair
from agentflow.rules.retry import SCHEMA, Signal

OVER_PAUSE: Final = 1.0
HANG_UP: Final = 2.0
"""Seconds for ending requests that a function left behind, so that what they cost is known."""


class ClaudeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole message of Claude's. `content` has its blocks, `text` the text in them.

    `value` is the answer to a schema: of the class that was given, else plain JSON; None where it
    was cut or refused (`stop_reason`).
    """

    text: str
    content: list[dict[str, Any]]
    stop_reason: str | None
    usage: Usage
    cost_usd: float | None
    model: str | None
    request_id: str | None
    value: Any = None


class TaskLogger(logging.LoggerAdapter[logging.Logger]):
    """Says which task a line is about, in the text and as fields of the log record."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        own = self.extra or {}
        kwargs["extra"] = {**own, **(kwargs.get("extra") or {})}
        return f"task {own['task_id']}: {msg}", kwargs


class _Base:
    """What both contexts have."""

    def __init__(self, run: Run, claude: SharedClaude, logger: logging.Logger) -> None:
        self._run = run
        self._claude = claude
        self._reports = Reports(run)
        self._began = time.monotonic()
        self._calls: set[asyncio.Task[Any]] = set()
        # Read by other threads, awaited by none: an Event costs 4 % of a task that does nothing.
        self._closed = False
        self._logger = logger

    @cached_property
    def log(self) -> TaskLogger:
        """A logger whose lines name the task."""
        task = self._run.task
        facts = {"task_id": task.id, "attempt": self._run.attempt, "kind": task.kind}
        return TaskLogger(self._logger, facts)

    @property
    def task(self) -> Task:
        """The task itself: id, queue, labels and all it came with."""
        return self._run.task

    @property
    def attempt(self) -> int:
        """Which start of the task this is, from 1."""
        return self._run.attempt

    @property
    def fencing_token(self) -> int:
        """Grows with each attempt: what you write elsewhere can refuse a lower one."""
        return self._run.fencing_token

    @property
    def _over(self) -> bool:
        return self._closed or self._run.over

    async def close(self, *, flush: bool) -> None:
        """The function has returned, or is not waited for any more."""
        self._closed = True
        calls = self._calls - {asyncio.current_task()}
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls, timeout=HANG_UP)
        await self._reports.close(flush=flush)

    async def _ask(self, task: Task, stream: bool, kind: type | None) -> ClaudeAnswer:
        run = self._run
        if self._over:
            # A function that swallows this and asks again must leave time for others.
            await asyncio.sleep(OVER_PAUSE)
            raise asyncio.CancelledError("the run is over")
        current = asyncio.current_task()
        assert current is not None
        self._calls.add(current)
        try:
            try:
                claude = await self._claude.get()
            except KeyMissing as error:
                failure = Failure(type="authentication_error", message=str(error))
                raise AttemptFailed(failure, Signal(type=failure.type)) from error
            part = Run(
                task,
                attempt=run.attempt,
                fencing_token=run.fencing_token,
                purse=run.purse,
                emit=run.emit if stream else _to_nobody,
            )
            async with run.admit(claude.route(task), part):
                began = time.monotonic() - self._began
                try:
                    outcome = await claude(part)
                finally:
                    # Also what broke or was cancelled was paid for.
                    _add(run, part, began)
        finally:
            self._calls.discard(current)
        return _answer(part, outcome, kind)


class Context(_Base):
    """The context of an async function."""

    def progress(self, fraction: float | str | None = None, message: str | None = None) -> None:
        """Say how far the run is: 0 to 1, a sentence, or both. Written twice a second at most."""
        self._reports.report(*reports.checked(fraction, message))

    async def claude(
        self,
        prompt: str | None = None,
        *,
        system: str | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        messages: Sequence[Any] | None = None,
        stream: bool = False,
        schema: Mapping[str, Any] | type | None = None,
        repair: int = limits.REPAIR,
        **params: Any,
    ) -> ClaudeAnswer:
        """Ask Claude; what it costs is the task's. With `stream` the text is shown as it comes.

        `params` are further parameters of messages.create. What is left out comes from the task.
        With `schema`, a JSON Schema or a class, the answer's `value` fits it; one that breaks it is
        asked again, `repair` times.
        Raises AttemptFailed: let it pass, and the retry table decides.
        """
        request = _request(self._run, prompt, system, model, max_tokens, messages, params)
        request = _with_schema(request, schema, repair)
        return await self._ask(request, stream, schema if isinstance(schema, type) else None)


class SyncContext(_Base):
    """The context of a plain function, to be used in its thread."""

    def __init__(self, run: Run, claude: SharedClaude, logger: logging.Logger) -> None:
        super().__init__(run, claude, logger)
        self._loop = asyncio.get_running_loop()

    @property
    def cancelled(self) -> bool:
        """Whether the run is over, so that going on is of no use."""
        return self._over

    def progress(self, fraction: float | str | None = None, message: str | None = None) -> None:
        """As Context.progress. Raises CancelledError once the run is over."""
        report = reports.checked(fraction, message)
        self._check()
        self._loop.call_soon_threadsafe(self._reports.report, *report)

    def claude(
        self,
        prompt: str | None = None,
        *,
        system: str | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        messages: Sequence[Any] | None = None,
        stream: bool = False,
        schema: Mapping[str, Any] | type | None = None,
        repair: int = limits.REPAIR,
        **params: Any,
    ) -> ClaudeAnswer:
        """As Context.claude, and waits. Raises CancelledError once the run is over."""
        request = _request(self._run, prompt, system, model, max_tokens, messages, params)
        request = _with_schema(request, schema, repair)
        kind = schema if isinstance(schema, type) else None
        self._check()
        asked = asyncio.run_coroutine_threadsafe(self._ask(request, stream, kind), self._loop)
        try:
            return asked.result()
        except asyncio.CancelledError:
            raise
        except Exception:
            # The future's own CancelledError is a mere Exception, which functions catch.
            self._check()
            raise

    def _check(self) -> None:
        if self._over:
            raise asyncio.CancelledError("the run is over")


def _request(
    run: Run,
    prompt: str | None,
    system: str | None,
    model: str | None,
    max_tokens: int | None,
    messages: Sequence[Any] | None,
    params: dict[str, Any],
) -> Task:
    """A request in the form of a task of kind `claude`."""
    task = run.task
    if (prompt is None) == (messages is None):
        raise InvalidTask(f"task {task.id}: ctx.claude needs either a prompt or messages")
    if messages is not None:
        params = {**params, "messages": list(messages)}
    wrong = flaw({"prompt": prompt, "system": system, **params}, "")
    if wrong is not None:
        raise InvalidTask(f"task {task.id}: ctx.claude: {wrong}")
    return msgspec.structs.replace(
        task,
        prompt=prompt,
        system=task.system if system is None else system,
        model=model or task.model,
        max_tokens=max_tokens or task.max_tokens,
        params=params,
    )


def _with_schema(task: Task, schema: Mapping[str, Any] | type | None, repair: int) -> Task:
    if schema is None:
        return task
    if type(repair) is not int or not 0 <= repair <= limits.REPAIR_MAX:
        raise InvalidTask(
            f"task {task.id}: ctx.claude: repair is a number from 0 to {limits.REPAIR_MAX}"
        )
    try:
        given = classes.schema_of(schema) if isinstance(schema, type) else dict(schema)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InvalidTask(f"task {task.id}: ctx.claude: schema: {error}") from None
    return msgspec.structs.replace(task, schema=given, repair=repair)


def _to_nobody(_: str) -> None:
    """For text that nobody is shown as it comes."""


def _add(run: Run, part: Run, began: float) -> None:
    """Add what one request used to the run that made it."""
    run.usage += part.usage
    if run.cost_micro is not None:
        run.cost_micro = None if part.cost_micro is None else run.cost_micro + part.cost_micro
    run.unpriced = run.unpriced or part.unpriced
    run.estimated = run.estimated or part.estimated
    run.model = part.model
    run.request_id = part.request_id or run.request_id
    run.simulated = run.simulated or part.simulated
    run.repair = add_repair(run.repair, part.repair)
    if run.first_token_s is None and part.first_token_s is not None:
        run.first_token_s = began + part.first_token_s


def _answer(part: Run, outcome: Outcome, kind: type | None) -> ClaudeAnswer:
    value = outcome.value if part.task.schema is not None and outcome.stop_reason in WHOLE else None
    if kind is not None and value is not None:
        value = _of_class(value, kind, part)
    text = outcome.text or ""
    content = outcome.content
    if content is None:
        content = [{"type": "text", "text": text}] if text else []
    return ClaudeAnswer(
        text=text,
        content=content,
        stop_reason=outcome.stop_reason,
        usage=part.usage,
        cost_usd=None if part.cost_micro is None else part.cost_micro / 1_000_000,
        model=part.model,
        request_id=part.request_id,
        value=value,
    )


def _of_class(value: Any, kind: type, part: Run) -> Any:
    """The answer as the class whose schema it fits; a class may want more than a schema can say."""
    try:
        return classes.read(value, kind)
    except msgspec.ValidationError as error:
        text = f"the answer fits the schema of {kind.__name__}, and is none: {error}"
        failure = Failure(type=SCHEMA, message=text, request_id=part.request_id)
        raise AttemptFailed(failure, Signal(status=200, type=SCHEMA)) from None
