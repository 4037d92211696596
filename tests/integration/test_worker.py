"""The plain path: a task becomes one result, whatever its form and however often it comes."""

import asyncio

import pytest

from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import record, subjects
from agentflow.protocol.record import VERSION, State, Usage
from tests.integration.conftest import StartWorker
from tests.support.handlers import Gate
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(45)


async def test_plain_text_is_the_prompt(observer: Observer, start_worker: StartWorker) -> None:
    worker = await start_worker()
    ack = await observer.submit("Write a haiku über Schlangen\n")
    task_id = await observer.derived_id(ack)
    ended = await observer.ended(task_id)

    assert ended.state == State.SUCCEEDED
    assert ended.text == "Write a haiku über Schlangen\n"
    assert (ended.kind, ended.queue, ended.priority) == ("claude", "default", "normal")
    assert ended.actor == worker.actor.name
    assert await observer.states(task_id) == [State.RUNNING, State.SUCCEEDED]
    await observer.at_rest()


async def test_every_field_of_a_result(observer: Observer, start_worker: StartWorker) -> None:
    async def spender(run: Run) -> Outcome:
        run.usage = Usage(11, 7, 5, 3)
        run.cost_micro = 1234
        run.request_id = "req_1"
        run.model = "model-as-answered"
        run.first_token_s = 0.25
        run.simulated = True
        return Outcome(
            text="t", content=[{"type": "text"}], stop_reason="max_tokens", value={"a": [1, None]}
        )

    await start_worker({"spender": spender})
    body = {"params": {"x": 1}, "kind": "spender", "id": "all", "model": "m", "labels": {"a": "b"}}
    ack = await observer.submit(body, subject="agentflow.tasks.default.high")
    ended = await observer.ended("all")
    running, final = await observer.log("all")

    origin = await observer.origin("all", ack)
    assert ended == final.record
    assert running.record is not None
    assert running.record.follows == 0
    assert ended.follows == running.sequence
    assert (ended.v, ended.id, ended.attempt, ended.failures) == (VERSION, "all", 1, 0)
    assert ended.message == origin.message
    assert (ended.priority, ended.kind, ended.labels) == ("high", "spender", {"a": "b"})
    assert (ended.usage, ended.cost_usd) == (Usage(11, 7, 5, 3), 0.001234)
    assert (ended.model, ended.request_id) == ("model-as-answered", "req_1")
    assert (ended.text, ended.content) == ("t", [{"type": "text"}])
    assert (ended.stop_reason, ended.value) == ("max_tokens", {"a": [1, None]})
    assert ended.simulated
    timings = ended.timings
    assert timings.submitted is not None
    assert timings.started is not None
    assert timings.ended is not None
    assert abs((timings.submitted - origin.submitted).total_seconds()) < 0.001
    assert timings.started <= timings.ended == ended.time
    assert timings.run_s >= 0
    assert timings.first_token_s == 0.25


async def test_json_and_headers_say_the_same(observer: Observer, start_worker: StartWorker) -> None:
    runs: dict[str, Run] = {}

    async def look(run: Run) -> Outcome:
        runs[run.task.id] = run
        return Outcome(text="")

    await start_worker({"look": look})
    await observer.submit(
        b'\r\n {"prompt": "p", "kind": "look", "id": "json", "model": "m", "system": "s",'
        b' "max_tokens": 9, "params": {"top_k": 1}, "timeout": 1.5, "max_attempts": 2,'
        b' "labels": {"team": "x"}}'
    )
    await observer.submit(
        '{"prompt": "not parsed"}',
        {
            subjects.ID: "headers",
            subjects.KIND: "look",
            subjects.MODEL: "m",
            subjects.LABELS: '{"team":"x"}',
            subjects.CONTENT_TYPE: "text/plain; charset=utf-8",
        },
    )
    await observer.all_ended(["json", "headers"])

    json, headers = runs["json"].task, runs["headers"].task
    assert (json.prompt, json.system, json.max_tokens) == ("p", "s", 9)
    assert (json.params, json.timeout, json.max_attempts) == ({"top_k": 1}, 1.5, 2)
    assert headers.prompt == '{"prompt": "not parsed"}'
    assert (json.model, json.labels) == (headers.model, headers.labels) == ("m", {"team": "x"})


