"""What `submit` and `map` take by name, once for both: type checkers hold calls to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypedDict, TypeVar

from agentflow.protocol.subjects import Priority

F = TypeVar("F", bound=Callable[..., Any])

Urgency = Literal["high", "normal", "low"] | Priority
"""Of its queue's tasks, the higher ones come first."""

DEFAULTS: Final[Mapping[str, str]] = {"queue": "default", "priority": "normal"}


class TaskOptions(TypedDict, total=False):
    """The fields of a task but for its prompt and id, and how its message is sent.

    Times are seconds, instants have a time zone; docs/protocol.md tells what each means.
    """

    queue: str
    priority: Urgency
    lane: str | None
    kind: str | None
    model: str | None
    system: str | None
    max_tokens: int | None
    params: Mapping[str, Any] | None
    timeout: float | None
    max_attempts: int | None
    labels: Mapping[str, str] | None
    title: str | None
    not_before: datetime | None
    deadline: datetime | None
    start_within: float | None
    batch: bool | str | None
    batch_after: float | None
    schema: Mapping[str, Any] | type | None
    repair: int | None
    budget: str | None
    reply: str | None
    needs: str | None


class SubmitOptions(TaskOptions, total=False):
    """Those of one task."""

    id: str | None


class MapOptions(TaskOptions, total=False):
    """Those of many tasks; what an item says itself comes first."""

    prompt: str | None


def spelled_out(options: type) -> Callable[[F], F]:
    """Have `help()` and notebooks show each of the options, where Python knows only `**options`."""

    def show(function: F) -> F:
        signature = inspect.signature(function)
        named = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=DEFAULTS.get(name),
                annotation=annotation.__forward_arg__,
            )
            for name, annotation in options.__annotations__.items()
        ]
        taken = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        function.__signature__ = signature.replace(parameters=[*taken, *named])  # type: ignore[attr-defined]
        return function

    return show
