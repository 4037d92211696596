"""Errors as problems (RFC 9457): the sentences are those of errors.py, only the dress is HTTP's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from agentflow import errors
from agentflow.errors import AgentFlowError

TYPE: Final = "application/problem+json"
_encoder = msgspec.json.Encoder()
_WORDS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was not answered as asked. `type` names the error, `detail` says what to do."""

    type: str
    title: str
    status: int
    detail: str = ""
    task_id: str = ""


class Refusal(Exception):
    """A request that HTTP itself gives a status to."""

    def __init__(
        self, status: int, detail: str, *, name: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.name = name
        self.headers = headers or {}


_STATUS: Final[tuple[tuple[type[AgentFlowError], int], ...]] = (
    (errors.InvalidTask, 422),
    (errors.UsageError, 400),
    (errors.TaskNotFound, 404),
    (errors.WorkerNotFound, 404),
    (errors.AmbiguousId, 409),
    (errors.ResultTimeout, 504),
    (errors.TaskError, 409),
    (errors.StreamFull, 429),
    (errors.PayloadTooLarge, 413),
    (errors.PermissionDenied, 403),
    (errors.MasterAbsent, 503),
    (errors.NotConnected, 503),
    (errors.NoAnswer, 503),
    (errors.BusError, 502),
    (errors.BudgetSpent, 409),
)
"""The first that fits."""
_RETRY_AFTER: Final = {429: "5", 503: "2"}
"""Seconds after which asking again may do better."""


def status_of(error: AgentFlowError) -> int:
    """The status that an error is answered with."""
    if isinstance(error, errors.InvalidTask) and error.reason == "too_large":
        return 413
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def of_error(error: AgentFlowError) -> Problem:
    """What is said of an error."""
    name = type(error).__name__
    return Problem(
        type=f"urn:agentflow:{name}",
        title=_title(name),
        status=status_of(error),
        detail=str(error),
        task_id=getattr(error, "task_id", ""),
    )


def of_refusal(refusal: Refusal) -> Problem:
    """What is said of a refusal."""
    phrase = HTTPStatus(refusal.status).phrase
    return Problem(
        type=f"urn:agentflow:{refusal.name}" if refusal.name else "about:blank",
        title=_title(refusal.name) if refusal.name else phrase,
        status=refusal.status,
        detail=refusal.detail,
    )


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> web.Response:
    """The response of a problem."""
    own = {"Content-Type": TYPE, "Cache-Control": "no-store", **(headers or {})}
    if problem.status in _RETRY_AFTER:
        own.setdefault("Retry-After", _RETRY_AFTER[problem.status])
    return web.Response(status=problem.status, body=_encoder.encode(problem), headers=own)


def _title(name: str) -> str:
    return " ".join(_WORDS.split(name)).capitalize()
