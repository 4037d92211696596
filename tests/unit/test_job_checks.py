"""What a worker or the SDK would refuse is told for all lines before anything is spent."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from agentflow.errors import InvalidInput, UsageError
from agentflow.job import served
from agentflow.job.defaults import Defaults
from agentflow.job.source import Reading, Source

SAY = [{"role": "user", "content": "b"}]


def load(*tasks: dict[str, Any], **how: Any) -> Source:
    data = "".join(json.dumps(task) + "\n" for task in tasks)
    return Source("-", io.BytesIO(data.encode()), Reading(format="jsonl", **how))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"prompt": "a", "params": {"stream": True}}, "params.stream cannot be set"),
        ({"prompt": "a", "params": {"timeout": 5}}, "params.timeout cannot be set"),
        ({"params": {"temperature": 0}}, "needs a prompt or params.messages"),
        ({"params": {"messages": []}}, r"length >= 1 - at `\$.params.messages`"),
        ({"params": {"messages": "b"}}, r"Expected `array.*\$.params.messages`"),
        ({"params": {"messages": [{"role": "user"}]}}, "missing required field `content`"),
        ({"params": {"messages": [{"role": "usr", "content": "b"}]}}, "Invalid enum value 'usr'"),
        ({"params": {"messages": [{"role": "user", "content": 5}]}}, r"messages\[0\].content`"),
        ({"params": {"messages": [{"role": "user", "content": [{}]}]}}, "required field `type`"),
        ({"prompt": "a", "params": {"messages": SAY}}, "both prompt and params.messages"),
        ({"prompt": "a", "messages": SAY}, "both prompt and params.messages"),
        ({"prompt": "a", "model": "m", "params": {"model": "n"}}, "both model and params.model"),
        ({"prompt": "a", "system": "m", "params": {"system": "n"}}, "both system and params"),
        ({"prompt": "a", "max_tokens": 3, "params": {"max_tokens": 4}}, "both max_tokens and"),
        ({"prompt": "a", "params": {"model": 5}}, r"Expected `str.*\$.params.model`"),
        ({"prompt": "a", "params": {"model": ""}}, r"\$.params.model`"),
        ({"prompt": "a", "params": {"max_tokens": "9"}}, r"\$.params.max_tokens`"),
        ({"prompt": "a", "params": {"temperature": "hot"}}, r"\$.params.temperature`"),
        ({"prompt": "a", "params": {"temperature": 1.5}}, r"<= 1.*\$.params.temperature`"),
        ({"prompt": "a", "params": {"top_k": -1}}, r"\$.params.top_k`"),
        ({"prompt": "a", "params": {"stop_sequences": "x"}}, r"\$.params.stop_sequences`"),
        ({"prompt": "a", "params": {"tools": {"name": "x"}}}, r"\$.params.tools`"),
        ({"prompt": "a", "params": {"metadata": 1}}, r"\$.params.metadata`"),
        ({"prompt": "a", "params": {"extra_headers": "x"}}, r"\$.params.extra_headers`"),
        ({"prompt": "a", "params": {"extra_headers": {"x": 1}}}, r"\$.params.extra_headers"),
        ({"prompt": "a", "params": {"extra_headers": {"x y": "1"}}}, "no header of HTTP"),
        ({"prompt": "a", "params": {"extra_headers": {"x": "a\nb"}}}, "no header of HTTP"),
        ({"prompt": "a", "params": {"betas": 5}}, "params.betas is not a list"),
        ({"prompt": "a", "params": {"extra_body": {"model": "x"}}}, "belongs into params"),
        ({"kind": "claude-cli", "params": {"max_turns": 1}}, "kind claude-cli needs a prompt"),
        ({"kind": "claude-cli", "prompt": "a", "params": {"x": 1}}, "has no params.x"),
        ({"prompt": "a", "kind": "no kind"}, r"\$.kind`"),
        ({"prompt": "a", "timeout": -1}, r"\$.timeout`"),
    ],
)
def test_a_fault_is_found_at_the_start(bad: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=rf"(?s)line 3: .*{said}") as caught:
        load({"prompt": "good"}, {"prompt": "fine"}, bad, {"prompt": "well"})
    assert [number for number, _ in caught.value.problems] == [3]


def test_a_header_that_is_not_its_own_to_give_stops_no_other_line() -> None:
    load({"prompt": "good"}, {"prompt": "a", "params": {"extra_headers": {"X-Api-Key": "k"}}})


def test_all_faults_are_told_together() -> None:
    with pytest.raises(InvalidInput) as caught:
        load(
            {"prompt": "a", "params": {"stream": True}},
            {"prompt": "good"},
            {"params": {"temperature": 0}},
            {"prompt": "a", "promt": "b"},
        )
    assert [number for number, _ in caught.value.problems] == [1, 3, 4]


def test_what_is_right_passes() -> None:
    source = load(
        {"params": {"messages": SAY, "system": [{"type": "text", "text": "s"}], "new": {"x": 1}}},
        {"prompt": "a", "params": {"extra_headers": {"anthropic-beta": "x"}, "thinking": {}}},
        {"prompt": "a", "kind": "claude-cli", "params": {"max_turns": 3}},
        {"kind": "mine", "params": {"stream": "of mine", "messages": 7}},
    )
    assert source.kinds == {"claude": 1, "claude-cli": 3, "mine": 4}


def test_a_handler_of_ones_own_has_its_own_rules() -> None:
    assert len(load({"kind": "claude", "params": {"x": 1}}, own=frozenset({"claude"}))) == 1


def test_kinds_that_nobody_serves() -> None:
    with pytest.raises(UsageError, match="line 7: no worker of this job runs the kind 'cluade'"):
        served.check({"claude": 1, "cluade": 7}, served.kinds_of([]))
    with pytest.raises(UsageError, match="name it with --kinds claude-cli"):
        served.check({"claude-cli": 1}, served.kinds_of([]))
    served.check({"claude-cli": 1}, served.kinds_of(["claude-cli"]))
    served.check({"mine": 1, "echo": 2}, served.kinds_of(["all"], ["mine"]))
    with pytest.raises(UsageError, match="'echo'"):
        served.check({"mine": 1, "echo": 2}, served.kinds_of([], ["mine"]))


def test_defaults_are_for_lines_that_name_none() -> None:
    defaults = Defaults(model="m", system="S", max_tokens=7, temperature=0.5, max_attempts=2)
    plain, own, other = load(
        {"prompt": "a"},
        {
            "prompt": "a",
            "system": "T",
            "max_attempts": 3,
            "params": {"model": "n", "max_tokens": 9, "temperature": 0},
        },
        {"kind": "mine", "params": {}},
        defaults=defaults,
    )
    assert (plain.body.model, plain.body.system, plain.body.max_tokens) == ("m", "S", 7)
    assert (plain.body.params, plain.body.max_attempts) == ({"temperature": 0.5}, 2)
    assert (own.body.model, own.body.system, own.body.max_tokens) == (None, "T", None)
    assert (own.body.params, own.body.max_attempts) == (
        {"model": "n", "max_tokens": 9, "temperature": 0},
        3,
    )
    assert (other.body.system, other.body.params, other.body.max_attempts) == (None, {}, 2)
