"""Errors of one cause have one fingerprint, and others another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.protocol.record import Failure
from agentflow.views.failures import fingerprint, normalise

IDS = st.from_regex(r"req_[0-9]{4}[A-Za-z0-9]{16}|[0-9a-f]{16}|[0-9]{1,9}", fullmatch=True)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "no result within the task's timeout of 600 s",
            "no result within the task's timeout of <n> s",
        ),
        ("task 0a1b2c3d4e5f6a7b: gone", "task <id>: gone"),
        ("request req_011CSHoEeqs5C35K2UUqR7Fy failed", "request <id> failed"),
        ("key 'user 17' and \"x\" and `y`", "key <text> and <text> and <text>"),
        ("don't: it's 5", "don't: it's <n>"),
        ("at 2026-01-02T03:04:05 of 10.0.0.1:4222", "at <id> of <n>"),
        ("see https://example.com/a?b=1 now", "see <url> now"),
        ("  two\n  lines ", "two lines"),
        ("cut in 'the middle of", "cut in 'the middle of"),
        ('cut in "the middle of', "cut in <text>"),
        ("", ""),
    ],
)
def test_what_differs_is_left_out(message: str, expected: str) -> None:
    assert normalise(message) == expected


@given(IDS, IDS, st.text(max_size=60), st.text(max_size=60))
def test_two_tasks_of_one_cause_are_one_group(one: str, two: str, first: str, second: str) -> None:
    def of(number: str, quoted: str) -> str:
        text = quoted.replace("`", "").replace("\n", "")
        return fingerprint(
            "x", Failure(type="E", message=f"item {len(number)} `{text}` is bad")
        ).key

    assert of(one, first) == of(two, second)


@given(st.text(max_size=400))
def test_any_text_has_one(message: str) -> None:
    once = normalise(message)
    assert len(fingerprint("r", Failure(type="t", message=message)).key) == 8
    assert "\n" not in once


@given(st.sampled_from(["reason", "type", "status", "code", "message"]))
def test_each_part_counts(part: str) -> None:
    values = {"type": "t", "status": 500, "code": "c", "message": "it broke"}
    other = dict(values)
    reason = "r2" if part == "reason" else "r"
    if part != "reason":
        other[part] = 501 if part == "status" else "another"
    one = fingerprint("r", Failure(**values))  # type: ignore[arg-type]
    two = fingerprint(reason, Failure(**other))  # type: ignore[arg-type]
    assert one.key != two.key
    assert one == fingerprint("r", Failure(**values))  # type: ignore[arg-type]
    assert fingerprint("worker_lost", None).type == "worker_lost"
