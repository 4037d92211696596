"""Gates with real workers: who waits, who is told, and what ends the waiting."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agentflow.bus.streams import bucket as bucket_module
from agentflow.bus.streams import provision
from agentflow.bus.streams.bucket import Board
from agentflow.handlers.contract import AttemptFailed, Handler, Outcome, Run
from agentflow.protocol import subjects
from agentflow.protocol.record import Failure, State
from agentflow.protocol.task import Task
from agentflow.rules.retry import Signal
from agentflow.rules.routes import closures, gates
from agentflow.rules.routes.closures import Closed
from agentflow.rules.routes.gates import Paused
from agentflow.rules.routes.route import Route
from tests.integration.conftest import StartWorker
from tests.support.observer import Observer

ROUTE = Route("pool", "opus")


class Claude:
    """A handler of a pool: fails with `signals` first, then answers."""

    def __init__(self, *signals: Signal) -> None:
        self.signals = list(signals)
        self.calls: list[str] = []
        self.most = 0
        self.now = 0
        self.hold: asyncio.Event | None = None
        self.overloaded: Signal | None = None
        self.answers = False

    def route(self, task: Task) -> Route:
        return ROUTE

    async def __call__(self, run: Run) -> Outcome:
        self.calls.append(run.task.id)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.signals:
                signal = self.signals.pop(0)
                failure = Failure(type=signal.type or "error", message="refused", code=signal.code)
                raise AttemptFailed(failure, signal)
            if self.answers:
                run.answered()
            if self.hold is not None:
                await self.hold.wait()
            if self.overloaded is not None:
                raise AttemptFailed(Failure(type="error", message="no"), self.overloaded)
            return Outcome(text="answered")
        finally:
            self.now -= 1


def handlers(claude: Claude) -> dict[str, Handler]:
    return {"claude": claude}


async def bucket(observer: Observer) -> Board:
    board = Board(observer.js)
    await board.start()
    return board


async def set_key(board: Board, key: str, value: Any) -> None:
    data = None if value is None else msgspec.json.encode(value)
    await board.change(key, lambda _: data)


async def submit(
    observer: Observer, prompt: str | None, *, queue: str = "default", **fields: Any
) -> None:
    body = {"prompt": prompt or "x", **fields}
    await observer.submit(body, subject=f"agentflow.tasks.{queue}")


def now() -> datetime:
    return datetime.now(UTC)


async def test_a_rate_limit_holds_back_all_workers_of_the_pool(
    observer: Observer, start_worker: StartWorker
) -> None:
    limited = Claude(Signal(status=429, type="rate_limit_error", retry_after=1.0))
    other = Claude()
    await start_worker(handlers(limited), queues=["one"])
    await start_worker(handlers(other), queues=["two"])
    board = await bucket(observer)
    await submit(observer, "first", id="a", queue="one")
    await observer.state("a", State.RETRYING)
    key = gates.closed_key(ROUTE)
    await observer.becomes(lambda: _value(board, key))
    found = closures.read(board.get(key))
    assert found is not None and found.until is not None
    assert found.reason == "rate"
    await submit(observer, "second", id="b", queue="two")
    ended = await observer.state("b", State.SUCCEEDED)
    assert ended.record is not None and ended.record.timings.started is not None
    assert ended.record.timings.started >= found.until - timedelta(milliseconds=50)
    first = await observer.state("a", State.SUCCEEDED)
    assert first.record is not None
    assert first.record.failures == 0
    assert first.record.attempt == 2


async def _value(board: Board, key: str) -> bytes | None:
    return board.get(key)


@pytest.mark.parametrize(
    ("signal", "reason"),
    [
        (Signal(status=401, type="authentication_error"), "auth"),
        pytest.param(
            Signal(status=403, type="permission_error"),
            "auth",
            marks=pytest.mark.long("as the one above"),
        ),
        pytest.param(
            Signal(status=402, type="billing_error"),
            "spend",
            marks=pytest.mark.long("as the one below"),
        ),
        (
            Signal(status=429, type="rate_limit_error", code="enforced_spend_limit_reached"),
            "spend",
        ),
    ],
)
async def test_a_refused_credential_fails_no_task_and_holds_all_until_it_is_mended(
    observer: Observer, start_worker: StartWorker, signal: Signal, reason: str
) -> None:
    claude = Claude(signal, signal)
    await start_worker(handlers(claude), slots=4)
    board = await bucket(observer)
    await submit(observer, "first", id="t0")
    await observer.state("t0", State.RETRYING)
    for number in range(1, 20):
        await submit(observer, "more", id=f"t{number}")
    key = gates.closed_key(ROUTE)

    async def believed() -> bool:
        closed = closures.read(board.get(key))
        return closed is not None and not closed.suspect and not closed.probe

    await observer.becomes(believed)
    closed = closures.read(board.get(key))
    assert closed is not None and closed.until is not None
    assert closed.reason == reason
    assert timedelta(seconds=290) < closed.until - now() <= timedelta(seconds=301)
    heartbeat = await observer.until(
        lambda: next((beat for beat in observer.workers.values() if beat.held), None)
    )
    assert any(f"{reason} until" in note for note in heartbeat.notes)
    assert len(claude.calls) == 2, "the one that met it and the one that found out"
    await set_key(board, key, None)  # as `agentflow resume` does
    for number in range(20):
        ended = await observer.ended(f"t{number}")
        assert (ended.state, ended.failures) == (State.SUCCEEDED, 0)


class Picky(Claude):
    """Refuses what it is told to refuse, however often it comes."""

    def __init__(self, signal: Signal, *refused: str) -> None:
        super().__init__()
        self.signal = signal
        self.refused = refused

    async def __call__(self, run: Run) -> Outcome:
        if run.task.id in self.refused:
            self.calls.append(run.task.id)
            failure = Failure(type=self.signal.type or "error", message="not this one")
            raise AttemptFailed(failure, self.signal)
        return await super().__call__(run)


@pytest.mark.parametrize(
    "signal",
    [
        Signal(status=403, type="permission_error", should_retry=False),
        Signal(status=401, type="authentication_error"),
        Signal(status=403),  # a firewall's page
        Signal(status=401),
    ],
)
async def test_a_prompt_that_is_refused_for_what_it_is_stops_nobody(
    observer: Observer, start_worker: StartWorker, signal: Signal
) -> None:
    claude = Picky(signal, "t4", "t11", "t12")
    await start_worker(handlers(claude), slots=2)
    for number in range(30):
        await submit(observer, "x", id=f"t{number}")
    for number in range(30):
        ended = await observer.ended(f"t{number}")
        wanted = State.FAILED if f"t{number}" in claude.refused else State.SUCCEEDED
        assert ended.state == wanted, number


async def test_a_closed_route_is_opened_by_one_task_without_anybody(
    observer: Observer, start_worker: StartWorker
) -> None:
    claude = Claude()
    claude.hold = asyncio.Event()
    board = await bucket(observer)
    key = gates.closed_key(ROUTE)
    until = now() + timedelta(seconds=0.5)
    await set_key(board, key, Closed(since=now(), until=until, reason="auth", step=1))
    one = await start_worker(handlers(claude), slots=8)
    two = await start_worker(handlers(claude), slots=8, queues=["other"])
    for number in range(4):
        await submit(observer, "x", id=f"a{number}")
        await submit(observer, "x", id=f"b{number}", queue="other")
    await observer.until(lambda: claude.calls)
    closed = closures.read(board.get(key))
    assert closed is not None and closed.probe
    await observer.until(lambda: one.gate_held + two.gate_held == 7)
    assert len(claude.calls) == 1, "one goes, the others wait"
    claude.hold.set()
    for name in ("a", "b"):
        for number in range(4):
            await observer.state(f"{name}{number}", State.SUCCEEDED)
    assert board.get(key) is None


async def test_the_beginning_of_the_probes_answer_opens_the_route(
    observer: Observer, start_worker: StartWorker
) -> None:
    claude = Claude()
    claude.answers, claude.hold = True, asyncio.Event()
    board = await bucket(observer)
    key = gates.closed_key(ROUTE)
    until = now() + timedelta(seconds=0.2)
    await set_key(board, key, Closed(since=now(), until=until, reason="server", step=1))
    await start_worker(handlers(claude), slots=4)
    for number in range(4):
        await submit(observer, "x", id=f"t{number}")
    await observer.until(lambda: claude.now == 4)
    assert not claude.hold.is_set(), "no answer has ended"
    claude.hold.set()
    for number in range(4):
        await observer.state(f"t{number}", State.SUCCEEDED)
    assert board.get(key) is None


async def test_one_failed_answer_among_many_holds_nobody(
    observer: Observer, start_worker: StartWorker
) -> None:
    claude = Picky(Signal(status=500, type="api_error"), "bad")
    await start_worker(handlers(claude), slots=4)
    board = await bucket(observer)
    await submit(observer, "x", id="good")
    await observer.state("good", State.SUCCEEDED)
    await submit(observer, "x", id="bad", max_attempts=2)
    await observer.state("bad", State.RETRYING)
    assert board.get(gates.closed_key(ROUTE)) is None
    ended = await observer.ended("bad")
    assert (ended.state, ended.reason, ended.failures) == (State.FAILED, "server_error", 2)
    assert board.get(gates.closed_key(ROUTE)) is None


async def test_an_outage_counts_against_no_task(
    observer: Observer, start_worker: StartWorker
) -> None:
    away = Signal(exception="connection")
    claude = Claude(*([away] * 3))
    await start_worker(handlers(claude), slots=4)
    for number in range(12):
        await submit(observer, "x", id=f"t{number}", max_attempts=1)
    for number in range(12):
        ended = await observer.ended(f"t{number}")
        assert (ended.state, ended.failures) == (State.SUCCEEDED, 0)


async def test_an_overload_lowers_the_concurrency(
    observer: Observer, start_worker: StartWorker
) -> None:
    slots = 40  # so many that they have not all come back when the second tasks are there
    claude = Claude()
    claude.hold = asyncio.Event()
    await start_worker(handlers(claude), slots=slots)
    for number in range(slots):
        await submit(observer, "x", id=f"t{number}")
    await observer.until(lambda: claude.now == slots)
    claude.overloaded = Signal(status=529, type="overloaded_error")
    claude.hold.set()
    await observer.state("t0", State.RETRYING)
    claude.overloaded = None
    for number in range(slots):
        await observer.state(f"t{number}", State.SUCCEEDED)
    claude.most = 0
    claude.hold = asyncio.Event()
    for number in range(slots):
        await submit(observer, "x", id=f"u{number}")
    heartbeat = await observer.until(
        lambda: next((beat for beat in observer.workers.values() if beat.held), None)
    )
    assert heartbeat.running < slots
    claude.hold.set()
    for number in range(slots):
        await observer.state(f"u{number}", State.SUCCEEDED)
    assert claude.most < slots


async def test_a_paused_queue_starts_nothing_until_it_is_resumed(
    observer: Observer, start_worker: StartWorker
) -> None:
    claude = Claude()
    board = await bucket(observer)
    await set_key(board, gates.queue_key("one"), Paused(since=now(), actor="test"))
    await start_worker(handlers(claude), queues=["one", "two"])
    for number in range(5):
        await submit(observer, "x", id=f"one{number}", queue="one")
    await submit(observer, "x", id="two", queue="two")
    await observer.state("two", State.SUCCEEDED)
    assert claude.calls == ["two"]
    await set_key(board, gates.queue_key("one"), None)
    for number in range(5):
        await observer.state(f"one{number}", State.SUCCEEDED)


async def test_a_paused_kind_lets_other_kinds_of_the_queue_pass(
    observer: Observer, start_worker: StartWorker
) -> None:
    claude = Claude()
    board = await bucket(observer)
    await set_key(board, gates.kind_key("claude"), Paused(since=now(), actor="test"))
    await start_worker(handlers(claude), slots=4)
    await submit(observer, "x", id="held")
    await observer.until(lambda: any(beat.held for beat in observer.workers.values()))
    await submit(observer, "x", id="echo", kind="echo")
    await observer.state("echo", State.SUCCEEDED)
    assert not claude.calls
    await set_key(board, gates.kind_key("claude"), None)
    await observer.state("held", State.SUCCEEDED)


async def test_what_waits_at_a_gate_can_be_cancelled_and_never_starts(
    observer: Observer, start_worker: StartWorker
) -> None:
    claude = Claude()
    board = await bucket(observer)
    key = gates.closed_key(ROUTE)
    await set_key(board, key, Closed(since=now(), reason="operator", actor="test"))
    await start_worker(handlers(claude))
    await submit(observer, "x", id="held")
    await observer.until(lambda: any(beat.held for beat in observer.workers.values()))
    await observer.log_as("somebody").cancel("held")
    await set_key(board, key, None)
    await submit(observer, "x", id="next")
    await observer.state("next", State.SUCCEEDED)
    assert claude.calls == ["next"]
    assert (await observer.last("held")).state == State.CANCELLED


async def test_a_deadline_ends_a_run_and_is_not_tried_again(
    observer: Observer, start_worker: StartWorker
) -> None:
    await start_worker()
    soon = (now() + timedelta(seconds=0.5)).isoformat()
    await submit(
        observer, None, id="a", kind="sleep", params={"seconds": 60}, deadline=soon, max_attempts=5
    )
    ended = await observer.state("a", State.FAILED)
    assert ended.record is not None
    assert ended.record.reason == "deadline"
    assert ended.record.attempt == 1


async def test_a_retry_after_the_deadline_is_not_waited_for(
    observer: Observer, start_worker: StartWorker
) -> None:
    claude = Claude(*([Signal(status=429, type="rate_limit_error", retry_after=60.0)] * 3))
    await start_worker(handlers(claude))
    soon = (now() + timedelta(seconds=10)).isoformat()
    await submit(observer, "x", id="a", deadline=soon)
    ended = await observer.state("a", State.FAILED)
    assert ended.record is not None
    assert ended.record.reason == "deadline"


async def test_a_task_that_was_not_started_in_time_fails(
    observer: Observer, start_worker: StartWorker
) -> None:
    await submit(observer, "x", id="a", kind="echo", start_within=0.2)
    await submit(observer, "x", id="b", kind="echo", start_within=600)
    await asyncio.sleep(0.3)  # the queue's time has to pass; nothing announces it
    await start_worker()
    ended = await observer.state("a", State.FAILED)
    assert ended.record is not None
    assert ended.record.reason == "start_within"
    await observer.state("b", State.SUCCEEDED)


async def test_an_unknown_kind_waits_for_a_worker_that_has_it(
    observer: Observer, start_worker: StartWorker
) -> None:
    old = await start_worker(unknown_kind_for=300.0)
    await submit(observer, "x", id="a", kind="mine")
    parked = await observer.state("a", State.RETRYING)
    assert parked.record is not None
    assert parked.record.reason == "unknown_kind"
    assert parked.record.failures == 0

    async def mine(run: Run) -> Outcome:
        return Outcome(text="mine")

    await start_worker({"mine": mine}, unknown_kind_for=300.0)
    old.actor.stop()
    await old.actor.close()
    ended = await observer.state("a", State.SUCCEEDED)
    assert ended.record is not None and ended.record.text == "mine"


class Asking:
    """A handler that asks while it runs, as one's own functions do with `ctx.claude`."""

    def __init__(self, *signals: Signal) -> None:
        self.signals = list(signals)
        self.asked = 0

    async def __call__(self, run: Run) -> Outcome:
        async with run.admit(ROUTE):
            self.asked += 1
            if self.signals:
                signal = self.signals.pop(0)
                raise AttemptFailed(Failure(type=signal.type or "error", message="no"), signal)
        return Outcome(text="answered")


