"""What a task asks: the same for the same request however it is written, another for another."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from agentflow.protocol import subjects, task
from agentflow.protocol.asked import FIELDS, NOTHING, asked, asked_by, differences
from agentflow.protocol.subjects import Priority

BASE: dict[str, Any] = {
    "prompt": "Grüße",
    "model": "claude-opus-5-5",
    "system": "Be brief.",
    "max_tokens": 100,
    "params": {"temperature": 0.5, "stop_sequences": ["x"]},
}


def of(fields: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    return asked_by(json.dumps(fields).encode(), headers or {})


def test_it_is_told_as_the_protocol_says() -> None:
    params = json.dumps(BASE["params"], separators=(",", ":"), sort_keys=True)
    assert of(BASE) == {
        "kind": "claude",
        "prompt": hashlib.sha256("Grüße".encode()).hexdigest()[:16],
        "model": "claude-opus-5-5",
        "system": hashlib.sha256(b"Be brief.").hexdigest()[:16],
        "max_tokens": 100,
        "params": hashlib.sha256(params.encode()).hexdigest()[:16],
    }


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "Gruss"},
        {"model": "claude-haiku-5-5"},
        {"system": "Be long."},
        {"max_tokens": 101},
        {"params": {"temperature": 0.6, "stop_sequences": ["x"]}},
        {"kind": "other"},
        {"model": None},
        {"system": None},
        {"max_tokens": None},
        {"params": None},
    ],
    ids=str,
)
def test_another_value_is_another_request_and_so_is_none(change: dict[str, Any]) -> None:
    other = {name: value for name, value in {**BASE, **change}.items() if value is not None}
    assert of(other) != of(BASE)
    (name,) = change
    assert name in differences(of(BASE), of(other))
    assert not any(field in differences(of(BASE), of(other)) for field in FIELDS if field != name)


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        (dict(reversed(BASE.items())), {}),
        ({**BASE, "params": {"stop_sequences": ["x"], "temperature": 0.5}}, {}),
        ({**BASE, "kind": "claude"}, {}),
        ({**BASE, "id": "x", "timeout": 5, "max_attempts": 2, "labels": {"a": "b"}}, {}),
        ({**BASE, "not_before": "2026-01-01T00:00:00Z", "start_within": 5}, {}),
        ({**BASE, "deadline": "2026-01-01T00:00:00Z"}, {}),
        ({k: v for k, v in BASE.items() if k != "model"}, {subjects.MODEL: "claude-opus-5-5"}),
        (BASE, {subjects.KIND: "claude", subjects.MODEL: "not-this"}),
    ],
    ids=["order", "order of params", "kind", "how", "when", "until", "header", "both"],
)
def test_the_same_request_is_the_same_however_it_is_written(
    fields: dict[str, Any], headers: dict[str, str]
) -> None:
    assert of(fields, headers) == of(BASE)


def test_text_and_json_ask_the_same() -> None:
    assert asked_by(b"say it", {subjects.KIND: "echo"}) == of({"kind": "echo", "prompt": "say it"})


def test_empty_parameters_are_none() -> None:
    assert of({"prompt": "x", "params": {}}) == of({"prompt": "x"})


def test_what_is_no_task_asks_nothing() -> None:
    assert asked_by(b"{nonsense", {}) == NOTHING
    assert asked_by(b"\xff", {}) == NOTHING


def test_a_task_asks_what_its_body_does() -> None:
    body = task.decode_body(json.dumps(BASE).encode())
    assert asked(task.build(body, {}, "q", Priority.NORMAL, "x")) == asked(body)
