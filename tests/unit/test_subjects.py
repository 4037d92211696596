"""Names on the bus: made, taken apart, and refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.errors import InvalidTask, UsageError
from agentflow.protocol import limits, streams, subjects
from agentflow.protocol.subjects import Priority

ids = st.from_regex(limits.ID_PATTERN, fullmatch=True)
queues = st.from_regex(limits.QUEUE_PATTERN, fullmatch=True)
priorities = st.sampled_from(Priority)


@given(queues, priorities)
def test_a_task_subject_tells_queue_and_priority(queue: str, priority: Priority) -> None:
    assert subjects.parse_task(subjects.task(queue, priority)) == (queue, priority)
    assert subjects.parse_task(f"agentflow.tasks.{queue}.{priority}") == (queue, priority)


lanes = st.from_regex(limits.LANE_PATTERN, fullmatch=True).filter(subjects.is_lane)


@given(queues, priorities, lanes)
def test_a_lane_is_a_further_token_that_stays(queue: str, priority: Priority, lane: str) -> None:
    subject = subjects.task(queue, priority, lane)
    assert subjects.parse_task(subject) == (queue, priority)
    assert subjects.lane_of(subject) == lane
    assert subjects.queue_of(subject) == queue
    moved = subjects.due(queue, priority, lane).replace("agentflow.due", "agentflow.tasks", 1)
    assert moved == subject
    assert subject in subjects.lane_subjects(queue, lane)
    assert subjects.lane_of(subjects.task(queue, priority)) == ""


@given(queues, priorities, lanes, queues, priorities, st.one_of(st.just(""), lanes))
def test_no_two_consumers_have_a_name_or_a_subject_in_common(
    queue: str, priority: Priority, lane: str, other: str, level: Priority, beside: str
) -> None:
    if (queue, priority, lane) == (other, level, beside):
        return
    assert subjects.consumer(queue, priority, lane) != subjects.consumer(other, level, beside)
    mine = subjects.consumer_filters(queue, priority, lane)
    theirs = subjects.consumer_filters(other, level, beside)
    assert not set(mine) & set(theirs)
    assert not any("*" in subject or ">" in subject for subject in (*mine, *theirs))


def test_the_default_lane_has_no_token() -> None:
    assert subjects.check_lane("default") == subjects.check_lane("") == ""
    with pytest.raises(UsageError):
        subjects.check_lane("x" * 33)


def test_the_bare_subject_is_normal() -> None:
    assert subjects.task("q") == "agentflow.tasks.q"
    assert subjects.parse_task("agentflow.tasks.q") == ("q", Priority.NORMAL)


@pytest.mark.parametrize(
    "subject",
    [
        "", "agentflow", "agentflow.tasks", "agentflow.tasks.q.urgent", "agentflow.tasks.q.High",
        "agentflow.tasks.q.high.lane.more", "agentflow.tasks.q.urgent.lane",
        "agentflow.tasks.q.high.default", "agentflow.tasks.q.high.", "agentflow.tasks.q.high.a b",
        "agentflow.due.q.high", "tasks.q", "other.tasks.q",
    ],
)  # fmt: skip
def test_what_is_no_task_subject(subject: str) -> None:
    with pytest.raises(InvalidTask) as raised:
        subjects.parse_task(subject)
    assert raised.value.reason == "bad_subject"


@pytest.mark.parametrize("text", ["a", "A-z_0", "x" * 64, "-", "_"])
def test_an_id(text: str) -> None:
    assert subjects.is_id(text)
    assert subjects.check_id(text) == text


@pytest.mark.parametrize(
    "text", ["", "x" * 65, "a.b", "a b", "a\n", "\na", "a*", "a>", "é", "٣", "a/b"]
)
def test_no_id(text: str) -> None:
    assert not subjects.is_id(text)
    with pytest.raises(InvalidTask) as raised:
        subjects.check_id(text)
    assert raised.value.reason == "bad_id"


@pytest.mark.parametrize("text", ["q", "a-0", "x" * 24])
def test_a_queue(text: str) -> None:
    assert subjects.check_queue(text) == text


@pytest.mark.parametrize("text", ["", "x" * 25, "A", "a_b", "a.b", "a b", "q\n", "*", ">", "é"])
def test_no_queue(text: str) -> None:
    with pytest.raises(UsageError, match="not allowed"):
        subjects.check_queue(text)


@pytest.mark.parametrize("task_id", ["t", "p.17", "p.17.3", "live", "live.x", "progress"])
@pytest.mark.parametrize("make", [subjects.progress, subjects.result])
def test_the_id_is_everything_after_the_second_token(make: object, task_id: str) -> None:
    assert callable(make)
    subject = make(task_id)
    assert subjects.record_id(subject) == task_id
    assert subjects.record_id(subject.replace("agentflow.", "agentflow.live.", 1)) == task_id


def covers(pattern: str, subject: str) -> bool:
    """Whether a subject with wildcards covers another, as the server has it."""
    wanted, found = pattern.split("."), subject.split(".")
    for i, token in enumerate(wanted):
        if token == ">":
            return len(found) > i
        if i >= len(found) or token not in ("*", found[i]):
            return False
    return len(wanted) == len(found)


@given(ids, ids)
def test_the_log_is_both_subjects_of_the_task_and_no_others(task_id: str, other: str) -> None:
    log = subjects.log(task_id)
    assert log == f"agentflow.*.{task_id}"
    assert covers(log, subjects.progress(task_id))
    assert covers(log, subjects.result(task_id))
    assert other == task_id or not covers(log, subjects.progress(other))
    assert not covers(log, subjects.progress(f"{task_id}.1"))


@given(queues, ids, priorities)
def test_each_stored_subject_is_of_exactly_one_stream(
    queue: str, task_id: str, priority: Priority
) -> None:
    expected = {
        subjects.task(queue, priority): subjects.TASKS,
        f"agentflow.tasks.{queue}.{priority}": subjects.TASKS,
        subjects.progress(task_id): subjects.RECORDS,
        subjects.result(task_id): subjects.RECORDS,
        subjects.schedule(task_id, 7): subjects.SCHEDULE,
        subjects.due(queue, priority): subjects.SCHEDULE,
        subjects.dead(queue, task_id): subjects.DEAD,
        "agentflow.counters.pool.opus.input": subjects.COUNTERS,
        subjects.kv("lease.master"): subjects.KV_STREAM,
    }
    for subject, stream in expected.items():
        assert [
            definition["name"]
            for definition in streams.streams()
            if any(covers(pattern, subject) for pattern in definition["subjects"])
        ] == [stream]


@given(queues, ids)
def test_what_is_not_stored_is_of_no_stream(queue: str, task_id: str) -> None:
    for subject in (
        subjects.tokens(task_id),
        subjects.presence("worker", task_id),
        subjects.control("worker", task_id),
        subjects.control("worker"),
        subjects.api("run"),
        f"agentflow.live.tasks.{queue}",
        f"agentflow.tasks.{queue}.urgent",
        f"agentflow.tasks.{queue}.high.lane",
    ):
        assert not any(
            covers(pattern, subject)
            for definition in streams.streams()
            for pattern in definition["subjects"]
        )


def test_a_due_task_is_one_of_its_queue() -> None:
    transform = streams.streams()[1]["sources"][0]["subject_transforms"][0]
    assert transform == {"src": "agentflow.due.>", "dest": "agentflow.tasks.>"}
    moved = subjects.due("q", Priority.LOW).replace("agentflow.due", "agentflow.tasks", 1)
    assert subjects.parse_task(moved) == ("q", Priority.LOW)


def test_names() -> None:
    assert subjects.schedule("t", 7) == "agentflow.schedule.t.7"
    assert subjects.dead("q", "t") == "agentflow.dead.q.t"
    assert subjects.tokens("t") == "agentflow.tokens.t"
    assert subjects.control("worker", "w1") == "agentflow.control.worker.w1"
    assert subjects.control("worker") == "agentflow.control.worker"
    assert subjects.presence("worker", "w1") == "agentflow.presence.worker.w1"
    assert subjects.api("run") == "agentflow.api.run"
    assert subjects.kv("pause.q") == "$KV.agentflow.pause.q"
    assert subjects.consumer("q", Priority.HIGH) == "q-high"


@given(queues, priorities)
def test_a_queues_consumers_cover_each_of_its_subjects_once(queue: str, priority: Priority) -> None:
    for subject in (f"agentflow.tasks.{queue}", f"agentflow.tasks.{queue}.{priority}"):
        assert (
            sum(
                covers(pattern, subject)
                for each in Priority
                for pattern in subjects.consumer_filters(queue, each)
            )
            == 1
        )
