"""How functions of one's own fail: groups of errors, tracebacks, figures of progress."""

import asyncio
import logging
from typing import Any

import pytest

import agentflow
from agentflow.protocol.record import State
from tests.integration.conftest import StartWorker
from tests.integration.test_app import at_work
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(60)


async def test_what_is_raised_in_a_task_group_keeps_its_meaning(
    observer: Observer, start_worker: StartWorker
) -> None:
    app = agentflow.App()

    @app.task(retries=1)
    async def group(what: str) -> None:
        async def part() -> None:
            if what == "fail":
                raise agentflow.Fail("no such customer", reason="no_customer")
            if what == "retry":
                raise agentflow.Retry("not there yet", delay=300)
            raise OSError("the disk is gone")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(part())

    async with at_work(app, start_worker):
        for what in ("fail", "retry", "other"):
            await observer.submit({"kind": "group", "id": what, "params": {"what": what}})
        fail, other = await observer.ended("fail"), await observer.ended("other")
        retry = (await observer.state("retry", State.RETRYING)).record
    assert (fail.attempt, fail.reason) == (1, "no_customer")
    assert retry is not None
    assert retry.resume_at is not None
    assert retry.resume_at > retry.time
    assert (retry.resume_at - retry.time).total_seconds() > 250
    assert other.attempt == 2
    assert other.error is not None
    assert (other.error.type, other.error.message) == ("OSError", "the disk is gone")


async def test_a_failure_names_its_line_and_is_logged_with_its_trace(
    observer: Observer, start_worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    app = agentflow.App()

    @app.task(retries=0)
    def deep(how: str) -> Any:
        def inner() -> Any:
            if how == "fail":
                raise agentflow.Fail("there is nothing")
            return {}["customer"]

        return inner()

    with caplog.at_level(logging.DEBUG):
        async with at_work(app, start_worker):
            for how in ("bug", "fail"):
                await observer.submit({"kind": "deep", "id": how, "params": {"how": how}})
            ended = [await observer.ended(how) for how in ("bug", "fail")]
    for record in ended:
        error = record.error
        assert error is not None
        assert error.at is not None
        assert error.at.startswith("tests/integration/test_own_failures.py:")
        assert error.at.endswith("in " + deep.__qualname__ + ".<locals>.inner")
        assert error.traceback is not None
        assert 'return {}["customer"]' in error.traceback or "agentflow.Fail(" in error.traceback
        assert "agentflow/handlers" not in error.traceback
        (line,) = [
            one for one in caplog.records if one.message.startswith(f"task {record.id}: its")
        ]
        assert line.exc_info is not None
        assert line.levelno == (logging.WARNING if record.id == "bug" else logging.DEBUG)


async def test_a_failure_of_an_argument_has_no_trace_of_ours(
    observer: Observer, start_worker: StartWorker
) -> None:
    app = agentflow.App()

    @app.task
    def add(one: int) -> int:
        return one

    async with at_work(app, start_worker):
        await observer.submit({"kind": "add", "id": "it", "params": {"one": "x"}})
        ended = await observer.ended("it")
    assert ended.error is not None
    assert (ended.error.at, ended.error.traceback) == (None, None)


@pytest.mark.parametrize("plain", [False, True], ids=["async", "sync"])
async def test_a_figure_of_progress_fails_nothing(
    plain: bool, observer: Observer, start_worker: StartWorker
) -> None:
    app = agentflow.App()
    figures = [sum([1 / 9] * 9), 50, -1, float("inf"), 10**400]

    def report(ctx: Any, which: int) -> None:
        if which < len(figures):
            ctx.progress(figures[which])
        ctx.progress(float("nan"), "in between")
        ctx.progress("page 2 of 5")

    if plain:
        app.task(kind="count", retries=0)(lambda ctx, which: report(ctx, which))
    else:

        @app.task(retries=0)
        async def count(ctx: agentflow.Context, which: int) -> None:
            report(ctx, which)

    seen = []
    async with at_work(app, start_worker):
        for which in range(len(figures) + 1):
            name = f"it-{which}"
            await observer.submit({"kind": "count", "id": name, "params": {"which": which}})
            assert (await observer.ended(name)).state == State.SUCCEEDED
            log = [entry.record for entry in await observer.log(name) if entry.record]
            seen.append([(one.progress, one.note) for one in log if one.note][-1])
    note = "page 2 of 5"
    assert seen == [*((one, note) for one in (1.0, 1.0, 0.0, 1.0, 1.0)), (None, note)]


async def test_a_value_that_json_would_change_fails_the_task_once(
    observer: Observer, start_worker: StartWorker
) -> None:
    app = agentflow.App()

    @app.task
    async def mean() -> float:
        return float("nan")

    async with at_work(app, start_worker):
        await observer.submit({"kind": "mean", "id": "it", "params": {}})
        ended = await observer.ended("it")
    assert (ended.state, ended.reason, ended.attempt) == (State.FAILED, "result_not_json", 1)
    assert ended.error is not None
    assert ended.error.message == (
        "task it: kind mean: its result is NaN, which JSON cannot hold; give a finite number, or "
        "null"
    )
