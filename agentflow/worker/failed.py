"""How an attempt failed, from what its handler raised or handed over."""

from __future__ import annotations

import logging
from datetime import datetime

import msgspec

from agentflow.errors import InvalidTask
from agentflow.handlers import trace
from agentflow.handlers.contract import AttemptFailed, Run
from agentflow.protocol.record import Failure
from agentflow.rules import starting
from agentflow.rules.retry import Signal
from agentflow.worker import handed

_log = logging.getLogger(__name__)


class Failed(msgspec.Struct, frozen=True):
    """The attempt failed: what to write, and what the retry table is asked (None: no retry).

    `resume_at`: a request within it met what is the route's failure; the task waits until then.
    """

    failure: Failure
    signal: Signal | None = None
    resume_at: datetime | None = None


def by_error(error: BaseException, run: Run) -> Failed:
    """The failure that a handler's exception is."""
    match error:
        case AttemptFailed():
            signal = handed.with_message(error.signal, error.failure)
            failure = handed.traced(handed.tidy(error.failure), run.trace)
            return Failed(failure, signal, error.resume_at)
        case InvalidTask():
            return Failed(handed.traced(handed.failure(error, error.reason), run.trace))
        case _:
            failure = handed.traced(handed.failure(error), trace.trace_of(error))
            _log.warning(
                "task %s: its handler raised %s: %s",
                run.task.id,
                failure.type,
                failure.message[:500],
                exc_info=trace.exc_info(error),
                extra={"action": "handler", "task_id": run.task.id, "attempt": run.attempt},
            )
            return Failed(failure, Signal(exception="handler"))


def by_time(run: Run, now: datetime) -> Failed:
    """The failure of an attempt whose time is up, whatever its handler made of it."""
    if starting.past_deadline(run.task, now):
        return Failed(Failure(type="deadline", message="its deadline has passed"))
    text = f"no result within the task's timeout of {run.task.timeout:g} s"
    if run.partial is not None:
        # The next try would be paid for again, and meet the same.
        text += "; its answer was still coming, and what came is kept. Give it a longer timeout"
        return Failed(Failure(type="timeout", message=text))
    return Failed(Failure(type="timeout", message=text), Signal(exception="timeout"))


def by_deafness(run: Run, now: datetime) -> Failed:
    """The same, where the handler does not end by that."""
    over = by_time(run, now)
    text = f"{over.failure.message}, and its handler does not hear its cancellation"
    return Failed(msgspec.structs.replace(over.failure, message=text), over.signal)


def by_outcome(wrong: str, reason: str = "bad_outcome") -> Failed:
    """The failure of a handler that handed over what no record can hold."""
    return Failed(Failure(type=reason, message=wrong))
