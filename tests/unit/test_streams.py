"""Definitions of streams and consumers, and what counts as a difference from them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from agentflow.protocol import limits, streams, subjects
from agentflow.protocol.streams import Json, consumers, corrected, differences
from agentflow.protocol.subjects import Priority

S = 1_000_000_000
BY_NAME = {definition["name"]: definition for definition in streams.streams()}

# What a server adds of its own when it answers.
ADDED = {
    "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msg_size": -1,
    "max_msgs_per_subject": -1, "compression": "none", "sealed": False, "deny_purge": False,
    "allow_rollup_hdrs": False, "consumer_limits": {}, "metadata": {"_nats.ver": "2.15.1"},
}  # fmt: skip


def answered(definition: Json, **changed: Any) -> Json:
    """A definition as a server gives it back."""
    return deepcopy({**ADDED, **definition, **changed})


def test_the_streams_of_the_design() -> None:
    assert set(BY_NAME) == {
        "AGENTFLOW_TASKS", "AGENTFLOW_RECORDS", "AGENTFLOW_SCHEDULE", "AGENTFLOW_DEAD",
        "AGENTFLOW_BATCH", "AGENTFLOW_COUNTERS", "KV_agentflow", "OBJ_agentflow",
    }  # fmt: skip


def test_a_source_is_defined_before_the_stream_that_reads_it() -> None:
    made: set[str] = set()
    for definition in streams.streams():
        assert {source["name"] for source in definition.get("sources", [])} <= made
        made.add(definition["name"])


@pytest.mark.parametrize("name", BY_NAME)
def test_a_definition_does_not_differ_from_itself(name: str) -> None:
    assert differences(BY_NAME[name], BY_NAME[name]) == []
    assert differences(BY_NAME[name], answered(BY_NAME[name])) == []
    assert corrected(BY_NAME[name], answered(BY_NAME[name])) == answered(BY_NAME[name])


@pytest.mark.parametrize("definition", consumers("q"), ids=lambda made: str(made["name"]))
def test_a_consumer_does_not_differ_from_itself(definition: Json) -> None:
    assert differences(definition, definition) == []
    assert differences(definition, {**definition, "backoff": None, "max_batch": 0}) == []


def test_order_is_no_difference() -> None:
    found = answered(BY_NAME[subjects.TASKS])
    found["subjects"].reverse()
    assert differences(BY_NAME[subjects.TASKS], found) == []

    normal = consumers("q")[1]
    assert len(normal["filter_subjects"]) == 2
    turned = {**normal, "filter_subjects": normal["filter_subjects"][::-1]}
    assert differences(normal, turned) == []


@pytest.mark.parametrize(
    ("name", "raised"),
    [
        (subjects.TASKS, {"max_msgs": 5_000_000}),
        (subjects.TASKS, {"max_msgs": -1}),
        (subjects.TASKS, {"max_bytes": 10**12}),
        (subjects.RECORDS, {"max_age": 30 * limits.DAY * S}),
        (subjects.RECORDS, {"max_age": 0}),
        (subjects.RECORDS, {"num_replicas": 3}),
        (subjects.DEAD, {"max_age": 365 * limits.DAY * S, "max_bytes": 10**9}),
    ],
)
def test_a_raised_limit_is_no_difference_and_is_kept(name: str, raised: Json) -> None:
    found = answered(BY_NAME[name], **raised)
    assert differences(BY_NAME[name], found) == []
    kept = {**raised, "num_replicas": 1}
    assert corrected(BY_NAME[name], found).items() >= kept.items()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        # Forbidden: evicting the log of a task that waits loses it.
        (subjects.RECORDS, {"max_msgs": 1_000_000}),
        (subjects.RECORDS, {"max_bytes": 10**9}),
        (subjects.RECORDS, {"max_msg_size": 1024}),
        # Forbidden: tasks would go, or one too large would block all that are due.
        (subjects.TASKS, {"max_age": limits.DAY * S}),
        (subjects.TASKS, {"max_msg_size": 1024}),
        (subjects.TASKS, {"max_msgs_per_subject": 10}),
        (subjects.SCHEDULE, {"max_msgs": 1000}),
        (subjects.SCHEDULE, {"max_age": limits.DAY * S}),
        (subjects.KV_STREAM, {"max_age": limits.DAY * S}),
        (subjects.OBJECTS, {"max_age": limits.DAY * S}),
        (subjects.OBJECTS, {"max_msgs_per_subject": 1}),
        # Lowered: a parked log would go before its schedule fires.
        (subjects.RECORDS, {"max_age": limits.DAY * S}),
        (subjects.RECORDS, {"max_msgs_per_subject": 1}),
        (subjects.TASKS, {"subjects": ["agentflow.tasks.>"]}),
        (subjects.TASKS, {"retention": "limits"}),
        (subjects.TASKS, {"discard": "old"}),
        (subjects.TASKS, {"allow_direct": False}),
        (subjects.TASKS, {"duplicate_window": 120 * S}),
        (subjects.TASKS, {"sources": None}),
        (subjects.TASKS, {"sources": [{"name": subjects.SCHEDULE}]}),
        (subjects.TASKS, {"republish": None}),
        (subjects.RECORDS, {"republish": {"src": "agentflow.>", "dest": "elsewhere.>"}}),
        (subjects.RECORDS, {"storage": "memory"}),
        (subjects.SCHEDULE, {"allow_msg_schedules": False}),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_difference_is_told_and_put_right(name: str, changed: Json) -> None:
    found = answered(BY_NAME[name], **changed)

    notes = differences(BY_NAME[name], found)

    assert len(notes) == 1
    assert notes[0].startswith(next(iter(changed)))
    assert differences(BY_NAME[name], corrected(BY_NAME[name], found)) == []


def test_a_setting_that_a_server_leaves_out_is_a_difference() -> None:
    found = answered(BY_NAME[subjects.SCHEDULE])
    del found["allow_msg_schedules"]
    assert differences(BY_NAME[subjects.SCHEDULE], found) == [
        "allow_msg_schedules is None, should be True"
    ]


def test_what_a_server_adds_inside_a_setting_is_no_difference() -> None:
    found = answered(BY_NAME[subjects.RECORDS])
    found["republish"]["headers_only"] = False
    assert differences(BY_NAME[subjects.RECORDS], found) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"ack_wait": S},
        {"ack_policy": "none"},
        {"max_deliver": 5},
        {"backoff": [S]},
        {"inactive_threshold": S},
        {"filter_subjects": ["agentflow.tasks.q"]},
    ],
    ids=str,
)
def test_a_consumer_that_differs(changed: Json) -> None:
    normal = consumers("q")[1]
    notes = differences(normal, {**normal, **changed})
    assert len(notes) == 1
    assert notes[0].startswith(next(iter(changed)))


def test_a_consumer_of_more_pending_is_no_difference() -> None:
    high = consumers("q")[0]
    assert differences(high, {**high, "max_ack_pending": 50_000}) == []


def test_consumers_of_a_queue() -> None:
    high, normal, low = consumers("q", lease=2.5)
    assert [made["durable_name"] for made in (high, normal, low)] == ["q-high", "q-normal", "q-low"]
    assert high["filter_subject"] == "agentflow.tasks.q.high"
    assert normal["filter_subjects"] == ["agentflow.tasks.q", "agentflow.tasks.q.normal"]
    assert high["ack_wait"] == 2_500_000_000
    assert high["max_deliver"] == -1
    assert not {"backoff", "inactive_threshold"} & high.keys()
    assert list(Priority) == ["high", "normal", "low"]


def test_retention_and_replicas_are_given() -> None:
    made = {one["name"]: one for one in streams.streams(retention=3600, replicas=3)}
    assert made[subjects.RECORDS]["max_age"] == 3600 * S
    assert {one["num_replicas"] for one in made.values()} == {3}
    assert "max_age" not in made[subjects.TASKS]
    assert not {"max_msgs", "max_bytes"} & made[subjects.RECORDS].keys()