async def test_a_limit_met_within_a_task_holds_back_the_others_too(
    observer: Observer, start_worker: StartWorker
) -> None:
    own = Asking(Signal(status=429, type="rate_limit_error", retry_after=1.0))
    claude = Claude()
    await start_worker({"own": own, "claude": claude})
    board = await bucket(observer)
    await submit(observer, "x", id="own", kind="own")
    await observer.becomes(lambda: _value(board, gates.closed_key(ROUTE)))
    found = closures.read(board.get(gates.closed_key(ROUTE)))
    assert found is not None and found.until is not None
    await submit(observer, "x", id="other")
    ended = await observer.state("other", State.SUCCEEDED)
    assert ended.record is not None and ended.record.timings.started is not None
    assert ended.record.timings.started >= found.until - timedelta(milliseconds=50)
    await observer.state("own", State.SUCCEEDED)


async def test_a_task_that_would_wait_long_for_a_request_is_parked(
    observer: Observer, start_worker: StartWorker
) -> None:
    own = Asking()
    board = await bucket(observer)
    until = now() + timedelta(seconds=3600)
    closed = Closed(since=now(), until=until, reason="rate", actor="test")
    await set_key(board, gates.closed_key(ROUTE), closed)
    await start_worker({"own": own})
    await submit(observer, "x", id="own", kind="own")
    parked = await observer.state("own", State.RETRYING)
    assert parked.record is not None and parked.record.resume_at is not None
    assert parked.record.failures == 0
    assert parked.record.resume_at >= until - timedelta(seconds=1)
    assert not own.asked


@pytest.mark.parametrize("how", ["DELETE", "PURGE"])
async def test_a_bucket_that_is_gone_holds_nothing_and_a_new_one_counts(
    observer: Observer,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    monkeypatch.setattr(bucket_module, "WATCH_EVERY", 0.05)
    board = await bucket(observer)
    pause = Paused(since=now())
    for number in range(5):  # a new bucket gives lower sequences
        await set_key(board, "other", {"number": number})
    await set_key(board, gates.queue_key("default"), pause)
    worker = await start_worker()
    await submit(observer, "x", id="held", kind="echo")
    await observer.js.api(f"STREAM.{how}.{subjects.KV_STREAM}")
    assert (await observer.ended("held")).state == State.SUCCEEDED

    async def paused() -> bool:
        return worker._gates.paused("default", "echo") is not None

    assert not await paused()
    await provision.ensure_streams(observer.js)
    await set_key(Board(observer.js), gates.queue_key("default"), pause)
    await observer.becomes(paused)
