"""Lanes on a real server: listed, shared, capped, kept by what is parked, and left again."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from agentflow.bus.streams import provision
from agentflow.client import Client
from agentflow.client.operate import lanes as operate
from agentflow.config import Connect
from agentflow.errors import InvalidTask, NotFound, TaskError, UsageError
from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import limits, streams, subjects
from agentflow.protocol.record import Usage
from agentflow.protocol.subjects import Priority
from agentflow.worker import lanes as lanes_of_worker
from tests.integration.conftest import StartWorker
from tests.support.nats_server import NatsServer
from tests.support.until import until

NAMES = ("acme", "bolt", "cog")


@pytest.fixture(name="client")
async def _client(nats_server: NatsServer) -> Any:
    async with Client(Connect(urls=(nats_server.url,))) as client:
        yield client


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_of_worker, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(lanes_of_worker, "LOOK_SELDOM", 0.05)


class Spends:
    """Answers at once, and says that it took so many tokens; notes the lane of each task."""

    def __init__(self, tokens: dict[str, int] | None = None) -> None:
        self.tokens = tokens or {}
        self.order: list[str] = []
        self.hold: asyncio.Event | None = None
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def __call__(self, run: Run) -> Outcome:
        lane = run.task.labels.get("tenant", "")
        self.order.append(lane)
        self.now[lane] += 1
        self.most[lane] = max(self.most[lane], self.now[lane])
        if self.hold is not None:
            await self.hold.wait()
        await asyncio.sleep(0.002)
        run.usage = Usage(self.tokens.get(lane, 100), 0)
        self.now[lane] -= 1
        return Outcome(text="done")


async def fill(client: Client, lane: str, count: int, **options: Any) -> None:
    options = {"kind": "spends", "labels": {"tenant": lane}, "lane": lane, **options}
    await asyncio.gather(*(client.submit(f"{lane} {at}", **options) for at in range(count)))


async def test_lanes_share_by_tokens_however_much_each_has(
    client: Client, start_worker: StartWorker
) -> None:
    await operate.set_to(client.js, "default", NAMES)
    await fill(client, "acme", 400)
    await fill(client, "bolt", 160)
    await fill(client, "cog", 160)
    await fill(client, "", 160)
    spends = Spends({"acme": 300, "bolt": 100, "cog": 100, "": 100})
    await start_worker({"spends": spends}, slots=8)
    await until(lambda: len(spends.order) >= 400)
    # A task of acme takes three times the tokens: it gets a third of the tasks of the others.
    told = Counter(spends.order[40:400])
    assert told["acme"] == pytest.approx(36, abs=14)
    for lane in ("bolt", "cog", ""):
        assert told[lane] == pytest.approx(108, abs=18), told


async def test_who_was_alone_owes_nothing_to_who_comes(
    client: Client, start_worker: StartWorker
) -> None:
    await operate.set_to(client.js, "default", NAMES)
    await fill(client, "acme", 600)
    spends = Spends()
    await start_worker({"spends": spends}, slots=8)
    await until(lambda: len(spends.order) >= 100)
    await fill(client, "bolt", 150)
    await until(lambda: "bolt" in spends.order)
    begun = spends.order.index("bolt")
    await until(lambda: len(spends.order) >= begun + 150)
    told = Counter(spends.order[begun : begun + 150])
    assert told["acme"] == pytest.approx(75, abs=20), told


async def test_a_lane_that_is_not_listed_is_refused(client: Client) -> None:
    await provision.ensure_streams(client.js)
    with pytest.raises(UsageError, match="agentflow lane set default acme"):
        await client.submit("x", lane="acme")
    with pytest.raises(UsageError, match="is not allowed"):
        await client.submit("x", lane="a.b")
    await operate.set_to(client.js, "default", ["acme"])
    task = await client.submit("x", lane="acme")
    stored = await client.js.get(subjects.TASKS, task.message_sequence)
    assert stored is not None and stored.subject == "agentflow.tasks.default.normal.acme"
    assert await operate.removed(client.js, "default", "acme")
    with pytest.raises(UsageError):
        await client.submit("y", lane="acme")
    (left,) = [lane for lane in await operate.standing(client.js) if lane.lane == "acme"]
    assert (left.tasks, left.listed) == (1, False)


async def test_a_label_may_say_the_lane(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLOW_LANE_LABEL", "tenant")
    await operate.set_to(client.js, "default", ["acme"])
    task = await client.submit("x", labels={"tenant": "acme"})
    plain = await client.submit("x", labels={"other": "acme"})
    for sent, subject in ((task, "default.normal.acme"), (plain, "default")):
        stored = await client.js.get(subjects.TASKS, sent.message_sequence)
        assert stored is not None and stored.subject == f"agentflow.tasks.{subject}"
    with pytest.raises((UsageError, InvalidTask), match=r"lane 'a\.b' is not allowed"):
        await client.submit("x", labels={"tenant": "a.b"})


async def test_what_is_parked_or_retried_stays_in_its_lane(
    client: Client, start_worker: StartWorker
) -> None:
    await operate.set_to(client.js, "default", ["acme"])
    await start_worker()
    when = client.js.now() + timedelta(seconds=0.5)
    task = await client.submit("later", kind="echo", lane="acme", not_before=when, priority="low")
    result = await task.result(timeout=20)
    assert (result.text, result.lane, result.priority) == ("later", "acme", "low")


async def test_a_dead_letter_is_retried_in_its_lane(
    client: Client, start_worker: StartWorker
) -> None:
    await operate.set_to(client.js, "default", ["acme"])
    told: list[str] = []

    async def fails_once(run: Run) -> Outcome:
        told.append(run.task.id)
        if len(told) == 1:
            raise ValueError("no")
        return Outcome(text="yes")

    await start_worker({"fails": fails_once})
    task = await client.submit("x", kind="fails", lane="acme", max_attempts=1)
    with pytest.raises(TaskError):
        await task.result(timeout=20)
    letter = None
    while letter is None:  # it is stored just after the record
        letter = await client.js.last(subjects.DEAD, subjects.dead("default", task.id))
    assert letter.headers[subjects.LANE] == "acme"
    again = await client.retry(task.id)
    assert (await again.result(timeout=20)).lane == "acme"


async def test_a_cap_holds_for_the_fleet_and_changes_at_once(
    client: Client, start_worker: StartWorker
) -> None:
    await operate.set_to(client.js, "default", ["acme"], cap=3)
    spends = Spends()
    spends.hold = asyncio.Event()
    for _ in range(2):
        await start_worker({"spends": spends}, slots=6)
    await fill(client, "acme", 20)
    await until(lambda: spends.now["acme"] == 3)
    await operate.set_to(client.js, "default", ["acme"], cap=5)
    await until(lambda: spends.now["acme"] == 5)
    spends.hold.set()
    await until(lambda: len(spends.order) == 20)
    assert spends.most["acme"] == 5


async def test_an_empty_lane_is_left_and_found_again(
    client: Client,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "LANE_IDLE", 1.0)
    await operate.set_to(client.js, "default", ["acme"])
    await start_worker()
    name = subjects.consumer("default", "normal", "acme")

    async def there() -> bool:
        try:
            await client.js.consumer_info(subjects.TASKS, name)
        except NotFound:
            return False
        return True

    assert not await there()
    for _ in range(2):
        task = await client.submit("x", kind="echo", lane="acme")
        assert (await task.result(timeout=20)).lane == "acme"
        assert await there()
        async with asyncio.timeout(30):
            while await there():
                await asyncio.sleep(0.1)


async def test_the_streams_and_consumers_of_lanes_are_as_defined(client: Client) -> None:
    js = client.js
    await operate.set_to(js, "default", NAMES)
    await provision.ensure_lane(js, streams.consumer("default", Priority.HIGH, "acme"))
    await provision.ensure_consumers(js, "default")
    assert await provision.check_streams(js) == []
    config = (await js.consumer_info(subjects.TASKS, "default-high_acme"))["config"]
    own = streams.own_consumer(config)
    assert own is not None and streams.differences(own, config) == []
    assert await provision.apply_streams(js) == []
    kept = (await js.stream_info(subjects.TASKS))["config"]["subjects"]
    assert set(subjects.lane_subjects("default", "cog")) <= set(kept)
    await js.api(f"STREAM.DELETE.{subjects.TASKS}")
    await provision.ensure_streams(js)
    made = (await js.stream_info(subjects.TASKS))["config"]["subjects"]
    assert set(made) == set(kept)
