"""What a handler hands over, made fit for a record.

Handlers are other people's code. A record that cannot be written would run the task again, and one
that cannot be read would pass for one of a later version: both are worse than a failed task with a
clear reason.
"""

from __future__ import annotations

from operator import attrgetter
from types import NoneType
from typing import Any, Final

import msgspec

from agentflow.handlers.contract import Outcome, Run, Trace
from agentflow.protocol import limits
from agentflow.protocol.faithful import flaw
from agentflow.protocol.record import TOKENS_MOST, Failure, Repair, Usage
from agentflow.rules.retry import Signal

_TEXT: Final = (str, NoneType)
_SPENT: Final[tuple[tuple[str, tuple[type, ...]], ...]] = (
    ("usage", (Usage,)),
    ("cost_micro", (int, NoneType)),
    ("model", _TEXT),
    ("request_id", _TEXT),
    ("first_token_s", (float, int, NoneType)),
    ("simulated", (bool,)),
    ("usage_told", (dict, NoneType)),
    ("unpriced", _TEXT),
    ("estimated", (bool,)),
    ("assumed", (list,)),
    ("partial", (Outcome, NoneType)),
    ("repair", (Repair, NoneType)),
)
COST_MOST: Final = 10**14
"""Micro-dollars of one attempt: a hundred million dollars."""
_TOKENS: Final = tuple(field.name for field in msgspec.structs.fields(Usage))
_spent: Final = attrgetter(*(name for name, _ in _SPENT))
_tokens: Final = attrgetter(*_TOKENS)
_COUNTS: Final = (int,) * len(_TOKENS)
_seen: Final[set[tuple[type, ...]]] = set()
"""Types of what runs gave that were found right: a handler gives the same ones each time."""


def wrong_in_run(run: Run) -> str | None:
    """What the handler set to a value of the wrong type, as a sentence; None when all is well."""
    types = tuple(map(type, _spent(run)))
    if types in _seen and tuple(map(type, _tokens(run.usage))) == _COUNTS:
        return _out_of_bounds(run)
    wrong = _wrong(run) or _out_of_bounds(run)
    if wrong is None and len(_seen) < 100:
        _seen.add(types)
    return wrong


def _out_of_bounds(run: Run) -> str | None:
    """A number that no reader of records would take."""
    for name, count in zip(_TOKENS, _tokens(run.usage), strict=True):
        if not -TOKENS_MOST <= count <= TOKENS_MOST:
            return f"the handler set run.usage.{name} to {_shown_number(count)}"
    if run.cost_micro is not None and not -COST_MOST <= run.cost_micro <= COST_MOST:
        return f"the handler set run.cost_micro to {_shown_number(run.cost_micro)}"
    return None


def _shown_number(number: int) -> str:
    return f"{number:.3g}" if abs(number) < 1e300 else "a number without an end"


def _wrong(run: Run) -> str | None:
    for name, types in _SPENT:
        if not isinstance(getattr(run, name), types):
            return _sentence(f"run.{name}", getattr(run, name))
    for name in _TOKENS:
        if not isinstance(getattr(run.usage, name), int):
            return _sentence(f"run.usage.{name}", getattr(run.usage, name))
    return None


def wrong_in_outcome(outcome: Any) -> str | None:
    """Why what the handler returned is no outcome, as a sentence; None when it is one."""
    if not isinstance(outcome, Outcome):
        return f"the handler returned {type(outcome).__name__}, not an Outcome"
    for name in ("text", "stop_reason"):
        if not isinstance(getattr(outcome, name), _TEXT):
            return _sentence(name, getattr(outcome, name))
    return None


def unfaithful(outcome: Outcome) -> str | None:
    """What JSON would change of what the handler returned, as a sentence."""
    if outcome.value is None and outcome.content is None:
        return None
    try:
        return flaw(outcome.value, "value", binary=True) or flaw(outcome.content, "content")
    except RecursionError:
        return None  # told where it is written


def _sentence(name: str, value: Any) -> str:
    return f"the handler set {name} to a {type(value).__name__}"


def forget_spent(run: Run) -> None:
    """Take back what a record could not hold; the cost is unknown then."""
    run.usage = Usage()
    run.cost_micro = None
    run.model = run.task.model
    run.request_id = run.first_token_s = None
    run.simulated = run.estimated = False
    run.usage_told = run.unpriced = run.partial = run.repair = None
    run.assumed = []


def with_message(signal: Signal, failure: Failure) -> Signal:
    """The signal with the API's sentence, where its maker left that to the failure."""
    if signal.message is not None or signal.status is None:
        return signal
    return msgspec.structs.replace(signal, message=str(failure.message))


def shown(text: str, length: int = limits.ERROR_TEXT) -> str:
    """Text that can be written: not too long, and without the halves of surrogate pairs."""
    if len(text) > length:
        text = text[: length - 3] + "..."
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def failure(error: BaseException, reason: str = "") -> Failure:
    """The failure an exception is."""
    name = type(error).__name__
    try:
        text = f"it called exit({error.code})" if isinstance(error, SystemExit) else str(error)
    except Exception:  # a broken __str__ must not hide the error it belongs to
        text = ""
    return Failure(type=reason or name, message=shown(text or name))


def tidy(raw: Failure) -> Failure:
    """A failure as a handler made it, fit for a record."""

    def text(value: Any, length: int = 200) -> str | None:
        return None if value is None else shown(str(value), length)

    return Failure(
        type=text(raw.type) or "error",
        message=text(raw.message, limits.ERROR_TEXT) or "",
        status=raw.status if isinstance(raw.status, int) else None,
        code=text(raw.code),
        request_id=text(raw.request_id),
        at=text(raw.at),
        traceback=text(raw.traceback, limits.TRACEBACK),
    )


def traced(failure: Failure, trace: Trace | None) -> Failure:
    """A failure with the place where it happened, where that is known."""
    if trace is None or trace.at is None:
        return failure
    traceback = None if trace.text is None else shown(trace.text, limits.TRACEBACK)
    return msgspec.structs.replace(failure, at=shown(trace.at, 300), traceback=traceback)
