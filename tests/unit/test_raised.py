"""What counts of what a function raised: groups of errors, and where each came from."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

import agentflow
from agentflow.errors import Fail, InvalidTask, Retry
from agentflow.handlers import trace
from agentflow.handlers.contract import AttemptFailed, Run
from agentflow.handlers.functions import raised
from agentflow.protocol import limits
from agentflow.protocol.record import Failure
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task
from agentflow.rules.retry import Signal


def asked(**signal: Any) -> AttemptFailed:
    return AttemptFailed(Failure(type="api", message="asked"), Signal(**signal))


REFUSED = asked(status=400)
LIMITED = asked(status=429, retry_after=7.0)
DISK = OSError("the disk is gone")


def group(*errors: BaseException) -> BaseException:
    return BaseExceptionGroup("unhandled errors in a TaskGroup", errors)


@pytest.mark.parametrize(
    ("errors", "kind", "reason"),
    [
        ((Fail("no such customer", reason="no_customer"),), InvalidTask, "no_customer"),
        ((DISK, Fail("x", reason="gone")), InvalidTask, "gone"),
        ((Retry("later", delay=9), Fail("x", reason="gone")), InvalidTask, "gone"),
        ((LIMITED, InvalidTask("bad", reason="bad")), InvalidTask, "bad"),
        ((Retry("later", delay=9), REFUSED), AttemptFailed, 400),
        ((DISK, Retry("later", delay=9)), AttemptFailed, "asked"),
        ((LIMITED, DISK), AttemptFailed, 429),
        ((group(DISK, group(LIMITED)), ValueError()), AttemptFailed, 429),
        ((DISK,), AttemptFailed, "handler"),
    ],
)
def test_the_error_that_says_most_counts(
    errors: tuple[BaseException, ...], kind: type, reason: Any
) -> None:
    told = raised.judged(group(*errors))
    assert type(told) is kind
    if isinstance(told, InvalidTask):
        assert told.reason == reason
    else:
        assert isinstance(told, AttemptFailed)
        assert reason in (told.signal.status, told.signal.exception)


def test_of_two_wishes_the_longer_one_counts() -> None:
    told = raised.judged(group(Retry(delay=3), Retry(delay=300), Retry()))
    assert isinstance(told, AttemptFailed)
    assert told.signal.retry_after == 300


def test_errors_that_say_nothing_are_named() -> None:
    one = raised.judged(group(group(DISK)))
    several = raised.judged(
        group(DISK, KeyError("customer"), OSError("the disk is gone"), SystemExit())
    )
    assert isinstance(one, AttemptFailed)
    assert isinstance(several, AttemptFailed)
    assert (one.failure.type, one.failure.message) == ("OSError", "the disk is gone")
    assert several.failure.message == "OSError: the disk is gone; KeyError: 'customer'; SystemExit"


async def failed(function: Callable[..., Any]) -> Run:
    app = agentflow.App()
    app.task(kind="k")(function)
    run = Run(Task(id="t", queue="default", priority=Priority.NORMAL, kind="k"))
    async with app.open() as handlers:
        with pytest.raises((InvalidTask, AttemptFailed)):
            await handlers["k"](run)
    return run


async def test_a_wish_tells_where_it_was_made() -> None:
    def gives_up() -> None:
        raise Fail("no")

    async def in_a_group() -> None:
        async def part() -> None:
            raise OSError("the disk is gone")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(part())

    for function, place in ((gives_up, "gives_up"), (in_a_group, "in_a_group.<locals>.part")):
        run = await failed(function)
        assert run.trace is not None
        assert (run.trace.at or "").startswith("tests/unit/test_raised.py:")
        assert (run.trace.at or "").endswith(place)
        assert 'test_raised.py", line' in (run.trace.text or "")
        assert "agentflow/handlers" not in (run.trace.text or "")


def raised_by(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def test_the_line_is_the_authors_and_not_the_librarys() -> None:
    error = raised_by(lambda: json.loads("{"))
    seen = trace.trace_of(error)
    assert (seen.at or "").startswith("tests/unit/test_raised.py:")
    assert "json/decoder.py" in (seen.text or "")


def test_a_recursion_without_end_has_a_short_trace() -> None:
    def again(depth: str) -> None:
        again(depth + "x")

    seen = trace.trace_of(raised_by(lambda: again("")))
    assert seen.text is not None
    assert len(seen.text) <= limits.TRACEBACK
    assert seen.text.endswith("maximum recursion depth exceeded")


def test_what_no_log_could_write_is_not_given_to_it() -> None:
    def broken() -> None:
        raise OSError("half a pair: \udcff")

    assert trace.exc_info(raised_by(broken)) is None
