"""How an attempt ends: badly, too late, interrupted, or by a handler that breaks every rule."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentflow.handlers.contract import Handler, Outcome, Run
from agentflow.protocol import subjects
from agentflow.protocol.record import State, Usage
from agentflow.rules.retry import Signal
from tests.integration.conftest import StartWorker
from tests.support.handlers import Gate, failing
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(45)

OVERLOADED = Signal(status=529, type="overloaded_error")
CONFLICT = Signal(status=409, type="conflict_error")  # counts as well, and comes again soon
INVALID = Signal(status=400, type="invalid_request_error")
LIMITED = Signal(status=429, type="rate_limit_error", retry_after=0.2)


async def run_one(
    observer: Observer,
    start_worker: StartWorker,
    handler: Handler,
    **fields: Any,
) -> str:
    """Start a worker with this handler and give it one task; returns the task's id."""
    await start_worker({"tested": handler})
    await observer.submit({"prompt": "x", "kind": "tested", "id": "it", **fields})
    return "it"


async def the_worker_still_works(observer: Observer) -> None:
    await observer.submit({"prompt": "x", "kind": "echo", "id": "good"})
    assert (await observer.ended("good")).state == State.SUCCEEDED
    await observer.at_rest()


# Trying again.


async def test_a_failed_attempt_is_parked_and_continued(
    observer: Observer, start_worker: StartWorker
) -> None:
    handler = failing(CONFLICT, times=2)
    task_id = await run_one(observer, start_worker, handler, labels={"a": "b"})
    ended = await observer.ended(task_id)
    log = [entry.record for entry in await observer.log(task_id) if entry.record]

    assert [one.state for one in log] == [
        State.RUNNING,
        State.RETRYING,
        State.RUNNING,
        State.RETRYING,
        State.RUNNING,
        State.SUCCEEDED,
    ]
    assert [one.attempt for one in log] == [1, 1, 2, 2, 3, 3]
    assert [one.failures for one in log] == [0, 1, 1, 2, 2, 2]
    assert [one.usage.input_tokens for one in log] == [0, 10, 10, 20, 20, 30]
    assert [one.cost_usd for one in log] == [0, 7e-6, 7e-6, 14e-6, 14e-6, 21e-6]
    assert ended.usage == Usage(input_tokens=30, output_tokens=9)
    parked = log[1]
    assert parked.resume_at is not None
    assert parked.reason
    assert parked.error is not None
    assert (parked.error.type, parked.error.status) == ("scripted", 409)
    assert parked.request_id == "req_1"
    assert len({one.message for one in log}) == 3  # each continuation is a message of its own
    assert {one.timings.submitted for one in log} == {log[0].timings.submitted}
    assert ended.labels == {"a": "b"}
    await observer.at_rest()
    assert await observer.dead(task_id) is None


async def test_a_rate_limit_parks_and_counts_no_failure(
    observer: Observer, start_worker: StartWorker
) -> None:
    handler = failing(LIMITED, times=3)
    task_id = await run_one(observer, start_worker, handler, max_attempts=1)
    ended = await observer.ended(task_id)
    assert (ended.state, ended.attempt, ended.failures) == (State.SUCCEEDED, 4, 0)


async def test_a_rate_limit_is_waited_for(observer: Observer, start_worker: StartWorker) -> None:
    handler = failing(LIMITED, times=1)
    task_id = await run_one(observer, start_worker, handler)
    parked = (await observer.state(task_id, State.RETRYING)).record
    ended = await observer.ended(task_id)
    assert parked is not None
    assert parked.resume_at is not None
    assert (parked.resume_at - parked.time).total_seconds() >= 0.2
    assert ended.timings.started is not None
    assert ended.timings.started >= parked.resume_at - timedelta(milliseconds=50)


async def test_the_last_attempt_fails_the_task(
    observer: Observer, start_worker: StartWorker
) -> None:
    await observer.listen_for_replies("answers")
    await start_worker({"tested": failing(CONFLICT)})
    payload = b'{"prompt": "x", "kind": "tested", "id": "it", "max_attempts": 2}'
    await observer.submit(payload, {subjects.REPLY: "answers", "X-Own": "kept", "Nats-Msg-Id": "m"})
    ended = await observer.ended("it")
    assert (ended.state, ended.attempt, ended.failures) == (State.FAILED, 2, 2)
    assert ended.error is not None
    assert ended.usage.input_tokens == 20
    await observer.at_rest()
    letter = await observer.dead("it")
    assert letter is not None
    assert letter.data == payload
    last = await observer.last("it")
    assert letter.headers[subjects.ID] == "it"
    assert letter.headers[subjects.REASON] == ended.reason
    assert letter.headers[subjects.SEQUENCE] == str(last.sequence)
    assert letter.headers["X-Own"] == "kept"
    assert "Nats-Msg-Id" not in letter.headers
    await observer.until(lambda: len(observer.replies) == 1)


