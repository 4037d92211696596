"""The Python client against a real server and a real worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

import agentflow
from agentflow.client import Client, Result
from agentflow.client.tasks.ids import Ids
from agentflow.errors import (
    AgentFlowError,
    InvalidTask,
    ResultTimeout,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskNotFound,
    UsageError,
)
from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import headers as blocks
from agentflow.protocol import limits, subjects
from agentflow.protocol.record import EMPTY, State
from agentflow.protocol.task import TaskBody
from agentflow.rules.retry import Signal
from tests.support.handlers import Gate, failing
from tests.support.nats_server import NatsServer
from tests.support.until import until

BAD = Signal(status=400)


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with agentflow.connect(nats_server.url) as opened:
        yield opened


# Submit and result.


async def test_the_example_of_the_readme(nats_server: NatsServer, start_worker: Any) -> None:
    await start_worker()
    async with agentflow.connect(nats_server.url) as client:
        task = await client.submit("Write a haiku", queue="default")
        result = await task.result(timeout=60)
    assert (result.id, result.state, result.text) == (task.id, "succeeded", "Write a haiku")
    assert result.ok
    assert result.ended
    assert result.attempts == 1
    assert result.sequence > 0
    assert result.timings.ended is not None


async def test_the_first_user_of_a_server_makes_the_streams(
    client: Client, start_worker: Any
) -> None:
    task = await client.submit("early", kind="echo")
    await start_worker()
    assert (await task.result(20)).text == "early"


async def test_everything_given_reaches_the_worker(client: Client, start_worker: Any) -> None:
    seen: list[Run] = []

    async def look(run: Run) -> Outcome:
        seen.append(run)
        return Outcome(text="seen", value={"n": 1}, content=[{"type": "text"}], stop_reason="end")

    await start_worker({"look": look}, queues=["other"])
    task = await client.submit(
        "hé 世界",
        queue="other",
        priority="high",
        id="my-id",
        kind="look",
        model="some-model",
        system="be kind",
        max_tokens=7,
        params={"temperature": 0.5},
        timeout=30,
        max_attempts=3,
        labels={"team": "blå"},
    )
    result = await task.result(20)
    got = seen[0].task
    assert task.id == got.id == "my-id"
    assert (got.prompt, got.queue, got.priority) == ("hé 世界", "other", "high")
    assert (got.model, got.system, got.max_tokens) == ("some-model", "be kind", 7)
    assert (got.timeout, got.max_attempts) == (30, 3)
    assert (got.params, got.labels) == ({"temperature": 0.5}, {"team": "blå"})
    assert result.value == {"n": 1}
    assert result.content == [{"type": "text"}]
    assert (result.stop_reason, result.labels) == ("end", {"team": "blå"})


async def test_the_live_copy_carries_what_its_headers_must(client: Client) -> None:
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    await client.submit("first, which makes the streams")
    await client.connection.subscribe("agentflow.live.tasks.>", arrived.put_nowait)
    await client.connection.flush()
    task = await client.submit("x", kind="echo", model="m", labels={"a": "b"}, reply="answers.here")
    message = await arrived.get()
    assert message.headers[subjects.ID] == task.id
    assert message.headers[subjects.KIND] == "echo"
    assert message.headers[subjects.MODEL] == "m"
    assert message.headers[subjects.LABELS] == '{"a":"b"}'
    assert message.headers[subjects.REPLY] == "answers.here"


async def test_not_before_is_kept(client: Client, start_worker: Any) -> None:
    await start_worker()
    moment = datetime.now(UTC) + timedelta(seconds=0.6)
    result = await (await client.submit("later", not_before=moment)).result(20)
    assert result.timings.started is not None
    assert result.timings.started >= moment


async def test_a_result_from_before_the_question_is_found(
    client: Client, nats_server: NatsServer, start_worker: Any
) -> None:
    await start_worker()
    task = await client.submit("done long ago")
    await task.result(20)
    async with agentflow.connect(nats_server.url) as other:
        assert (await other.task(task.id).result(20)).text == "done long ago"
        assert (await other.task(task.id).result(20)).text == "done long ago"
        record = await other.task(task.id).record()
        assert record is not None
        assert record.state == State.SUCCEEDED


async def test_a_second_submission_of_an_id_runs_once(client: Client, start_worker: Any) -> None:
    runs: list[Run] = []

    async def count(run: Run) -> Outcome:
        runs.append(run)
        return Outcome(text=run.task.prompt)

    await start_worker({"count": count})
    first = await client.submit("one", kind="count", id="same")
    assert (await first.result(20)).text == "one"
    second = await client.submit("one", kind="count", id="same", max_attempts=2, labels={"a": "b"})
    assert (await second.result(20)).text == "one"
    assert len(runs) == 1


async def test_many_at_once_each_with_its_own_result(client: Client, start_worker: Any) -> None:
    await start_worker(slots=100)

    async def one(number: int) -> bool:
        task = await client.submit(f"text {number}")
        return (await task.result(60)).text == f"text {number}"

    assert all(await asyncio.gather(*(one(number) for number in range(1000))))


async def test_a_timeout_leaves_the_task_alone(client: Client, start_worker: Any) -> None:
    gate = Gate()
    await start_worker({"gate": gate})
    task = await client.submit("x", kind="gate")
    with pytest.raises(ResultTimeout, match=f"{task.id} had not ended after 0.05 s; it goes on"):
        await task.result(timeout=0.05)
    other = asyncio.ensure_future(task.result())
    cancelled = asyncio.ensure_future(task.result())
    await gate.started.wait()
    cancelled.cancel()
    await asyncio.wait([cancelled])
    gate.opened.set()
    assert (await other).text == "released"
    assert (await task.result()).text == "released"


async def test_a_failure_is_raised_or_returned(client: Client, start_worker: Any) -> None:
    await start_worker({"bad": failing(BAD)})
    task = await client.submit("x", kind="bad")
    with pytest.raises(TaskFailed, match=f"task {task.id} failed .*as the test wants") as raised:
        await task.result(20)
    assert raised.value.task_id == task.id
    result = await task.result(raise_on_failure=False)
    assert result.state == "failed"
    assert raised.value.reason == result.reason
    assert result.error is not None
    assert result.usage.input_tokens == 10
    assert not result.ok


# What is wrong is said before anything is sent.


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "needs a prompt"),
        ({"prompt": "  "}, "needs a prompt"),
        ({"prompt": 5}, r"\$\.prompt"),
        ({"prompt": "x", "id": "a.b"}, "id 'a.b' is not allowed"),
        ({"prompt": "x", "id": "ö"}, "is not allowed"),
        ({"prompt": "x", "id": "a" * 65}, "is not allowed"),
        ({"prompt": "x", "queue": "Upper"}, "queue 'Upper' is not allowed"),
        ({"prompt": "x", "queue": "a.high"}, "queue 'a.high' is not allowed"),
        ({"prompt": "x", "priority": "urgent"}, "one of high, normal, low"),
        ({"prompt": "x", "max_tokens": 0}, r"\$\.max_tokens"),
        ({"prompt": "x", "max_tokens": "7"}, r"\$\.max_tokens"),
        ({"prompt": "x", "timeout": 10**9}, r"\$\.timeout"),
        ({"prompt": "x", "labels": {"a": 1}}, r"\$\.labels"),
        ({"prompt": "x", "params": {"f": object()}}, "cannot be written as JSON"),
        ({"prompt": "half a \ud800 pair"}, "cannot be written as JSON"),
        ({"prompt": "x", "not_before": datetime(2030, 1, 1)}, r"\$\.not_before"),  # noqa: DTZ001
        ({"prompt": "x", "not_before": datetime(2099, 1, 1, tzinfo=UTC)}, "6 days ahead"),
        ({"prompt": "x", "reply": "a *"}, "not a subject"),
        ({"prompt": "x" * limits.PAYLOAD_BYTES}, "at most 33,554,432"),
    ],
)
async def test_what_is_no_task_is_refused(
    client: Client, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        await client.submit(**arguments)
    # Refused here, it made no streams there.
    assert await client.read("anything") == EMPTY


async def test_a_body_may_be_given(client: Client, start_worker: Any) -> None:
    await start_worker()
    task = await client.submit_body(TaskBody(prompt="from a body", kind="echo", id="body-1"))
    assert task.id == "body-1"
    assert (await task.result(20)).text == "from a body"


def test_ids_are_unique_sortable_and_allowed() -> None:
    ids = Ids()
    made = [ids.new() for _ in range(20_000)]
    assert len(set(made)) == len(made)
    assert all(len(each) == 20 and subjects.is_id(each) for each in made)
    times = [each[:9] for each in made]
    assert times == sorted(times)


# Map.


async def test_map_yields_each_result_as_it_ends(client: Client, start_worker: Any) -> None:
    await start_worker(slots=20)
    prompts = [f"prompt {number}" for number in range(500)]
    results = [result async for result in client.map(prompts, concurrency=50)]
    assert {result.index: result.text for result in results} == dict(enumerate(prompts))


async def test_map_in_order(client: Client, start_worker: Any) -> None:
    await start_worker(slots=20)
    items = [{"kind": "sleep", "params": {"seconds": 0.05 * (3 - n % 4)}} for n in range(12)]
    seen = [result.index async for result in client.map(items, concurrency=4, ordered=True)]
    assert seen == list(range(12))


async def test_map_never_has_more_under_way_and_takes_items_lazily(
    client: Client, start_worker: Any
) -> None:
    running = most = 0

    async def count(run: Run) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return Outcome(text="x")

    await start_worker({"count": count}, slots=50)
    taken = yielded = 0

    async def items() -> AsyncIterator[str]:
        nonlocal taken
        for number in range(60):
            taken += 1
            assert taken - yielded <= 8 + 1
            yield str(number)

    async for _ in client.map(items(), concurrency=8, kind="count"):
        yielded += 1
    assert yielded == 60
    assert most <= 8


async def test_map_yields_failures_like_any_result(client: Client, start_worker: Any) -> None:
    await start_worker({"bad": failing(BAD)})
    items = ["good", {"prompt": "poor", "kind": "bad"}, TaskBody(prompt="good too")]
    results = [result async for result in client.map(items, kind="echo", ordered=True)]
    assert [result.state for result in results] == ["succeeded", "failed", "succeeded"]


async def test_map_finds_what_ended_in_an_earlier_life(client: Client, start_worker: Any) -> None:
    await start_worker()
    items = [{"prompt": f"{number}", "id": f"job-{number}"} for number in range(5)]
    first = [result async for result in client.map(items)]
    again = [result async for result in client.map(items)]
    assert {result.sequence for result in first} == {result.sequence for result in again}


async def test_map_names_the_item_that_is_no_task(client: Client, start_worker: Any) -> None:
    await start_worker()
    with pytest.raises(InvalidTask, match=r"item 1: .*unknown field `promt`"):
        async for _ in client.map(["fine", {"promt": "typo"}]):
            pass


async def test_map_passes_on_what_its_items_raise(client: Client, start_worker: Any) -> None:
    await start_worker()

    def items() -> Any:
        yield "one"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async for _ in client.map(items()):
            pass


async def _until_it_breaks(results: Any, seen: list[str]) -> None:
    async for result in results:
        seen.append(result.id)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(
    ("last", "kind", "sentence"),
    [
        (None, OSError, "line 6 cannot be read"),
        (5, InvalidTask, "item 5: 5 is a int, not a task"),
    ],
)
async def test_what_was_paid_before_the_input_broke_is_given(
    client: Client, start_worker: Any, last: Any, kind: type, sentence: str, ordered: bool
) -> None:
    gate = Gate()
    await start_worker({"gated": gate})

    def items() -> Any:
        for number in range(5):
            yield {"id": f"m{number}", "kind": "gated", "params": {}}
        if last is None:
            raise OSError("line 6 cannot be read")
        yield last

    seen: list[str] = []
    run = asyncio.create_task(_until_it_breaks(client.map(items(), ordered=ordered), seen))
    await until(lambda: len(gate.runs) == 5)
    assert not run.done()
    gate.opened.set()
    with pytest.raises(kind, match=sentence) as caught:
        await run
    assert sorted(seen) == [f"m{number}" for number in range(5)]
    assert "5 tasks before were run" in caught.value.__notes__[0]


async def test_who_leaves_a_map_early_waits_for_nothing(client: Client, start_worker: Any) -> None:
    await start_worker()
    async with aclosing(client.map((str(n) for n in range(10_000)), concurrency=10)) as results:
        async for _ in results:
            break
    assert client.tasks.waiting.expected == 0
    assert (await (await client.submit("still works")).result(20)).ok


async def test_map_of_nothing(client: Client) -> None:
    assert [result async for result in client.map([])] == []
    with pytest.raises(UsageError, match="concurrency"):
        client.map(["x"], concurrency=0)


# Watch.


async def test_watch_shows_a_task_from_start_to_end(client: Client, start_worker: Any) -> None:
    async def talk(run: Run) -> Outcome:
        run.emit("one ")
        await run.progress(0.5, "half")
        run.emit("two")
        return Outcome(text="one two")

    gate = asyncio.Event()
    task = await client.submit("x", kind="talk", id="talker")
    events = []

    async def watch() -> None:
        async for event in client.watch(task.id):
            events.append(event)
            gate.set()

    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0)
    await start_worker({"talk": talk})
    async with asyncio.timeout(20):
        await watching
    states = [event.record.state for event in events if event.record]
    assert states == ["running", "running", "succeeded"]
    assert [event.sequence for event in events if event.record] == sorted(
        event.sequence for event in events if event.record
    )
    assert "".join(event.text for event in events if event.kind == "tokens") == "one two"


async def test_watch_of_an_ended_task_shows_its_end(client: Client, start_worker: Any) -> None:
    await start_worker()
    task = await client.submit("x")
    await task.result(20)
    events = [event async for event in task.watch()]
    assert [event.kind for event in events] == ["record"]
    assert events[0].record is not None
    assert events[0].record.state == "succeeded"


async def test_watch_of_all_shows_arrivals_and_records(client: Client, start_worker: Any) -> None:
    await start_worker()
    seen: dict[str, list[str]] = {}
    ended = 0
    async with aclosing(client.watch()) as events:
        first = asyncio.ensure_future(anext(events))
        while not first.done():
            await client.submit("seen or not")
            await asyncio.wait([first], timeout=0.05)
        tasks = [await client.submit("x", labels={"a": "b"}) for _ in range(20)]
        wanted = {task.id for task in tasks}
        async for event in events:
            if event.id not in wanted:
                continue
            seen.setdefault(event.id, []).append(event.record.state if event.record else event.kind)
            if event.kind == "task":
                assert (event.queue, event.priority, event.labels) == (
                    "default",
                    "normal",
                    {"a": "b"},
                )
            ended += event.record is not None and event.record.terminal
            if ended == 20:
                break
    assert all(sorted(kinds) == ["running", "succeeded", "task"] for kinds in seen.values())


async def test_a_lost_live_copy_is_read_from_the_log(client: Client, start_worker: Any) -> None:
    """Of every other record the live copy is withheld; all are seen, in order."""
    gate = Gate()
    await start_worker({"gate": gate})
    task = await client.submit("x", kind="gate")
    await gate.started.wait()
    real = client.connection.subscribe
    dropped = 0

    async def lossy(subject: str, callback: Any, queue: str = "") -> Any:
        def sometimes(message: Any) -> None:
            nonlocal dropped
            if b'"progress":' in message.data:
                dropped += 1
            else:
                callback(message)

        return await real(subject, sometimes, queue)

    client.connection.subscribe = lossy  # type: ignore[method-assign]
    seen = []
    async with aclosing(client.watch(task.id)) as events:
        seen.append(await anext(events))
        for fraction in (0.1, 0.2, 0.3):
            await gate.runs[0].progress(fraction)
        gate.opened.set()
        async for event in events:
            seen.append(event)
    assert dropped == 3
    records = [event.record for event in seen if event.record]
    assert [record.progress for record in records] == [None, 0.1, 0.2, 0.3, None]
    assert records[-1].state == "succeeded"


# Get, cancel, retry.


async def test_get_without_a_master(client: Client, start_worker: Any) -> None:
    with pytest.raises(TaskNotFound, match="no master answers"):
        await client.get("unknown")
    await start_worker()
    task = await client.submit("x")
    result = await task.result(20)
    assert await client.get(task.id) == result
    with pytest.raises(InvalidTask, match="is not allowed"):
        await client.get("agentflow.*.>")


async def test_cancel_of_a_queued_task_removes_its_message(client: Client) -> None:
    task = await client.submit("never")
    kept = await client.submit("stays")
    result = await task.cancel()
    assert result.state == "cancelled"
    with pytest.raises(TaskCancelled):
        await task.result(20)
    assert await client.js.get(subjects.TASKS, task.message_sequence) is None
    assert await client.js.get(subjects.TASKS, kept.message_sequence) is not None


async def test_cancel_by_id_without_a_master(client: Client, start_worker: Any) -> None:
    task = await client.submit("never", kind="gate")
    assert (await client.cancel(task.id)).state == "cancelled"
    gate = Gate()
    await start_worker({"gate": gate})
    assert (await (await client.submit("after it")).result(20)).ok
    assert not gate.runs


async def test_cancel_of_a_running_task_stops_it(client: Client, start_worker: Any) -> None:
    gate = Gate()
    await start_worker({"gate": gate})
    task = await client.submit("x", kind="gate")
    waiting = asyncio.ensure_future(task.result(20))
    await gate.started.wait()
    assert (await client.cancel(task.id)).state == "cancelled"
    with pytest.raises(TaskCancelled):
        await waiting
    # The hint has reached the worker when another task can take the slot.
    assert (await (await client.submit("next")).result(20)).ok
    await until(lambda: gate.ended)


async def test_cancel_of_a_waiting_task_removes_its_schedule(
    client: Client, start_worker: Any
) -> None:
    await start_worker()
    task = await client.submit("x", not_before=datetime.now(UTC) + timedelta(hours=1))
    async for event in client.watch(task.id):
        if event.record and event.record.state == "scheduled":
            break
    info = await client.js.stream_info(subjects.SCHEDULE)
    while not info["state"]["messages"]:  # the schedule follows the record
        info = await client.js.stream_info(subjects.SCHEDULE)
    assert (await client.cancel(task.id)).state == "cancelled"
    info = await client.js.stream_info(subjects.SCHEDULE)
    assert info["state"]["messages"] == 0


async def test_cancel_of_an_ended_task_changes_nothing(client: Client, start_worker: Any) -> None:
    await start_worker()
    task = await client.submit("x")
    result = await task.result(20)
    assert await client.cancel(task.id) == result


async def test_a_failed_task_is_retried_by_hand(client: Client, start_worker: Any) -> None:
    await start_worker({"bad": failing(BAD, times=1)})
    task = await client.submit("x", kind="bad", labels={"kept": "yes"})
    failed = await task.result(20, raise_on_failure=False)
    assert failed.state == "failed"
    retried = await client.retry(task.id)
    assert (retried.id, retried.newer_than) == (task.id, failed.sequence)
    result = await retried.result(20)
    assert (result.text, result.labels, result.attempts) == ("at last", {"kept": "yes"}, 2)
    assert result.failures == 0
    info = await client.js.stream_info(subjects.DEAD)
    assert info["state"]["messages"] == 0
    assert (await task.result(20, newer_than=failed.sequence)).sequence == result.sequence


async def test_a_retry_keeps_payload_and_headers(client: Client, start_worker: Any) -> None:
    await start_worker({"bad": failing(BAD)})
    await client.submit("makes the streams")
    block = (
        b"NATS/1.0\r\nAgentflow-Id: raw\r\nAgentflow-Kind: bad\r\nAgentflow-Later: kept\r\n"
        b"X-Odd: \xff\r\nX-Odd: twice\r\nNats-Msg-Id: not-this\r\n\r\n"
    )
    first = await client.js.store("agentflow.tasks.default.high", b"  the very bytes ", block)
    await client.task("raw").result(20, raise_on_failure=False)
    await client.connection.subscribe("agentflow.tasks.>", (sent := []).append)
    await client.connection.flush()
    await client.retry("raw")
    await until(lambda: sent)
    (message,) = sent
    assert first.seq
    assert message.subject == "agentflow.tasks.default.high"
    assert message.data == b"  the very bytes "
    lines = message.block.split(b"\r\n")
    assert {b"X-Odd: \xff", b"X-Odd: twice", b"Agentflow-Later: kept"} <= set(lines)
    names = [line.partition(b":")[0] for line in lines[1:] if line]
    assert sorted(names) == [
        b"Agentflow-Follows",
        b"Agentflow-Id",
        b"Agentflow-Kind",
        b"Agentflow-Later",
        b"X-Odd",
        b"X-Odd",
    ]


async def test_only_a_failed_task_is_retried(client: Client, start_worker: Any) -> None:
    await start_worker()
    task = await client.submit("x")
    await task.result(20)
    with pytest.raises(TaskError, match="is succeeded; only a failed one"):
        await client.retry(task.id)
    with pytest.raises(TaskNotFound, match="there is no task nothing"):
        await client.retry("nothing")


async def test_of_two_retries_one_wins(client: Client, start_worker: Any) -> None:
    runs: list[int] = []

    async def once(run: Run) -> Outcome:
        runs.append(run.attempt)
        if run.attempt == 1:
            raise AssertionError("the first one fails")
        return Outcome(text="at last")

    await start_worker({"once": once})
    task = await client.submit("x", kind="once", max_attempts=1)
    failed = await task.result(20, raise_on_failure=False)
    payload = b'{"prompt":"x","kind":"once"}'
    handles = await asyncio.gather(client.retry(task.id, payload), client.retry(task.id, payload))
    results = await asyncio.gather(*(handle.result(20) for handle in handles))
    assert {result.sequence for result in results} != {failed.sequence}
    assert len({result.sequence for result in results}) == 1
    assert runs == [1, 2]


async def test_a_retry_after_the_log_expired(client: Client, start_worker: Any) -> None:
    await start_worker({"bad": failing(BAD, times=1)})
    task = await client.submit("x", kind="bad", priority="low")
    await task.result(20, raise_on_failure=False)
    async with asyncio.timeout(20):  # the dead letter comes after the record
        while await client.js.last(subjects.DEAD, subjects.dead("*", task.id)) is None:
            await asyncio.sleep(0.02)
    # As if seven days had passed.
    await client.js.purge(subjects.RECORDS, subjects.log(task.id))
    retried = await client.retry(task.id)
    result = await retried.result(20)
    assert (result.text, result.priority, result.attempts) == ("at last", "low", 1)


# Whose queue is it?


async def test_a_queue_without_a_worker_is_named(client: Client, start_worker: Any) -> None:
    assert await client.unserved("default")  # not even a stream
    worker = await start_worker(queues=["default", "second"])
    assert not await client.unserved("default")
    assert not await client.unserved("second")
    assert await client.unserved("third")
    await worker.actor.close()
    await worker._connection.close()
    assert await client.unserved("default")


async def test_a_busy_worker_serves_its_queue(client: Client, start_worker: Any) -> None:
    gate = Gate()
    await start_worker({"gate": gate}, slots=1)
    await client.submit("x", kind="gate")
    await client.submit("y", kind="gate")
    await gate.started.wait()
    assert not await client.unserved("default")
    gate.opened.set()


# The rest.


async def test_results_are_whole_for_other_languages(client: Client, start_worker: Any) -> None:
    await start_worker()
    result = await (await client.submit("x")).result(20)
    assert msgspec.json.decode(msgspec.json.encode(result), type=Result) == result


async def test_a_message_of_another_client_is_waited_for(client: Client, start_worker: Any) -> None:
    await start_worker()
    waiting = asyncio.ensure_future(client.task("raw-1").result(20))
    block = blocks.encode({"Nats-Msg-Id": "raw-1"})
    await client.js.store("agentflow.tasks.default", b"from nats pub", block)
    assert (await waiting).text == "from nats pub"


async def test_a_flow_that_is_not_open_says_how() -> None:
    with pytest.raises(AgentFlowError, match="async with"):
        agentflow.connect("nats://127.0.0.1:1").map(["x"])
