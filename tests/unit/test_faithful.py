"""What JSON would change on the way is refused where it is given."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentflow.client.tasks.submission import fields_of, prepare
from agentflow.errors import InvalidTask, UsageError
from agentflow.protocol.faithful import flaw
from agentflow.protocol.task import TaskBody


@pytest.mark.parametrize(
    "value",
    [None, True, 0, 1.5, "text", [1, (2, {3})], {"a": {1: 2, "b": []}}, Path("a"), Decimal("NaN")],
    ids=repr,
)
def test_what_json_has_is_kept(value: Any) -> None:
    assert flaw(value, "it") is None


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"prompt": b"Write a haiku"}, "the task's prompt is bytes, not text; decode it"),
        ({"prompt": "x", "timeout": float("nan")}, "timeout is NaN, which JSON cannot hold"),
        ({"prompt": "x", "timeout": float("inf")}, "timeout is infinite"),
        ({"prompt": "x", "params": {"x": [float("nan")]}}, r"params.x\[0\] is NaN"),
        ({"prompt": "x", "params": {1: "a", "1": "b"}}, "params has the keys 1 and '1'"),
        ({"prompt": "x", "params": {"messages": [{"data": memoryview(b"")}]}}, "is memoryview"),
        ({"prompt": "x", "labels": {1: "a", "1": "b"}}, "labels has the keys"),
        ({"prompt": "x", "system": b"y"}, "system is bytes"),
        ({"prompt": "x", "model": bytearray()}, "model is bytearray"),
        ({"prompt": "x", "not_before": ""}, "Invalid RFC3339"),
        ({"prompt": "x", "deadline": datetime(2030, 1, 1)}, "deadline"),  # noqa: DTZ001
        (TaskBody(prompt="x", params={"x": float("nan")}), "params.x is NaN"),
        (TaskBody(prompt="x", timeout=float("inf")), "timeout is infinite"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_task_that_would_be_changed_is_refused(fields: Any, sentence: str) -> None:
    with pytest.raises(InvalidTask, match=sentence) as caught:
        prepare(fields, task_id="t")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task_id", ["", b"t", 5, "a b"])
def test_an_id_is_a_word(task_id: Any) -> None:
    with pytest.raises(InvalidTask, match="is not allowed: 1 to 64 of"):
        prepare({"prompt": "x"}, task_id=task_id)


@pytest.mark.parametrize("queue", ["", b"q", None])
def test_a_queue_is_a_word(queue: Any) -> None:
    with pytest.raises(UsageError, match="is not allowed: 1 to 24 of"):
        prepare({"prompt": "x"}, task_id="t", queue=queue)


def test_what_is_kept_arrives_as_it_was() -> None:
    when = datetime(2030, 1, 1, tzinfo=UTC)
    sent = prepare({"prompt": "x", "params": {"a": (1, 2.5), "when": when}}, task_id="t")
    read = msgspec.json.decode(sent.payload)
    assert read["params"] == {"a": [1, 2.5], "when": "2030-01-01T00:00:00Z"}


@pytest.mark.parametrize("item", [5, b"prompt", None, ["a"]])
def test_an_item_that_is_no_task_is_told(item: Any) -> None:
    with pytest.raises(InvalidTask, match="not a task; give a prompt as text, or a dict"):
        fields_of(item)
