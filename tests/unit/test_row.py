"""Records and task messages become rows; the order of arrival does not matter."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agentflow.master.index import Index
from agentflow.protocol import record, subjects
from agentflow.protocol.record import EMPTY, Failure, Last, State, Usage
from agentflow.rules import records as entries
from agentflow.rules.records import Origin, Spent
from agentflow.views.row import (
    Row,
    decode_labels,
    encode_labels,
    from_record,
    from_task,
    instant,
    label_text,
    needs_payload,
    supersedes,
)

NOW = datetime(2026, 11, 24, 12, 0, 0, 250_000, tzinfo=UTC)
MS = round(NOW.timestamp() * 1000)


def origin(task_id: str = "t1") -> Origin:
    return Origin(
        id=task_id,
        queue="mail",
        priority="high",
        message="7-1795520000000000001",
        submitted=NOW - timedelta(seconds=3),
        kind="claude",
        labels={"team": "x"},
        model="m-1",
    )


def running(task_id: str = "t1") -> record.Record:
    return entries.claimed(origin(task_id), EMPTY, actor="w-1", now=NOW)


def succeeded(task_id: str = "t1", **content: Any) -> record.Record:
    return entries.follow(
        origin(task_id),
        Last(10, running(task_id)),
        State.SUCCEEDED,
        actor="w-1",
        now=NOW,
        ended=NOW + timedelta(seconds=1),
        spent=Spent(usage=Usage(1, 2, 3, 4), cost_micro=1_234, simulated=True),
        stop_reason="end_turn",
        **content,
    )


def row(entry: record.Record, sequence: int) -> Row:
    return from_record(entry.subject, sequence, MS, record.encode(entry))


def test_a_record_makes_a_row() -> None:
    found = row(succeeded(text="long " * 1000), 11)

    assert (found.id, found.sequence, found.state, found.queue) == ("t1", 11, "succeeded", "mail")
    assert (found.priority, found.kind, found.model) == ("high", "claude", "m-1")
    assert (found.attempt, found.failures, found.actor) == (1, 0, "w-1")
    assert decode_labels(found.labels) == {"team": "x"}
    assert (found.usage, found.cost, found.simulated) == (Usage(1, 2, 3, 4), 1_234, True)
    assert instant(found.submitted) == NOW - timedelta(seconds=3)
    assert instant(found.started) == NOW
    assert instant(found.ended) == NOW + timedelta(seconds=1)
    assert (found.updated, found.stop_reason, found.finished) == (MS, "end_turn", True)


def test_a_live_copy_and_the_stored_message_make_the_same_row() -> None:
    entry = running()
    live = from_record(f"agentflow.live.progress.{entry.id}", 3, MS, record.encode(entry))
    assert live == row(entry, 3)


def test_a_parked_task_says_when_it_goes_on() -> None:
    entry = entries.parked(
        origin(),
        Last(3, running()),
        State.RETRYING,
        actor="w-1",
        now=NOW,
        resume_at=NOW + timedelta(minutes=1),
        reason="overloaded",
        error=Failure(type="overloaded_error", message="later"),
    )
    found = row(entry, 4)
    assert instant(found.resume_at) == NOW + timedelta(minutes=1)
    assert found.reason == "overloaded"
    assert not found.finished


def test_an_unknown_price_is_not_nothing() -> None:
    entry = entries.follow(
        origin(),
        Last(3, running()),
        State.SUCCEEDED,
        actor="w",
        now=NOW,
        spent=Spent(cost_micro=None),
    )
    assert row(entry, 4).cost is None


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (b'{"v": 9, "state": "dreaming"}', "dreaming"),
        (b"not json", "unreadable"),
        (b"\xff\xfe", "unreadable"),
        (b"", "unreadable"),
        (b"[" * 100_000, "unreadable"),
    ],
)
def test_a_record_that_cannot_be_read_shows_its_state_only(data: bytes, state: str) -> None:
    found = from_record("agentflow.progress.t9", 5, MS, data)
    assert (found.id, found.state, found.sequence, found.finished) == ("t9", state, 5, False)


def test_a_later_version_is_shown_as_far_as_it_is_understood() -> None:
    fields = msgspec.json.decode(record.encode(running())) | {"v": 2, "state": "waiting", "new": 1}
    found = from_record("agentflow.progress.t1", 5, MS, msgspec.json.encode(fields))
    assert (found.state, found.queue, found.finished) == ("waiting", "mail", False)


# Task messages.

STORED = 1_795_520_000_123_456_789


@pytest.mark.parametrize(
    ("headers", "payload", "task_id"),
    [
        ({"Agentflow-Id": "a"}, b'{"id": "b"}', "a"),
        ({"Nats-Msg-Id": "c"}, b'{"id": "b", "prompt": "x"}', "b"),
        ({"Nats-Msg-Id": "c"}, b"plain", "c"),
        ({"Nats-Msg-Id": "not usable!"}, b"plain", "mail-7-mwuo1mt7"),
        ({}, b'{"broken', "mail-7-mwuo1mt7"),
        ({"Agentflow-Id": "bad id"}, b"plain", "mail-7-mwuo1mt7"),
    ],
)
def test_a_task_message_makes_a_queued_row(
    headers: dict[str, str], payload: bytes, task_id: str
) -> None:
    derived = from_task("agentflow.tasks.mail", 7, STORED, {}, b"plain")
    assert derived is not None
    found = from_task("agentflow.tasks.mail.low", 7, STORED, headers, payload)
    assert found is not None
    # The derived id is what the worker derives; protocol/task.py has the rule.
    assert found.id == (derived.id if task_id.startswith("mail-7-") else task_id)
    assert (found.state, found.queue, found.priority) == ("queued", "mail", "low")
    assert (found.sequence, found.message) == (0, f"7-{STORED}")
    assert found.updated == STORED // 1_000_000


def test_kind_model_and_labels_come_from_the_payload_else_from_the_headers() -> None:
    headers = {"Agentflow-Kind": "sleep", "Agentflow-Model": "m", "Agentflow-Labels": '{"a":"b"}'}
    by_headers = from_task("agentflow.tasks.q", 1, STORED, headers, None)
    payload = b'{"prompt":"x","kind":"echo","model":"n","labels":{"c":"d"}}'
    by_payload = from_task("agentflow.tasks.q", 1, STORED, headers, payload)
    plain = from_task("agentflow.tasks.q", 1, STORED, {}, b"x")

    assert by_headers is not None
    assert by_payload is not None
    assert plain is not None
    assert (by_headers.kind, by_headers.model) == ("sleep", "m")
    assert decode_labels(by_headers.labels) == {"a": "b"}
    assert (by_payload.kind, by_payload.model) == ("echo", "n")
    assert decode_labels(by_payload.labels) == {"c": "d"}
    assert (plain.kind, plain.model, decode_labels(plain.labels)) == ("claude", None, {})


def test_a_continuation_makes_no_row() -> None:
    headers = {"Agentflow-Id": "a", "Agentflow-Follows": "12"}
    assert from_task("agentflow.tasks.q", 1, STORED, headers, b"x") is None


@pytest.mark.parametrize(
    ("headers", "needed"),
    [
        ({}, True),
        ({"Nats-Msg-Id": "c"}, True),  # a payload's id comes before it
        ({"Agentflow-Id": "a"}, False),
        ({"Content-Type": "text/plain"}, False),
        ({"Agentflow-Follows": "3"}, False),
    ],
)
def test_whose_payload_is_needed(headers: dict[str, str], needed: bool) -> None:
    assert needs_payload(headers) is needed


# Order.


def test_the_higher_sequence_counts() -> None:
    later, queued = row(succeeded(), 11), from_task("agentflow.tasks.q", 1, STORED, {}, b"x")
    assert queued is not None
    assert supersedes(later, None)
    assert supersedes(later, 0)
    assert supersedes(later, 10)
    assert not supersedes(later, 11)
    assert not supersedes(later, 12)
    assert supersedes(queued, None)
    assert not supersedes(queued, 0)
    assert not supersedes(queued, 10)


def test_every_order_of_arrival_ends_in_the_same_index() -> None:
    first = from_task("agentflow.tasks.mail.high", 7, STORED, {subjects.ID: "t1"}, None)
    assert first is not None
    arrivals = [first, row(running(), 10), row(succeeded(), 11), row(running(), 10)]
    ends = set()
    for order in itertools.permutations(arrivals):
        index = Index()
        for arrival in order:
            index.put([arrival])
        found = index.get("t1")
        counts = {state: count for state, count in index.counts().items() if count}
        ends.add((found.sequence if found else 0, tuple(counts.items()), index.totals.cost))
    assert ends == {(11, (("succeeded", 1),), 1_234)}


def test_a_label_is_found_by_its_text_and_nothing_else_is() -> None:
    wanted = label_text("team", "x")
    assert wanted in encode_labels({"a": "b", "team": "x"})
    for other in (
        {"team": "xy"},
        {"steam": "x"},
        {"a": '"team":"x"'},
        {'"team': "x"},
        {',"team': "x"},
        {"a": ',"team":"x'},
        {"team": 'x",'},
        {"team": "X"},
        {},
    ):
        assert decode_labels(encode_labels(other)) == other
        assert wanted not in encode_labels(other)
    assert label_text("ä", 'q"\\') in encode_labels({"ä": 'q"\\'})
