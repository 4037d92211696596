"""Answers that are a success and yet none."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.errors import UsageError
from agentflow.rules.answers import flaw_of, named
from agentflow.views.result import Result


def answer(**fields: Any) -> Result:
    return Result(**{"id": "t", "state": "succeeded", "kind": "claude", "text": "yes", **fields})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stop_reason": "end_turn"}, None),
        ({"stop_reason": "max_tokens"}, "cut"),
        ({"stop_reason": "model_context_window_exceeded"}, "cut"),
        ({"truncated": True}, "cut"),
        ({"stop_reason": "refusal", "text": ""}, "refused"),
        ({"stop_reason": "pause_turn"}, "paused"),
        ({"stop_reason": "max_tokens", "text": ""}, "cut"),
        ({"text": " \n"}, "empty"),
        ({"text": None}, "empty"),
        ({"text": None, "content": [{"type": "tool_use"}]}, None),
        ({"text": None, "value": 0}, None),
        ({"text": None, "kind": "mine"}, None),
        ({"state": "failed", "stop_reason": "max_tokens"}, None),
        ({"state": "failed", "reason": "schema", "text": "{"}, "schema"),
        ({"state": "failed", "reason": "timeout"}, None),
        ({"reason": "schema"}, None),
    ],
)
def test_each_kind(fields: dict[str, Any], expected: str | None) -> None:
    assert flaw_of(answer(**fields)) == expected


def test_kinds_are_named_in_a_list() -> None:
    assert named("cut, empty") == {"cut", "empty"}
    for wrong in ("cutt", "cut,odd", "", ","):
        with pytest.raises(UsageError, match="is no kind of answer; there are refused, cut"):
            named(wrong)
