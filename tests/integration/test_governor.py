"""The governor with real workers, a real server and the real SDK: tickets, clock, and without."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import agentflow
from agentflow.bus.streams import provision
from agentflow.bus.streams.bucket import Board
from agentflow.client import Client
from agentflow.errors import TaskNotFound
from agentflow.governor.counters import Counters
from agentflow.handlers.claude.handler import ClaudeHandler
from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import headers, subjects
from agentflow.protocol.record import State
from agentflow.protocol.task import Task
from agentflow.rules.routes import clock as clocks
from agentflow.rules.routes.clock import Clock, Limits
from agentflow.rules.routes.route import Route
from agentflow.simulator import Simulator
from tests.integration.conftest import StartWorker
from tests.support import masters
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(90)

ROUTE = Route("main", "opus")


@pytest.fixture(name="simulator")
async def _simulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Simulator]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture(name="claude")
async def _claude(simulator: Simulator) -> AsyncIterator[ClaudeHandler]:
    handler = ClaudeHandler(
        api_key="sk-ant-test-0123456789",
        base_url=simulator.url,
        pool=ROUTE.pool,
        model="claude-opus-4-8",
    )
    await handler.start()
    yield handler
    await handler.close()


async def submit(observer: Observer, count: int, **fields: Any) -> list[str]:
    names = [f"t{number}" for number in range(count)]
    for name in names:
        await observer.submit({"id": name, "prompt": f"Name {name}", **fields})
    return names


async def all_ended(observer: Observer, names: list[str]) -> None:
    for name in names:
        assert (await observer.ended(name)).state == State.SUCCEEDED


async def clock_of(observer: Observer) -> Clock | None:
    stored = await observer.js.last(subjects.KV_STREAM, subjects.kv(clocks.clock_key(ROUTE)))
    return clocks.read(stored.data) if stored else None


async def counted(observer: Observer, axis: str = "requests") -> float:
    return (await Counters(observer.js).sums(ROUTE, [axis]))[axis]


def refused(simulator: Simulator) -> int:
    return simulator.stats().outcomes.get("429", 0)


async def test_two_workers_share_a_limit_without_being_refused(
    observer: Observer,
    start_worker: StartWorker,
    simulator: Simulator,
    claude: ClaudeHandler,
) -> None:
    """600 a minute are 10 a second, in a bucket of 20: without tickets 40 at once meet it."""
    simulator.set_mode({"limits": {"requests": 600, "burst": 2}, "latency": 0.1})
    for _ in range(2):
        await start_worker({"claude": claude}, slots=20)
    names = await submit(observer, 60)
    await all_ended(observer, names)
    clock = await clock_of(observer)

    assert refused(simulator) <= 1
    assert clock is not None and clock.source == clocks.HEADERS and not clock.free
    assert clock.axes["requests"].limit == 600
    assert 1.5 <= clock.axes["requests"].capacity <= 3.5
    assert await counted(observer) >= 50


async def test_without_the_governor_the_same_is_refused(
    observer: Observer,
    start_worker: StartWorker,
    simulator: Simulator,
    claude: ClaudeHandler,
) -> None:
    """What the test above is worth; a worker of an older version is as this one."""
    simulator.set_mode({"limits": {"requests": 600, "burst": 2}, "latency": 0.1})
    for _ in range(2):
        await start_worker({"claude": claude}, slots=20, route_limits=None)
    await all_ended(observer, await submit(observer, 60))

    assert refused(simulator) >= 3
    assert await counted(observer) == 0


async def test_an_older_worker_beside_a_newer_one_holds_nobody_up(
    observer: Observer,
    start_worker: StartWorker,
    simulator: Simulator,
    claude: ClaudeHandler,
) -> None:
    simulator.set_mode({"limits": {"requests": 600, "burst": 2}, "latency": 0.1})
    await start_worker({"claude": claude}, slots=10, route_limits=None)
    await start_worker({"claude": claude}, slots=10)
    await all_ended(observer, await submit(observer, 40))


async def test_far_from_the_limits_nobody_takes_a_ticket(
    observer: Observer,
    start_worker: StartWorker,
    simulator: Simulator,
    claude: ClaudeHandler,
) -> None:
    await start_worker({"claude": claude}, slots=5)
    await all_ended(observer, await submit(observer, 30))
    clock = await clock_of(observer)

    assert clock is not None and clock.free and clock.source == clocks.HEADERS
    assert await counted(observer) == 0
    assert refused(simulator) == 0


async def test_the_first_request_finds_out_the_limits_and_the_others_wait_for_it(
    observer: Observer,
    start_worker: StartWorker,
    simulator: Simulator,
    claude: ClaudeHandler,
) -> None:
    """Six at once over a bucket of two would have four refused."""
    simulator.set_mode({"limits": {"requests": 120, "burst": 1}, "latency": 0.3})
    await start_worker({"claude": claude}, slots=6)
    await all_ended(observer, await submit(observer, 6))

    assert refused(simulator) <= 1


async def test_where_answers_tell_no_limits_requests_go_as_they_did(
    observer: Observer,
    start_worker: StartWorker,
    claude: ClaudeHandler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gateway leaves the headers out."""
    monkeypatch.setattr("agentflow.handlers.claude.handler.reading", lambda *_: clocks.Reading())
    await start_worker({"claude": claude}, slots=4)
    await all_ended(observer, await submit(observer, 12))
    clock = await clock_of(observer)

    assert clock is not None and clock.source == clocks.NONE
    assert await counted(observer) == 0


