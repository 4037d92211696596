"""What a function raised, as what the retry table is asked.

A TaskGroup raises a group, whatever was raised within it. Of the errors in it the one counts that
says most about the task: one that ends it, then one that says when to come back, then any other.
What is left is told with type and text, so that nothing is lost.
"""

from __future__ import annotations

from agentflow.errors import Fail, InvalidTask, Retry
from agentflow.handlers.contract import AttemptFailed
from agentflow.protocol.record import Failure
from agentflow.rules.retry import Signal, decide


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group and in the groups within; of any other error itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for part in error.exceptions for leaf in leaves(part)]


def meant(error: BaseException) -> BaseException:
    """The one that counts of what was raised."""
    return min(leaves(error), key=_rank)


def judged(error: BaseException) -> BaseException:
    """What the worker is told of `error`: InvalidTask, AttemptFailed, or an error as it is."""
    one = meant(error)
    match one:
        case Retry():
            failure = Failure(type="Retry", message=str(one))
            signal = Signal(
                exception="handler" if one.delay is None else "asked", retry_after=one.delay
            )
            return AttemptFailed(failure, signal)
        case Fail():
            return InvalidTask(str(one), reason=one.reason)
        case InvalidTask() | AttemptFailed():
            return one
    if one is error:
        return error
    return AttemptFailed(_failure(error), Signal(exception="handler"))


def _rank(error: BaseException) -> tuple[int, float]:
    """The lowest counts; of two wishes to come back the one that waits longer."""
    match error:
        case Fail() | InvalidTask():
            return 0, 0.0
        case AttemptFailed() if not decide(
            error.signal, failures=0, max_attempts=2, chance=0.0
        ).retry:
            return 1, 0.0
        case Retry():
            return 2, -(error.delay or 0.0)
        case AttemptFailed():
            return 3, -(error.signal.retry_after or 0.0)
    return 4, 0.0


def _failure(group: BaseException) -> Failure:
    """The failure of a group in which nothing says what to do."""
    told = list(dict.fromkeys(_told(leaf) for leaf in leaves(group)))
    first = leaves(group)[0]
    if len(told) == 1:
        return Failure(type=type(first).__name__, message=_text(first))
    return Failure(type=type(group).__name__, message="; ".join(told))


def _told(error: BaseException) -> str:
    text = _text(error)
    name = type(error).__name__
    return name if text == name else f"{name}: {text}"


def _text(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # a broken __str__ must not hide the error it belongs to
        return type(error).__name__
