"""A job's id, labels and key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agentflow.errors import UsageError
from agentflow.protocol import jobs, subjects
from agentflow.protocol.jobs import Job
from agentflow.views.jobs import row_of_job

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(**fields: object) -> Job:
    known = {
        "id": "a-1",
        "file": "a.jsonl",
        "results": "/a.results.jsonl",
        "queue": "a-1",
        "lines": 10,
        "defaults": "",
        "who": "me@here",
        "started": NOW,
        "seen": NOW,
    }
    return Job(**{**known, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["old", "Ünïcode täsks", "", "-", "a" * 300, "rows.v2 (1)"])
def test_an_id_is_readable_stable_and_a_queue(name: str) -> None:
    made = jobs.job_id(name, "one")
    assert made == jobs.job_id(name, "one") != jobs.job_id(name, "two")
    assert jobs.check_id(made) == subjects.check_queue(made) == made


def test_an_id_that_is_none_is_refused() -> None:
    for wrong in ("", "a.b", "a*", "A", "a" * 25):
        with pytest.raises(UsageError):
            jobs.check_id(wrong)


def test_labels_leave_those_of_the_task_alone() -> None:
    assert jobs.labels({"team": "x"}, "a-1", 7) == {"team": "x", "job": "a-1", "line": "7"}
    assert jobs.labels({"line": "mine"}, "a-1", 7) == {"line": "mine", "job": "a-1"}
    full = {f"l{at}": "" for at in range(15)}
    assert jobs.labels(full, "a-1", 7) == {**full, "job": "a-1"}


def test_a_key_reads_as_it_was_written_and_later_fields_are_ignored() -> None:
    known = job(done=3, cost_usd=None, waiting="for you")
    data = jobs.encode(known)
    assert jobs.decode(data) == known
    assert jobs.decode(data[:-1] + b',"later":{"x":1}}') == known
    assert jobs.decode(b"{") is jobs.decode(None) is None


def test_a_row_tells_who_drives_it() -> None:
    assert row_of_job(job(), NOW).state == "running"
    assert row_of_job(job(waiting="key refused"), NOW).state == "waiting"
    assert row_of_job(job(running=3), NOW + timedelta(minutes=2)).state == "lost"
    ended = job(ended=NOW, ending="gave_up", done=5)
    assert row_of_job(ended, NOW + timedelta(days=2)).state == "gave_up"
    assert row_of_job(ended, NOW).progress == 0.5
