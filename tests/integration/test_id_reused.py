"""An id never answers another request: on the bus, from the client, by the API."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agentflow.audit import verify
from agentflow.client import Client
from agentflow.config import Connect
from agentflow.errors import IdReused, InvalidInput
from agentflow.handlers.contract import Outcome, Run
from agentflow.job import reuse
from agentflow.job.source import Item
from agentflow.protocol import limits, subjects
from agentflow.protocol.record import EMPTY, State
from agentflow.protocol.task import TaskBody, derived_id, parse_body
from agentflow.rules import records
from agentflow.rules.retry import Signal
from agentflow.views.result import Result
from tests.integration.conftest import StartWorker
from tests.support.ghost import GHOST
from tests.support.handlers import Gate, failing
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(45)


@pytest.fixture(name="client")
async def _client(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with Client(Connect(urls=(nats_server.url,))) as client:
        yield client


async def disowned(observer: Observer) -> Any:
    """The record of the one message that was failed under the id of its place."""

    def found() -> Any:
        return [
            last.record
            for task_id, lasts in observer.live.items()
            for last in lasts
            if task_id.startswith("default-") and last.record is not None
        ]

    (record,) = await observer.until(found)
    return record


REQUEST = {"id": "q1", "kind": "echo", "prompt": "two and two", "params": {"a": 1, "b": 2}}


@pytest.mark.parametrize(
    ("payload", "headers", "told"),
    [
        ({**REQUEST, "prompt": "three and three"}, {}, "another prompt"),
        ({**REQUEST, "system": "Be brief."}, {}, "a system now and none then"),
        ({**REQUEST, "model": "m"}, {}, "model none then and m now"),
        ({**REQUEST, "params": {"a": 2, "b": 2}}, {}, "another params"),
        ({**REQUEST, "kind": "sleep"}, {}, "kind echo then and sleep now"),
        (b"three", {subjects.ID: "q1", subjects.KIND: "echo"}, "another prompt"),
        (b"three", {subjects.MSG_ID: "q1", subjects.KIND: "echo"}, "another prompt"),
        (b"{no task", {subjects.ID: "q1"}, "kind echo then and none now"),
    ],
    ids=["prompt", "system", "model", "params", "kind", "header", "message id", "unreadable"],
)
async def test_another_request_with_a_known_id_becomes_a_dead_letter(
    observer: Observer,
    start_worker: StartWorker,
    payload: Any,
    headers: dict[str, str],
    told: str,
) -> None:
    await start_worker()
    await observer.submit(REQUEST)
    first = await observer.ended("q1")
    ack = await observer.submit(payload, {**headers, subjects.REPLY: "answers"})
    record = await disowned(observer)

    assert (record.state, record.reason) == (State.FAILED, "id_reused")
    assert record.id.startswith(f"default-{ack.seq}-")
    assert told in record.error.message and "q1" in record.error.message
    await observer.at_rest()
    letter = await observer.dead(record.id)
    assert letter is not None
    assert letter.data == (payload if isinstance(payload, bytes) else msgspec.json.encode(payload))
    assert (await observer.ended("q1")) == first
    report = await verify(observer.js, at_rest=True)
    assert report.kept, report.findings


@pytest.mark.parametrize(
    "again",
    [
        {**REQUEST, "params": {"b": 2, "a": 1}},
        {**REQUEST, "labels": {"a": "b"}, "timeout": 5, "max_attempts": 2},
        {**REQUEST, "deadline": "2099-01-01T00:00:00Z"},
    ],
    ids=["order", "how", "when"],
)
async def test_the_same_request_is_one_task_however_it_is_sent(
    observer: Observer, start_worker: StartWorker, again: dict[str, Any]
) -> None:
    await start_worker()
    await observer.submit(REQUEST)
    await observer.ended("q1")
    await observer.submit(again)
    await observer.submit(again, subject="agentflow.tasks.default.high")
    await observer.at_rest()
    assert set(observer.live) == {"q1"}


async def test_two_requests_at_once_have_one_id_and_each_its_own_end(
    observer: Observer, start_worker: StartWorker
) -> None:
    for prompt in ("a", "b"):
        await observer.submit({"id": "q1", "kind": "echo", "prompt": prompt})
    await start_worker(slots=5)
    await start_worker(slots=5)
    winner, other = await observer.ended("q1"), await disowned(observer)
    assert {winner.asked["prompt"], other.asked["prompt"]} == {
        "ca978112ca1bbdca",
        "3e23e8160039594a",
    }
    await observer.at_rest()


async def test_a_log_of_an_older_version_is_compared_with_nothing(
    observer: Observer, start_worker: StartWorker
) -> None:
    ack = await observer.submit(REQUEST)
    log = observer.log_as(GHOST)
    origin = await observer.origin("q1", ack, kind="echo")
    assert origin.asked is None
    claim = await log.append(records.claimed(origin, EMPTY, actor=GHOST, now=log.now()))
    await log.append(
        records.follow(origin, claim, State.SUCCEEDED, actor=GHOST, now=log.now(), text="old")
    )
    await observer.submit({**REQUEST, "prompt": "new"})
    await start_worker()
    await observer.at_rest()
    assert set(observer.live) == {"q1"}


async def test_a_corrected_retry_belongs_to_its_log(
    observer: Observer, start_worker: StartWorker, client: Client
) -> None:
    await start_worker({"fails": failing(Signal(exception="handler")), "echo": _echo})
    await observer.submit({**REQUEST, "kind": "fails", "max_attempts": 1})
    failed = await observer.state("q1", State.FAILED)
    await client.retry("q1", b'{"kind": "echo", "prompt": "corrected"}')
    record = await observer.ended("q1", after=failed.sequence)
    assert record.text == "corrected"
    assert record.asked is not None and record.asked["kind"] == "echo"
    # What the log answers from now on is the corrected one.
    with pytest.raises(IdReused, match="kind echo then and fails now"):
        await client.submit("two and two", id="q1", kind="fails", params={"a": 1, "b": 2})
    again = await client.submit("corrected", id="q1", kind="echo")
    assert (await again.result(20)).text == "corrected"


async def test_a_disowned_message_runs_under_its_own_id_when_it_is_retried(
    observer: Observer, start_worker: StartWorker, client: Client
) -> None:
    await start_worker()
    await observer.submit(REQUEST)
    await observer.ended("q1")
    await observer.submit({**REQUEST, "prompt": "three"})
    record = await disowned(observer)
    handle = await client.retry(record.id)
    assert (await handle.result(20)).text == "three"
    assert (await client.task("q1").result(20)).text == "two and two"


async def _echo(run: Run) -> Outcome:
    return Outcome(text=run.task.prompt)


# The client.


async def drained(results: AsyncIterator[Result]) -> tuple[list[str | None], IdReused]:
    """The texts that came before the input was refused, and why it was."""
    texts = []
    try:
        async for result in results:
            texts.append(result.text)
    except IdReused as error:
        return texts, error
    raise AssertionError(f"it was not refused: {texts}")


async def test_a_client_refuses_before_it_sends(
    observer: Observer, start_worker: StartWorker, client: Client
) -> None:
    await start_worker()
    first = await client.submit("a", id="q1", kind="echo", model="m1")
    await first.result(20)
    before = (await observer.js.stream_info(subjects.TASKS))["state"]["last_seq"]
    with pytest.raises(IdReused, match=r"another prompt.*model m1 then and m2 now") as raised:
        await client.submit("b", id="q1", kind="echo", model="m2")
    assert raised.value.task_id == "q1"
    assert raised.value.exit_code == 2
    with pytest.raises(IdReused):
        await client.submit_body(parse_body(b"b", {}), id="q1")
    assert (await observer.js.stream_info(subjects.TASKS))["state"]["last_seq"] == before


async def test_what_a_message_only_refers_to_is_compared(
    observer: Observer, start_worker: StartWorker, client: Client
) -> None:
    await start_worker()
    long = "x" * (limits.TASK_BYTES + 1)
    await (await client.submit(long, id="q1", kind="echo", params={"a": 1, "b": 2})).result(20)
    again = await client.submit(long, id="q1", kind="echo", params={"b": 2, "a": 1})
    assert (await again.result(20)).ok
    with pytest.raises(IdReused, match="another payload"):
        await client.submit(long + "y", id="q1", kind="echo", params={"a": 1, "b": 2})
    line = Item(
        1,
        "q1",
        "",
        TaskBody(prompt=long, kind="echo", id="q1", params={"b": 2, "a": 1}),
        large=True,
    )
    await reuse.check(client, [line], name="file")
    line = Item(1, "q1", "", TaskBody(prompt=long + "y", kind="echo", id="q1"), large=True)
    with pytest.raises(InvalidInput, match=r"line 1: .*another payload"):
        await reuse.check(client, [line], name="file")


async def test_a_handle_never_gives_the_answer_to_another_request(
    observer: Observer, start_worker: StartWorker, client: Client
) -> None:
    one = await client.submit("a", id="q1", kind="echo")
    two = await client.submit("b", id="q1", kind="echo")  # no log tells them apart yet
    await start_worker()
    told = {}
    for prompt, handle in (("a", one), ("b", two)):
        try:
            told[prompt] = (await handle.result(20)).text
        except IdReused:
            told[prompt] = None
    assert told in ({"a": "a", "b": None}, {"a": None, "b": "b"})


@pytest.mark.parametrize("ordered", [True, False])
async def test_map_refuses_an_id_of_another_request(
    start_worker: StartWorker, client: Client, ordered: bool
) -> None:
    await start_worker()

    def items(text: str) -> list[dict[str, Any]]:
        return [{"id": f"m{n}", "prompt": f"{text} {n}", "kind": "echo"} for n in range(5)]

    first = {result.id: result.text async for result in client.map(items("a"), ordered=ordered)}
    again = {result.id: result.text async for result in client.map(items("a"), ordered=ordered)}
    assert first == again == {f"m{n}": f"a {n}" for n in range(5)}
    got, error = await drained(client.map(items("b"), ordered=ordered))
    assert got == []
    assert re.search(r"item \d: .*another prompt", str(error))


async def test_map_refuses_two_requests_with_one_id(
    start_worker: StartWorker, client: Client
) -> None:
    await start_worker()
    items = [{"id": "x", "prompt": text, "kind": "echo"} for text in ("a", "a", "b")]
    got, error = await drained(client.map(items))
    assert got == ["a", "a"]
    assert "item 2: " in str(error)


async def test_who_may_not_read_submits_all_the_same(
    observer: Observer, start_worker: StartWorker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentflow.errors import PermissionDenied

    async def denied(task_id: str) -> Any:
        raise PermissionDenied("no")

    await start_worker({"gate": Gate()})
    await client.submit("a", id="q1", kind="gate")
    await observer.state("q1", State.RUNNING)
    monkeypatch.setattr(client.tasks.lookup, "read", denied)
    await client.submit("b", id="q1", kind="gate")
    record = await disowned(observer)
    assert record.reason == "id_reused"
    stored = int(record.message.partition("-")[2])
    assert record.id == derived_id("default", int(record.message.partition("-")[0]), stored)