@pytest.mark.parametrize(
    ("headers", "payload", "expected"),
    [
        ({subjects.ID: "h", subjects.MSG_ID: "n"}, '{"prompt": "x", "id": "p"}', "h"),
        ({subjects.MSG_ID: "n"}, '{"prompt": "x", "id": "p"}', "p"),
        ({subjects.MSG_ID: "n"}, '{"prompt": "x"}', "n"),
        ({subjects.MSG_ID: "not usable: has blanks"}, '{"prompt": "x"}', None),
        ({}, "x", None),
    ],
)
async def test_the_id_is_the_first_that_is_given(
    observer: Observer,
    start_worker: StartWorker,
    headers: dict[str, str],
    payload: str,
    expected: str | None,
) -> None:
    await start_worker()
    ack = await observer.submit(payload, headers)
    task_id = expected or await observer.derived_id(ack)
    assert (await observer.ended(task_id)).state == State.SUCCEEDED
    assert list(observer.live) == [task_id]


async def test_kinds_that_every_worker_has(observer: Observer, start_worker: StartWorker) -> None:
    await start_worker()
    await observer.submit({"prompt": "hello", "kind": "echo", "id": "e"})
    await observer.submit({"kind": "sleep", "id": "s", "params": {"seconds": 0.1}})
    assert (await observer.ended("e")).text == "hello"
    slept = await observer.ended("s")
    assert slept.value == 0.1
    assert slept.timings.run_s >= 0.1


async def test_high_before_normal_before_low(observer: Observer, start_worker: StartWorker) -> None:
    order: list[str] = []

    async def note(run: Run) -> Outcome:
        order.append(run.task.id)
        return Outcome(text="")

    for priority in ("low", "normal", "high"):
        for number in range(3):
            await observer.submit(
                {"prompt": "x", "kind": "note", "id": f"{priority}{number}"},
                subject=f"agentflow.tasks.default.{priority}",
            )
    await observer.submit({"prompt": "x", "kind": "note", "id": "bare"})
    await start_worker({"note": note}, slots=1)
    ids = [f"{p}{n}" for p in ("high", "normal", "low") for n in range(3)] + ["bare"]
    await observer.all_ended(ids)

    # Every eighth time the order is reversed, so that low cannot starve: one may be out of place.
    assert sorted(order) == sorted(ids)
    assert order[:3] == ["high0", "high1", "high2"]
    assert order.index("bare") < order.index("low2")


async def test_several_queues(observer: Observer, start_worker: StartWorker) -> None:
    await start_worker(queues=["a", "b"])
    for queue in ("a", "b"):
        await observer.submit("x", {subjects.ID: queue}, subject=f"agentflow.tasks.{queue}")
    await observer.all_ended(["a", "b"])
    assert {(await observer.ended(queue)).queue for queue in ("a", "b")} == {"a", "b"}


async def test_a_task_submitted_again_runs_once(
    observer: Observer, start_worker: StartWorker
) -> None:
    gate = Gate()
    task = {"prompt": "x", "kind": "gate", "id": "once"}
    for _ in range(3):
        await observer.submit(task)  # before the run
    await start_worker({"gate": gate})
    await start_worker({"gate": gate})
    await observer.state("once", State.RUNNING)
    for _ in range(3):
        await observer.submit(task)  # during the run

    async def only_one_left() -> bool:
        return await observer.messages() == 1

    await observer.becomes(only_one_left)
    gate.opened.set()
    await observer.ended("once")
    for _ in range(3):
        await observer.submit(task)  # after the run
    await observer.at_rest()
    assert len(gate.runs) == 1
    assert await observer.states("once") == [State.RUNNING, State.SUCCEEDED]


async def test_the_reply_is_the_final_record(observer: Observer, start_worker: StartWorker) -> None:
    await observer.listen_for_replies("answers.>")
    await start_worker()
    task = {"prompt": "x", "kind": "echo", "id": "asked"}
    await observer.submit(task, {subjects.REPLY: "answers.one"})
    await observer.until(lambda: len(observer.replies) == 1)
    await observer.submit(task, {subjects.REPLY: "answers.two"})  # a duplicate after the end
    await observer.submit(b"\xff", {subjects.REPLY: "answers.three", subjects.ID: "bad"})
    await observer.until(lambda: len(observer.replies) == 3)

    by_subject = {message.subject: message for message in observer.replies}
    for subject, task_id in (("one", "asked"), ("two", "asked"), ("three", "bad")):
        message = by_subject[f"answers.{subject}"]
        last = await observer.last(task_id)
        assert record.decode(message.data) == last.record
        assert message.headers[subjects.ID] == task_id
        assert message.headers[subjects.SEQUENCE] == str(last.sequence)