async def test_a_hopeless_request_fails_at_once(
    observer: Observer, start_worker: StartWorker
) -> None:
    task_id = await run_one(observer, start_worker, failing(INVALID))
    ended = await observer.ended(task_id)
    assert (ended.state, ended.attempt, ended.failures) == (State.FAILED, 1, 1)
    await observer.at_rest()
    assert await observer.dead(task_id) is not None


async def test_a_task_that_takes_too_long(observer: Observer, start_worker: StartWorker) -> None:
    gate = Gate()
    task_id = await run_one(observer, start_worker, gate, timeout=0.1, max_attempts=2)
    ended = await observer.ended(task_id)
    assert ended.state == State.FAILED
    assert ended.error is not None
    assert ended.error.type == "timeout"
    assert "0.1 s" in ended.error.message
    assert len(gate.runs) == len(gate.ended) == 2
    await the_worker_still_works(observer)


async def test_a_handlers_own_timeout_is_not_the_tasks(
    observer: Observer, start_worker: StartWorker
) -> None:
    async def impatient(run: Run) -> Outcome:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)
        return Outcome()

    task_id = await run_one(observer, start_worker, impatient, max_attempts=1)
    ended = await observer.ended(task_id)
    assert ended.error is not None
    assert ended.error.type == "TimeoutError"


# Handlers that break the rules.


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


def _raises(error: BaseException) -> Handler:
    async def handler(run: Run) -> Outcome:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("broken\x1b[2J"), "ValueError"),
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
        (GeneratorExit(), "GeneratorExit"),
        (BaseExceptionGroup("two", [SystemExit(1), ValueError("x")]), "BaseExceptionGroup"),
        (_Unspeakable(), "_Unspeakable"),
        (FileNotFoundError("half a pair: \udcff"), "FileNotFoundError"),
        (RuntimeError("x" * 100_000), "RuntimeError"),
    ],
)
async def test_whatever_a_handler_raises_fails_its_attempt(
    observer: Observer, start_worker: StartWorker, error: BaseException, name: str
) -> None:
    task_id = await run_one(observer, start_worker, _raises(error), max_attempts=2)
    ended = await observer.ended(task_id)
    assert ended.state == State.FAILED
    assert (ended.attempt, ended.failures) == (2, 2)
    assert ended.error is not None
    assert ended.error.type == name
    assert len(ended.error.message) <= 4096
    await the_worker_still_works(observer)


async def test_a_cancelled_helper_of_a_handler_is_the_handlers_failure(
    observer: Observer, start_worker: StartWorker
) -> None:
    """A CancelledError that nobody outside asked for must not hand the task back for ever."""

    async def handler(run: Run) -> Outcome:
        helper = asyncio.create_task(asyncio.sleep(60))
        asyncio.get_running_loop().call_later(0.01, helper.cancel)
        await helper
        return Outcome()

    task_id = await run_one(observer, start_worker, handler, max_attempts=2)
    ended = await observer.ended(task_id)
    assert (ended.state, ended.attempt) == (State.FAILED, 2)


def _returns(outcome: Any) -> Handler:
    async def handler(run: Run) -> Outcome:
        run.usage = Usage(input_tokens=5)
        result: Outcome = outcome
        return result

    return handler


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome(value=object()), "result_not_json"),
        (Outcome(value={(1, 2): 3}), "result_not_json"),
        (Outcome(value="half a pair: \ud800"), "result_not_json"),
        (Outcome(content=_loop()), "result_not_json"),
        (Outcome(text=3), "bad_outcome"),  # type: ignore[arg-type]
        (Outcome(stop_reason=b"x"), "bad_outcome"),  # type: ignore[arg-type]
        (None, "bad_outcome"),
        ("text", "bad_outcome"),
    ],
)
async def test_a_result_that_no_record_can_hold(
    observer: Observer, start_worker: StartWorker, outcome: Any, reason: str
) -> None:
    task_id = await run_one(observer, start_worker, _returns(outcome))
    ended = await observer.ended(task_id)
    assert (ended.state, ended.reason, ended.attempt) == (State.FAILED, reason, 1)
    assert ended.usage.input_tokens == 5  # it was paid all the same
    await the_worker_still_works(observer)


