"""Whatever is published as a task: it runs, or it fails with a reason and a dead letter.

Each case is a raw publish. Nothing is lost, nothing comes round again, and the worker goes on.
"""

import pytest

from agentflow.protocol import limits, subjects
from agentflow.protocol.record import State
from tests.integration.conftest import StartWorker
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(45)

ID = {subjects.ID: "case"}
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[8m\u202e\u2066\x9b31m\x00\r\n"

BAD: dict[str, tuple[bytes, dict[str, str], str]] = {
    "not UTF-8": (b"Write \xff\xfe a haiku", ID, "bad_text"),
    "text/plain that is not UTF-8": (
        b'{"prompt": "\xff"}',
        {**ID, subjects.CONTENT_TYPE: "text/plain"},
        "bad_text",
    ),
    "JSON that is not UTF-8": (b'{"prompt": "\xff"}', ID, "bad_json"),
    "half a surrogate pair": (b'{"prompt": "\\ud800"}', ID, "bad_json"),
    "JSON cut off": (b'{"prompt": "Write', ID, "bad_json"),
    "JSON with more behind it": (b'{"prompt": "x"} {"prompt": "y"}', ID, "bad_json"),
    "an opening brace": (b"{", ID, "bad_json"),
    "deep arrays": (b'{"params": {"a": ' + b"[" * 500_000, ID, "bad_json"),
    "deep objects": (
        b'{"params": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        ID,
        "bad_json",
    ),
    "a number too large": (b'{"prompt": "x", "timeout": 1e999}', ID, "bad_field"),
    "a prompt that is a number": (b'{"prompt": 3}', ID, "bad_field"),
    "params that are a list": (b'{"params": [1]}', ID, "bad_field"),
    "a timeout in words": (b'{"prompt": "x", "timeout": "soon"}', ID, "bad_field"),
    "a timeout of years": (b'{"prompt": "x", "timeout": 1e9}', ID, "bad_field"),
    "no attempts": (b'{"prompt": "x", "max_attempts": 0}', ID, "bad_field"),
    "labels that are numbers": (b'{"prompt": "x", "labels": {"a": 1}}', ID, "bad_field"),
    "a label too long": (
        b'{"prompt": "x", "labels": {"a": "%s"}}' % (b"b" * 65),
        ID,
        "bad_field",
    ),
    "too many labels": (
        b'{"prompt": "x", "labels": {%s}}' % b",".join(b'"%d":""' % n for n in range(17)),
        ID,
        "bad_field",
    ),
    "tomorrow": (b'{"prompt": "x", "not_before": "tomorrow"}', ID, "bad_field"),
    "a time without a zone": (
        b'{"prompt": "x", "not_before": "2030-01-01T00:00:00"}',
        ID,
        "bad_field",
    ),
    "a time too far away": (
        b'{"prompt": "x", "not_before": "9999-12-31T23:59:59Z"}',
        ID,
        "bad_field",
    ),
    "a field that there is not": (b'{"prompt": "x", "max_token": 3}', ID, "bad_field"),
    "a hostile field": (b'{"prompt": "x", "\\u001b[2J": 3}', ID, "bad_field"),
    "a kind that nobody runs": (b'{"prompt": "x", "kind": "telepathy"}', ID, "unknown_kind"),
    "a kind with blanks": (b'{"prompt": "x", "kind": "a b"}', ID, "bad_field"),
    "a kind header that nobody runs": (b"x", {**ID, subjects.KIND: "telepathy"}, "unknown_kind"),
    "a bad id in the payload": (b'{"prompt": "x", "id": "a.b"}', {}, "bad_id"),
    "an empty id in the payload": (b'{"prompt": "x", "id": ""}', {}, "bad_id"),
    "a bad id in the header": (b"x", {subjects.ID: "agentflow.>"}, "bad_id"),
    "an id too long": (b"x", {subjects.ID: "a" * 65}, "bad_id"),
    "an empty payload": (b"", ID, "empty"),
    "blanks": (b" \r\n\t ", ID, "empty"),
    "an empty object": (b"{}", ID, "empty"),
    "an empty prompt": (b'{"prompt": ""}', ID, "empty"),
    "text over the limit": (b"x" * (limits.TASK_BYTES + 1), ID, "too_large"),
    "JSON over the limit": (b'{"prompt": "%s"}' % (b"x" * limits.TASK_BYTES), ID, "too_large"),
    "Follows in words": (b"x", {**ID, subjects.FOLLOWS: "the last"}, "bad_field"),
    "Follows below zero": (b"x", {**ID, subjects.FOLLOWS: "-1"}, "bad_field"),
    "Follows beyond 64 bits": (b"x", {**ID, subjects.FOLLOWS: "9" * 20}, "bad_field"),
    "Follows in other digits": (b"x", {**ID, subjects.FOLLOWS: "٣"}, "bad_field"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_is_no_task_fails_with_its_reason(
    observer: Observer, start_worker: StartWorker, case: str
) -> None:
    payload, headers, reason = BAD[case]
    worker = await start_worker()
    ack = await observer.submit(payload, headers)
    task_id = "case" if headers.get(subjects.ID) == "case" else await observer.derived_id(ack)
    ended = await observer.ended(task_id)

    assert (ended.state, ended.reason, ended.attempt) == (State.FAILED, reason, 0)
    assert ended.error is not None
    assert ended.error.message
    assert (ended.queue, ended.priority) == ("default", "normal")
    await observer.at_rest()
    letter = await observer.dead(task_id)
    assert letter is not None
    assert letter.data == payload
    assert letter.headers[subjects.REASON] == reason
    assert await observer.states(task_id) == [State.FAILED]
    # And the next one is as if nothing had been.
    await observer.submit("good", {subjects.ID: "good"})
    assert (await observer.ended("good")).text == "good"
    await observer.at_rest()
    assert set(observer.live) == {task_id, "good"}
    assert worker.actor.heartbeat().failed == 1


async def test_an_unknown_field_is_named_beside_those_allowed(
    observer: Observer, start_worker: StartWorker
) -> None:
    await start_worker()
    await observer.submit(b'{"prompt": "x", "max_token": 3}', ID)
    error = (await observer.ended("case")).error
    assert error is not None
    assert "max_token`" in error.message
    assert "max_tokens, params" in error.message


GOOD: dict[str, tuple[bytes, dict[str, str]]] = {
    "a line of a million characters": (b"x" * 1_000_000, ID),
    "as large as allowed": ("é".encode() * (limits.TASK_BYTES // 2), ID),
    "an array": (b"[1, 2, 3]", ID),
    "a number": (b"42", ID),
    "a JSON string": (b'"text"', ID),
    "a byte order mark": (b'\xef\xbb\xbf{"prompt": "x"}', ID),
    "JSON said to be text": (b'{"prompt"', {**ID, subjects.CONTENT_TYPE: "text/plain"}),
    "what a terminal would obey": (HOSTILE.encode(), ID),
    "labels that are none": (b"x", {**ID, subjects.LABELS: "team=x"}),
    "labels of the wrong type": (b"x", {**ID, subjects.LABELS: '{"a": 1}'}),
    "labels too deep": (b"x", {**ID, subjects.LABELS: "[" * 10_000}),
    "headers nobody knows": (b"x", {**ID, "X-Other": HOSTILE, "Agentflow-Later": "1"}),
}


@pytest.mark.parametrize("case", GOOD)
async def test_what_only_looks_strange_runs(
    observer: Observer, start_worker: StartWorker, case: str
) -> None:
    payload, headers = GOOD[case]
    await start_worker()
    await observer.submit(payload, headers)
    ended = await observer.ended("case")
    assert ended.state == State.SUCCEEDED
    assert ended.text == payload.decode()
    assert ended.labels == {}
    await observer.at_rest()


@pytest.mark.parametrize(
    "block",
    [
        b"NATS/1.0\r\nAgentflow-Id: case\r\nX: \xff\xfe\r\n\r\n",
        b"NATS/1.0\r\nAgentflow-Id: case\r\nno colon at all\r\n\r\n",
        b"NATS/1.0\r\nAgentflow-Id: case\r\nAgentflow-Id: second\r\n\r\n",
        b"NATS/1.0\r\nAgentflow-Id:case\r\n: no name\r\nX:\r\n\r\n",
    ],
)
async def test_headers_that_are_not_quite_headers(
    observer: Observer, start_worker: StartWorker, block: bytes
) -> None:
    await start_worker()
    await observer.submit("x", block=block)
    assert (await observer.ended("case")).state == State.SUCCEEDED
    await observer.at_rest()


@pytest.mark.parametrize("name", [subjects.KIND, subjects.MODEL])
async def test_a_header_does_not_blow_up_the_record(
    observer: Observer, start_worker: StartWorker, name: str
) -> None:
    await start_worker()
    await observer.submit("x", {**ID, name: "y" * 60_000})
    ended = await observer.ended("case")
    assert (ended.state, ended.reason) == (State.FAILED, "bad_field")
    for entry in await observer.log("case"):
        assert entry.record is not None
        assert len(entry.record.kind) <= 64
        assert len(entry.record.model or "") <= 200


async def test_all_of_it_at_once(observer: Observer, start_worker: StartWorker) -> None:
    small = [(case, BAD[case]) for case in BAD if len(BAD[case][0]) < 10_000]
    ids = []
    for number in range(3):
        for place, (_, (payload, headers, _)) in enumerate(small):
            if headers.get(subjects.ID) != "case":
                continue
            ids.append(f"case-{number}-{place}")
            await observer.submit(payload, {**headers, subjects.ID: ids[-1]})
            ids.append(f"good-{number}-{place}")
            await observer.submit("x", {subjects.ID: ids[-1]})
    workers = [await start_worker(slots=5) for _ in range(2)]
    await observer.all_ended(ids)
    await observer.at_rest()
    for task_id in ids:
        wanted = State.FAILED if task_id.startswith("case") else State.SUCCEEDED
        assert (await observer.ended(task_id)).state == wanted
    assert sum(worker.actor.heartbeat().failed for worker in workers) == len(ids) // 2
