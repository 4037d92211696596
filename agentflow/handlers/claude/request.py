"""From a task to the arguments of messages.create. Pure.

`params` goes through unchanged. What the SDK has no argument for travels in `extra_body`, so that
the API judges it and not the SDK's version. Whatever is given twice is refused: of two values one
would be lost, and nobody would know which.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any, Final

from agentflow.errors import InvalidTask
from agentflow.protocol.task import Task

DEFAULT_MODEL: Final = "claude-sonnet-5-5"
DEFAULT_MAX_TOKENS: Final = 4096

FIELDS: Final = ("model", "system", "max_tokens")
"""Fields that a task has itself and that params may give instead."""

REFUSED: Final = {
    "stream": "answers are always streamed",
    "timeout": "the task's own timeout says how long a try may take",
}
"""Parameters a task cannot set, and why."""

SDK_ONLY: Final = ("extra_headers", "extra_query", "extra_body")
"""Arguments of the SDK that are no field of a request; each is an object."""

BETAS: Final = "anthropic-beta"

NOT_ITS_OWN: Final = {
    **dict.fromkeys(
        ("authorization", "x-api-key", "proxy-authorization", "cookie"),
        "a worker's requests share its own credential, its limits and its bill; another one needs"
        " a worker of its own",
    ),
    **dict.fromkeys(
        ("host", "connection", "content-length", "content-encoding", "transfer-encoding", "te"),
        "the connection sets it",
    ),
    "content-type": "a request is JSON",
    "accept-encoding": "the connection sets it",
}
"""Headers a task cannot set, and why."""


def has_format(params: Mapping[str, Any]) -> bool:
    """Whether params ask for a format of the answer, in the API's own words."""
    config = params.get("output_config")
    return "output_format" in params or (isinstance(config, dict) and "format" in config)


class NotItsOwn(InvalidTask):
    """A task gives a header that is not its own to give: it fails alone, whoever it comes with."""


_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")


def build(
    task: Task,
    known: Container[str],
    *,
    model: str = DEFAULT_MODEL,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> dict[str, Any]:
    """Arguments for messages.create, `stream` aside. `known` names those the SDK has.

    Raises InvalidTask, naming the field at fault.
    """
    arguments: dict[str, Any] = {"model": task.model or model, "max_tokens": max_tokens}
    if task.system is not None:
        arguments["system"] = task.system
    if task.max_tokens is not None:
        arguments["max_tokens"] = task.max_tokens
    if task.params:
        _check(task)
        extra = dict(task.params.get("extra_body") or {})
        for name, value in task.params.items():
            if name in known:
                arguments[name] = value
            elif name not in ("extra_body", "betas"):
                extra[name] = value
        if "betas" in task.params:
            arguments["extra_headers"] = _with_betas(task)
        if extra:
            arguments["extra_body"] = extra
    if task.prompt is not None:
        arguments["messages"] = [{"role": "user", "content": task.prompt}]
    elif not arguments.get("messages"):
        raise InvalidTask(f"task {task.id}: kind claude needs a prompt or params.messages")
    if not isinstance(arguments["model"], str) or not arguments["model"]:
        raise InvalidTask(f"task {task.id}: params.model is not the name of a model")
    return arguments


def _check(task: Task) -> None:
    params = task.params
    if task.schema is not None and has_format(params):
        raise InvalidTask(f"task {task.id}: both schema and a format in params are given")
    for name, reason in REFUSED.items():
        if name in params:
            raise InvalidTask(f"task {task.id}: params.{name} cannot be set: {reason}")
    for name in FIELDS:
        if name in params and getattr(task, name) is not None:
            raise InvalidTask(f"task {task.id}: both {name} and params.{name} are given")
    if "messages" in params and task.prompt is not None:
        raise InvalidTask(f"task {task.id}: both prompt and params.messages are given")
    for name in SDK_ONLY:
        if name in params and not isinstance(params[name], dict):
            raise InvalidTask(f"task {task.id}: params.{name} is not an object")
    for name, value in (params.get("extra_headers") or {}).items():
        _check_header(task, name, value)
    for name in params.get("extra_body") or ():
        # It would go past the checks above, and past the limits and prices of the model named.
        if name in REFUSED or name in FIELDS or name == "messages" or name in params:
            raise InvalidTask(
                f"task {task.id}: {name} belongs into params, not into params.extra_body"
            )


def _check_header(task: Task, name: str, value: object) -> None:
    reason = NOT_ITS_OWN.get(name.strip().lower())
    if reason is not None:
        raise NotItsOwn(
            f"task {task.id}: params.extra_headers cannot hold {name.strip()}: {reason}"
        )
    # What the connection refuses, or worse, sends.
    if not _NAME.fullmatch(name) or (isinstance(value, str) and not _VALUE.fullmatch(value)):
        raise InvalidTask(
            f"task {task.id}: its request cannot be sent: {name[:64]!r} in params.extra_headers is"
            " no header of HTTP, or its value holds more than printable ASCII"
        )


def _with_betas(task: Task) -> dict[str, Any]:
    """The extra headers with params.betas, which the API reads from a header."""
    betas = task.params["betas"]
    names = [betas] if isinstance(betas, str) else betas
    if not isinstance(names, list) or not all(
        isinstance(name, str) and name and _VALUE.fullmatch(name) for name in names
    ):
        raise InvalidTask(f"task {task.id}: params.betas is not a list of names of betas")
    headers = dict(task.params.get("extra_headers") or {})
    given = [headers.pop(name) for name in list(headers) if name.lower() == BETAS]
    if names or given:
        headers[BETAS] = ",".join([*map(str, given), *names])
    return headers