@pytest.mark.parametrize(
    ("name", "value"),
    [("usage", {"input_tokens": 1}), ("cost_micro", "1"), ("model", 3), ("request_id", b"r")],
)
async def test_what_a_handler_sets_wrongly_fails_the_task(
    observer: Observer, start_worker: StartWorker, name: str, value: Any
) -> None:
    async def handler(run: Run) -> Outcome:
        setattr(run, name, value)
        return Outcome(text="x")

    task_id = await run_one(observer, start_worker, handler)
    ended = await observer.ended(task_id)
    assert (ended.state, ended.reason, ended.cost_usd) == (State.FAILED, "bad_outcome", None)
    assert (await observer.last(task_id)).record == ended
    await the_worker_still_works(observer)


async def test_only_text_can_be_emitted(observer: Observer, start_worker: StartWorker) -> None:
    async def handler(run: Run) -> Outcome:
        for part in ("a", None):
            run.emit(part)  # type: ignore[arg-type]
        return Outcome()

    task_id = await run_one(observer, start_worker, handler, max_attempts=1)
    ended = await observer.ended(task_id)
    assert ended.error is not None
    assert (ended.error.type, ended.attempt) == ("TypeError", 1)


async def test_a_text_too_long_is_cut_and_marked(
    observer: Observer, start_worker: StartWorker
) -> None:
    text = 'ä"\n' * 3_000_000
    task_id = await run_one(observer, start_worker, _returns(Outcome(text=text)))
    ended = await observer.ended(task_id)
    assert ended.state == State.SUCCEEDED
    assert ended.truncated
    assert ended.text is not None
    assert text.startswith(ended.text)
    assert len(ended.text) > 1_000_000


async def test_a_value_too_large_fails_the_task(
    observer: Observer, start_worker: StartWorker
) -> None:
    task_id = await run_one(observer, start_worker, _returns(Outcome(value="x" * 9_000_000)))
    ended = await observer.ended(task_id)
    assert (ended.state, ended.reason) == (State.FAILED, "result_too_large")
    await the_worker_still_works(observer)


@pytest.mark.parametrize("nats_server", ["max_payload: 100KB"], indirect=True)
async def test_a_task_too_large_to_be_parked_fails(
    observer: Observer, start_worker: StartWorker
) -> None:
    """Nothing is left for the headers of a schedule: it must end, not come again for ever."""
    await start_worker({"tested": failing(OVERLOADED, times=1)})
    room = observer.connection.max_payload - 100
    payload = b'{"kind": "tested", "id": "it", "prompt": "%s"}'
    payload %= b"x" * (room - len(payload))
    await observer.submit(payload)
    ended = await observer.ended("it")
    assert (ended.state, ended.reason) == (State.FAILED, "too_large")
    await observer.at_rest()
    letter = await observer.dead("it")
    assert letter is not None
    assert payload.startswith(letter.data)
    assert len(letter.data) > len(payload) - 500


# Not yet.


async def test_not_before_waits_without_a_slot(
    observer: Observer, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1)
    due = datetime.now(UTC) + timedelta(seconds=1)
    task = {"prompt": "x", "kind": "echo", "id": "later", "not_before": due.isoformat()}
    await observer.submit(task)
    parked = (await observer.state("later", State.SCHEDULED)).record
    assert parked is not None
    assert parked.resume_at == due
    assert (parked.attempt, parked.reason) == (0, "not_before")
    await observer.at_rest()
    assert worker.actor.heartbeat().running == 0
    ended = await observer.ended("later")
    assert (ended.state, ended.attempt) == (State.SUCCEEDED, 1)
    assert ended.timings.started is not None
    assert ended.timings.started >= due - timedelta(milliseconds=50)
    assert await observer.states("later") == [State.SCHEDULED, State.RUNNING, State.SUCCEEDED]

    async def sourced() -> bool:
        return await observer.messages(subjects.SCHEDULE) == 0

    await observer.becomes(sourced)


async def test_a_not_before_in_the_past_is_now(
    observer: Observer, start_worker: StartWorker
) -> None:
    await start_worker()
    task = {"prompt": "x", "kind": "echo", "id": "now", "not_before": "0001-01-01T00:00:00+23:59"}
    await observer.submit(task)
    assert (await observer.ended("now")).attempt == 1