@pytest.mark.parametrize(
    "reply",
    [
        b"$JS.API.STREAM.DELETE.AGENTFLOW_RECORDS",
        b"agentflow.results.forged",
        b"agentflow.tasks.default",
        b"a\nPUB forged 2\r",
        b"a\nb",
        b"a..b",
        b"a.*",
        b".a",
        "ä".encode(),
    ],
)
async def test_a_reply_subject_can_do_no_harm(
    observer: Observer, start_worker: StartWorker, reply: bytes
) -> None:
    await observer.listen_for_replies("forged")
    await start_worker()
    block = b"NATS/1.0\r\nAgentflow-Id: r\r\nAgentflow-Reply: " + reply + b"\r\n\r\n"
    await observer.submit({"prompt": "x", "kind": "echo"}, block=block)
    assert (await observer.ended("r")).state == State.SUCCEEDED
    await observer.submit({"prompt": "x", "kind": "echo", "id": "next"})
    await observer.ended("next")
    await observer.at_rest()
    assert set(observer.live) == {"r", "next"}
    assert not observer.replies


async def test_tokens_are_coalesced_and_add_up(
    observer: Observer, start_worker: StartWorker
) -> None:
    pieces = [f"wörd{number} " for number in range(300)]

    async def speaker(run: Run) -> Outcome:
        for piece in pieces:
            run.emit(piece)
            await asyncio.sleep(0.002)
        run.emit("")
        return Outcome(text="".join(pieces))

    worker = await start_worker({"speaker": speaker})
    await observer.submit({"prompt": "x", "kind": "speaker", "id": "t"})
    ended = await observer.ended("t")
    whole = "".join(pieces).encode()
    await observer.until(lambda: sum(len(part.data) for part in observer.tokens["t"]) == len(whole))

    parts = observer.tokens["t"]
    assert b"".join(part.data for part in parts) == whole
    offset = 0
    for part in parts:
        assert part.headers[subjects.OFFSET] == str(offset)
        assert part.headers[subjects.ATTEMPT] == "1"
        assert part.headers[subjects.ACTOR] == worker.actor.name
        offset += len(part.data)
    # The first goes out at once, the last at the end; between them at most 20 a second.
    assert 2 < len(parts) <= ended.timings.run_s * 20 + 2


async def test_progress_is_part_of_the_log(observer: Observer, start_worker: StartWorker) -> None:
    async def walker(run: Run) -> Outcome:
        await asyncio.gather(*(run.progress(step / 4, f"step {step}") for step in range(1, 4)))
        return Outcome(text="there")

    await start_worker({"walker": walker})
    await observer.submit({"prompt": "x", "kind": "walker", "id": "w"})
    await observer.ended("w")
    log = await observer.log("w")
    assert [entry.state for entry in log] == [State.RUNNING] * 4 + [State.SUCCEEDED]
    reports = [entry.record for entry in log[1:4]]
    assert {(one.progress, one.note) for one in reports if one} == {
        (0.25, "step 1"),
        (0.5, "step 2"),
        (0.75, "step 3"),
    }
    assert {one.attempt for one in reports if one} == {1}


async def test_progress_after_the_end_goes_nowhere(
    observer: Observer, start_worker: StartWorker
) -> None:
    stray: list[asyncio.Task[None]] = []

    async def careless(run: Run) -> Outcome:
        async def later() -> None:
            await asyncio.sleep(0.1)
            await run.progress(0.5)

        stray.append(asyncio.create_task(later()))
        return Outcome(text="done")

    await start_worker({"careless": careless})
    await observer.submit({"prompt": "x", "kind": "careless", "id": "c"})
    await observer.ended("c")
    await stray[0]
    assert await observer.states("c") == [State.RUNNING, State.SUCCEEDED]


async def test_slots_bound_what_runs_at_once(observer: Observer, start_worker: StartWorker) -> None:
    now, most = 0, 0

    async def count(run: Run) -> Outcome:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return Outcome(text="")

    ids = [f"t{number}" for number in range(40)]
    for task_id in ids:
        await observer.submit({"prompt": "x", "kind": "count", "id": task_id})
    await start_worker({"count": count}, slots=3)
    await observer.all_ended(ids)
    assert most == 3


async def test_the_heartbeat_says_what_runs(observer: Observer, start_worker: StartWorker) -> None:
    gate = Gate()
    worker = await start_worker({"gate": gate}, slots=2, queues=["default", "other"])
    await observer.submit({"prompt": "x", "kind": "gate", "id": "shown"})
    await gate.started.wait()
    beat = worker.actor.heartbeat()
    assert (beat.slots, beat.running, beat.held) == (2, 1, 0)
    assert (beat.queues, beat.notes) == (["default", "other"], [])
    assert "gate" in beat.kinds
    assert [(task.id, task.attempt) for task in beat.tasks] == [("shown", 1)]
    gate.opened.set()
    await observer.ended("shown")
    await observer.at_rest()
    beat = worker.actor.heartbeat()
    assert (beat.running, beat.done, beat.failed) == (0, 1, 0)
