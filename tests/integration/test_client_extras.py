"""gather, as_completed, typed values, lost tasks, and a map that holds nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

import agentflow
from agentflow.bus.wire.connection import Connection
from agentflow.client import Client
from agentflow.client.tasks import handle
from agentflow.config import Connect
from agentflow.errors import InvalidTask, ResultTimeout, TaskError, TaskFailed, TaskNotFound
from agentflow.handlers.contract import Outcome, Run
from agentflow.master.master import Master
from agentflow.protocol import subjects
from agentflow.rules.retry import Signal
from tests.support.handlers import Gate, failing
from tests.support.nats_server import NatsServer

BAD = Signal(status=400)


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with agentflow.connect(nats_server.url) as opened:
        yield opened


@pytest.fixture
async def master(nats_server: NatsServer) -> AsyncIterator[Any]:
    """Call it for a master that has read the streams."""
    connection = await Connection.open(Connect(urls=(nats_server.url,)), "master")
    master = Master(connection)

    async def start() -> None:
        await master.start()
        await master.records.caught_up.wait()
        await master.tasks.caught_up.wait()

    yield start
    await master.close()
    await connection.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for a task after a twentieth of a second."""
    monkeypatch.setattr(handle, "UNKNOWN_FOR", 0.05)
    monkeypatch.setattr(handle, "LOOK_EVERY", 0.05)


class Point(msgspec.Struct):
    x: int
    y: int


async def point(run: Run) -> Outcome:
    return Outcome(value={"x": 1, "y": 2})


# A map over more than fits into memory.


class Item(dict[str, str]):
    """An item, counted while it lives."""

    alive = 0

    def __init__(self, prompt: str) -> None:
        super().__init__(prompt=prompt)
        type(self).alive += 1

    def __del__(self) -> None:
        type(self).alive -= 1


async def test_a_map_over_many_holds_few(client: Client, start_worker: Any) -> None:
    count, concurrency = 20_000, 100
    await start_worker(slots=200)
    ahead = most_alive = most_awaited = yielded = 0

    def items() -> Iterator[Item]:
        nonlocal ahead
        for number in range(count):
            ahead = max(ahead, number + 1 - yielded)
            yield Item(str(number))

    async for _ in client.map(items(), concurrency=concurrency, kind="echo"):
        yielded += 1
        most_alive = max(most_alive, Item.alive)
        most_awaited = max(most_awaited, len(client.tasks.waiting._expected))
    assert yielded == count
    assert ahead <= concurrency + 1, "one is in hand, waiting for room"
    assert most_awaited <= concurrency
    assert most_alive <= 2, "an item is let go when it is sent"
    assert not client.tasks.waiting._expected


# gather and as_completed.


async def test_gather_is_a_list_in_order(client: Client, start_worker: Any) -> None:
    await start_worker({"bad": failing(BAD)}, slots=4)
    items: list[Any] = [
        {"kind": "sleep", "params": {"seconds": 0.1}},
        {"kind": "bad", "prompt": "x"},
        "plain",
    ]
    results = await client.gather(items)
    assert [result.index for result in results] == [0, 1, 2]
    assert [result.ok for result in results] == [True, False, True]
    assert await client.gather([]) == []
    with pytest.raises(TaskFailed, match="as the test wants"):
        await client.gather(items, raise_on_failure=True)
    with pytest.raises(InvalidTask, match="item 1"):
        await client.gather(["fine", {"max_tokens": -1}])


async def test_as_completed_yields_what_ends_first(client: Client, start_worker: Any) -> None:
    gate = Gate()
    await start_worker({"gate": gate, "bad": failing(BAD)}, slots=4)
    late = await client.submit("late", kind="gate")
    tasks = [late, await client.submit("x", kind="bad"), await client.submit("early", kind="echo")]
    seen = []
    async for result in client.as_completed(tasks, timeout=20):
        seen.append((result.id, result.ok))
        if len(seen) == 2:
            gate.opened.set()
    assert sorted(seen[:2]) == sorted([(tasks[1].id, False), (tasks[2].id, True)])
    assert seen[2:] == [(late.id, True)]
    again = [result.ok async for result in client.as_completed(tasks)]
    assert sorted(again) == [False, True, True]
    assert [_ async for _ in client.as_completed([])] == []


async def test_as_completed_tells_how_many_have_not_ended(
    client: Client, start_worker: Any
) -> None:
    gate = Gate()
    await start_worker({"gate": gate})
    tasks = [await client.submit("x", kind="gate"), await client.submit("x", kind="echo")]
    completed = client.as_completed(tasks, timeout=0.5)
    assert (await anext(completed)).id == tasks[1].id
    with pytest.raises(ResultTimeout, match=r"1 of 2 tasks had not ended after 0\.5 s"):
        await anext(completed)
    gate.opened.set()
    assert (await tasks[0].result(20)).text == "released"


# Values as classes of one's own.


async def test_a_value_as_a_class(client: Client, start_worker: Any) -> None:
    await start_worker({"point": point, "bad": failing(BAD)})
    task = await client.submit(kind="point", prompt="x")
    assert await task.result(20, type=Point) == Point(1, 2)
    assert await task.result(20, type=dict[str, int]) == {"x": 1, "y": 2}
    assert (await task.result(20)).value_as(Point) == Point(1, 2)
    with pytest.raises(TaskError, match=f"the value of task {task.id} is no str: Expected `str`"):
        await task.result(20, type=str)
    with pytest.raises(TaskFailed):
        await (await client.submit(kind="bad", prompt="x")).result(20, type=Point)


# Tasks that are not there, or not any more.


async def test_an_expired_result_is_told(
    client: Client, start_worker: Any, master: Any, impatient: None
) -> None:
    await start_worker()
    task = await client.submit("x", kind="echo")
    await task.result(20)
    await client.js.purge(subjects.RECORDS, subjects.log(task.id))
    await master()
    sentence = rf"{task.id}.*\(a task is on record for 7 days after its end\)"
    with pytest.raises(TaskNotFound, match=sentence):
        await client.task(task.id).result(20)
    with pytest.raises(TaskNotFound, match=sentence) as found:
        await client.get(task.id)
    assert found.value.task_id == task.id


async def test_a_lost_message_is_told_without_a_master(client: Client, impatient: None) -> None:
    task = await client.submit("x", kind="echo")
    with pytest.raises(ResultTimeout):
        await task.result(0.3)
    await client.js.delete(subjects.TASKS, task.message_sequence)
    with pytest.raises(TaskNotFound, match=f"there is no task {task.id}"):
        await task.result(20)


async def test_what_is_queued_is_waited_for(
    client: Client, start_worker: Any, master: Any, impatient: None
) -> None:
    await master()
    task = await client.submit("x", kind="echo")
    waiting = asyncio.ensure_future(client.task(task.id).result(20))
    with pytest.raises(ResultTimeout):
        await client.task(task.id).result(0.3)
    await start_worker()
    assert (await waiting).ok