class Paced:
    """A handler whose service tells nothing."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def route(self, task: Task) -> Route:
        return ROUTE

    async def __call__(self, run: Run) -> Outcome:
        self.times.append(asyncio.get_running_loop().time())
        return Outcome(text="done")


@pytest.mark.parametrize("given", ["by a person", "to a worker"])
async def test_configured_limits_hold_where_none_are_told(
    observer: Observer, start_worker: StartWorker, given: str
) -> None:
    """600 a minute: after the first two seconds' worth, one each tenth of a second."""
    limits = Limits(requests=600)
    await provision.ensure_streams(observer.js)
    options: dict[str, Any] = {}
    if given == "by a person":
        board = Board(observer.js)
        await board.change(f"{clocks.POOL}{ROUTE.pool}", lambda _: clocks.encode(limits))
    else:
        options["route_limits"] = limits
    paced = Pooled() if given == "to a worker" else Paced()
    await start_worker({"claude": paced}, slots=40, **options)
    if given == "to a worker":
        await observer.becomes(
            lambda: observer.js.last(subjects.KV_STREAM, subjects.kv(f"pool.{ROUTE.pool}"))
        )
    await all_ended(observer, await submit(observer, 40))
    times = sorted(paced.times)

    assert times[-1] - times[0] >= (40 - 10) / 10 * 0.9
    clock = await clock_of(observer)
    assert clock is not None and clock.source == clocks.CONFIGURED


class Pooled(Paced):
    """It names its pool before anybody asks."""

    def pools(self) -> dict[str, Any]:
        return {ROUTE.pool: {}}


async def test_without_the_counters_requests_go_without_tickets_and_it_is_said(
    observer: Observer,
    start_worker: StartWorker,
    simulator: Simulator,
    claude: ClaudeHandler,
) -> None:
    simulator.set_mode({"limits": {"requests": 600, "burst": 2}, "latency": 0.05})
    worker = await start_worker({"claude": claude}, slots=10)
    await observer.js.api(f"STREAM.DELETE.{subjects.COUNTERS}")
    await all_ended(observer, await submit(observer, 15))

    assert any("without tickets" in note for note in worker.actor.heartbeat().notes)


async def test_why_and_limits_name_the_axis_and_when_it_starts(
    nats_server: NatsServer,
    observer: Observer,
    start_worker: StartWorker,
    simulator: Simulator,
    claude: ClaudeHandler,
) -> None:
    """Twelve a minute and a bucket of one: who comes second waits for five seconds, and more."""
    simulator.set_mode({"limits": {"requests": 12, "burst": 5}})
    await start_worker({"claude": claude}, slots=4)
    await submit(observer, 3)
    asked = datetime.now(UTC)
    async with (
        masters.a_master(nats_server.url),
        agentflow.connect(nats_server.url) as client,
    ):

        async def waits() -> Any:
            nonlocal asked
            asked = observer.js.now()
            told = [await client.why(f"t{number}") for number in range(3)]
            return next((why for why in told if why.reason == "limit"), None)

        why = await observer.becomes(waits, within=20.0)
        (route,) = await client.limits()

    assert "requests limit" in why.text and "main.opus" in why.text
    assert why.until is not None and why.until >= asked
    assert route.route == "main.opus" and route.state == "governed"
    assert route.waiting >= 1 and route.axis == "requests"


async def _known(client: Client, task_id: str) -> bool:
    """Whether a master has heard of a task that nobody has begun."""
    try:
        return bool(await client.get(task_id))
    except TaskNotFound:
        return False


async def test_why_says_when_a_task_starts_and_then_it_does(
    nats_server: NatsServer, observer: Observer, start_worker: StartWorker
) -> None:
    """Five a second: of those that wait behind others, too. As a ratio, within a fifth."""
    began: dict[str, datetime] = {}

    class Noting(Paced):
        async def __call__(self, run: Run) -> Outcome:
            began[run.task.id] = observer.js.now()
            return await super().__call__(run)

    await provision.ensure_streams(observer.js)
    limits = clocks.encode(Limits(requests=300))
    await Board(observer.js).change(f"{clocks.POOL}{ROUTE.pool}", lambda _: limits)
    async with (
        masters.a_master(nats_server.url) as master,
        agentflow.connect(nats_server.url) as client,
    ):
        await masters.ready(master)
        await start_worker({"claude": Noting()}, slots=40)
        ids = await submit(observer, 32)
        told: dict[str, tuple[datetime, datetime]] = {}
        for task_id in ids[::-1]:
            await observer.becomes(lambda name=task_id: _known(client, name))
            asked = observer.js.now()
            why = await client.why(task_id) if task_id not in began else None
            if why is not None and why.reason == "limit" and why.until is not None:
                assert "requests limit" in why.text
                if (why.until - asked).total_seconds() > 1.0:
                    told[task_id] = asked, why.until
            if len(told) == 5:
                break
        await all_ended(observer, ids)
    ratios = [
        (began[task_id] - asked).total_seconds() / (until - asked).total_seconds()
        for task_id, (asked, until) in told.items()
    ]
    assert len(ratios) == 5
    assert 0.8 <= statistics.median(ratios) <= 1.25, ratios


async def test_an_addition_that_is_sent_twice_counts_once(
    observer: Observer, nats_server: NatsServer
) -> None:
    await provision.ensure_streams(observer.js)
    counters = Counters(observer.js)
    first = await counters.add(ROUTE, {"requests": 1, "input": 100})
    again = headers.encode({"Nats-Incr": "+1", "Nats-Msg-Id": f"{counters._run}-1"})
    ack = await observer.js.store("agentflow.counters.main.opus.requests", b"", again)
    counters.tell(ROUTE, {"input": -30})
    second = await counters.add(ROUTE, {"requests": 1, "input": 1})

    assert first == {"requests": 1.0, "input": 100.0}
    assert ack.duplicate and not ack.val
    assert second == {"requests": 2.0, "input": 71.0}
    assert await counters.sums(ROUTE, ["requests", "output"]) == {"requests": 2.0, "output": 0.0}


async def test_a_worker_tells_its_slots_and_takes_them_back(
    observer: Observer, start_worker: StartWorker, claude: ClaudeHandler
) -> None:
    worker = await start_worker({"claude": claude}, slots=7)
    key = subjects.kv(f"{clocks.SLOTS}{worker.actor.name}")
    stored = await observer.becomes(lambda: observer.js.last(subjects.KV_STREAM, key))
    assert msgspec.json.decode(stored.data)["slots"] == 7
    worker.actor.hurry.set()
    await worker.actor.close()
    gone = await observer.js.last(subjects.KV_STREAM, key)
    assert gone is not None and gone.data == b""
