"""What a worker or the SDK would refuse is told for all lines before anything is spent."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentflow.app import App
from agentflow.errors import InvalidInput, UsageError
from agentflow.job import served
from agentflow.job.defaults import Defaults
from agentflow.job.source import Reading, Source

SAY = [{"role": "user", "content": "b"}]
TEXT = {"type": "text", "text": "b"}
TOOL = {"name": "x", "input_schema": {"type": "object"}}


USE = {"type": "tool_use", "id": "u", "name": "x", "input": {}}
GOT = {"type": "tool_result", "tool_use_id": "u", "content": "b"}
STRINGLY = {"name": "x", "input_schema": {"type": "string"}}


def answer(content: Any) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": content}]


def asks_for(schema: dict[str, Any]) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def picture(data: str) -> dict[str, Any]:
    return {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": data},
    }


def said(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def thinks(budget: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": budget}


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
        ({"params": {"messages": None}}, "params.messages is null, not a list"),
        ({"params": {"messages": ["b"]}}, r"params.messages\[0\] is 'b', not an object"),
        ({"params": {"messages": [{"role": "user"}]}}, r"messages\[0\] has no content"),
        ({"params": {"messages": [{"content": "b"}]}}, r"messages\[0\] has no role"),
        ({"params": {"messages": answer("x")}}, "the first message is the user's"),
        ({"params": {"messages": [*SAY, *answer("x ")]}}, r"\[1\].content ends in white space"),
        ({"params": {"messages": [*SAY, *answer([USE]), *SAY]}}, "call 'u' without a result"),
        ({"params": {"messages": said([GOT])}}, "tool_use_id 'u' is no tool call before it"),
        ({"params": {"messages": said([picture("%%")])}}, r"\[0\].source.data is no base64"),
        ({"prompt": "a", "params": {"tools": [TOOL, TOOL]}}, "another tool is called so already"),
        ({"prompt": "a", "params": {"tools": [TOOL | {"name": "a b"}]}}, "name is 'a b', not"),
        ({"prompt": "a", "params": {"tools": [STRINGLY]}}, r"\[0\].input_schema.type is"),
        ({"prompt": "a", "params": asks_for({"type": "objct"})}, 'schema cannot be used: "objct"'),
        ({"prompt": "a", "model": " "}, "the model ' ' is no name"),
        ({"prompt": "a", "params": {"model": "claude haiku"}}, "the model 'claude haiku' is no"),
        ({"messages": SAY, "params": {"messages": SAY}}, "both messages and params.messages are"),
        ({"params": {"messages": [{"role": "usr", "content": "b"}]}}, "role is 'usr'.*mean user"),
        ({"params": {"messages": said(5)}}, r"messages\[0\].content is 5, not a text or a list"),
        ({"params": {"messages": said([{}])}}, r"content\[0\] has no type"),
        ({"params": {"messages": said([{"type": "txt"}])}}, "type is 'txt' .did you mean text"),
        ({"params": {"messages": said([{"type": "text"}])}}, r"content\[0\] has no text"),
        ({"params": {"messages": said([TEXT | {"cach": 1}])}}, r"content\[0\].cach is no field"),
        ({"params": {"messages": said("")}}, r"messages\[0\].content is empty"),
        ({"params": {"messages": said([])}}, r"messages\[0\].content is empty"),
        ({"params": {"messages": said(" ")}}, r"messages\[0\].content is empty"),
        ({"params": {"messages": said([TEXT, TEXT | {"text": ""}])}}, "or has an empty text"),
        ({"prompt": " ", "params": {"top_k": 1}}, "prompt is blank"),
        ({"prompt": 5}, r"\$.prompt`"),
        ({"prompt": ""}, "needs a prompt"),
        ({"prompt": "a", "params": {"messages": SAY}}, "both prompt and params.messages"),
        ({"prompt": "a", "messages": SAY}, "both prompt and params.messages"),
        ({"prompt": "a", "model": "m", "params": {"model": "n"}}, "both model and params.model"),
        ({"prompt": "a", "system": "m", "params": {"system": "n"}}, "both system and params"),
        ({"prompt": "a", "max_tokens": 3, "params": {"max_tokens": 4}}, "both max_tokens and"),
        ({"prompt": "a", "params": {"model": 5}}, r"Expected `str.*\$.params.model"),
        ({"prompt": "a", "params": {"model": ""}}, r"\$.params.model`"),
        ({"prompt": "a", "params": {"max_tokens": "9"}}, r"\$.params.max_tokens`"),
        ({"prompt": "a", "params": {"max_tokens": True}}, r"\$.params.max_tokens`"),
        ({"prompt": "a", "params": {"max_tokens": 0}}, r"\$.params.max_tokens`"),
        ({"prompt": "a", "params": {"max_tokens": 10**9}}, r"\$.params.max_tokens`"),
        ({"prompt": "a", "max_tokens": 0}, r"\$.max_tokens`"),
        ({"prompt": "a", "max_tokens": -1}, r"\$.max_tokens`"),
        ({"prompt": "a", "max_tokens": True}, r"\$.max_tokens`"),
        ({"prompt": "a", "max_tokens": 1e9}, r"max_tokens"),
        ({"prompt": "a", "max_tokens": 10**9}, "no model answers as much"),
        ({"prompt": "a", "system": 5}, r"\$.system`"),
        ({"prompt": "a", "params": {"system": 5}}, "params.system is 5, not a text or a list"),
        ({"prompt": "a", "params": {"system": [{"type": "image"}]}}, r"params.system\[0\]"),
        ({"prompt": "a", "params": {"temperature": "hot"}}, r"\$.params.temperature`"),
        ({"prompt": "a", "params": {"temperature": True}}, r"\$.params.temperature`"),
        ({"prompt": "a", "params": {"temperature": 1.5}}, r"<= 1.*\$.params.temperature`"),
        ({"prompt": "a", "params": {"temprature": 1}}, "no field of a request .did you mean temp"),
        ({"prompt": "a", "params": {"top_p": -0.1}}, r"\$.params.top_p`"),
        ({"prompt": "a", "params": {"top_k": -1}}, r"\$.params.top_k`"),
        ({"prompt": "a", "params": {"stop_sequences": "x"}}, "params.stop_sequences is 'x'"),
        ({"prompt": "a", "params": {"stop_sequences": [1]}}, r"stop_sequences\[0\] is 1"),
        ({"prompt": "a", "params": {"stop_sequences": [" "]}}, r"stop_sequences\[0\] is blank"),
        ({"prompt": "a", "params": {"tools": {"name": "x"}}}, "params.tools is an object"),
        ({"prompt": "a", "params": {"tools": [{"name": "x"}]}}, "has no input_schema"),
        ({"prompt": "a", "params": {"tools": [{"type": "web", "name": "x"}]}}, "type is 'web'"),
        ({"prompt": "a", "params": {"tool_choice": {"type": "auto"}}}, "without params.tools"),
        ({"prompt": "a", "params": {"tool_choice": "auto"}}, "tool_choice is 'auto', not an obj"),
        (
            {
                "prompt": "a",
                "params": {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "y"}},
            },
            "names 'y', no tool of it",
        ),
        ({"prompt": "a", "params": {"thinking": {}}}, "params.thinking has no type"),
        ({"prompt": "a", "params": {"thinking": {"type": "enabled"}}}, "has no budget_tokens"),
        ({"prompt": "a", "params": {"thinking": thinks(100)}}, "the least is 1,024"),
        ({"prompt": "a", "params": {"thinking": thinks(4096)}}, "must be less than max_tokens"),
        (
            {"prompt": "a", "max_tokens": 2000, "params": {"thinking": thinks(2000)}},
            "which is 2,000",
        ),
        ({"prompt": "a", "params": {"metadata": 1}}, "params.metadata is 1, not an object"),
        ({"prompt": "a", "params": {"metadata": {"user": "x"}}}, "user is no field.*user_id"),
        ({"prompt": "a", "params": {"service_tier": "fast"}}, "there are auto, standard_only"),
        ({"prompt": "a", "params": {"extra_headers": "x"}}, r"\$.params.extra_headers`"),
        ({"prompt": "a", "params": {"extra_headers": {"x": 1}}}, r"\$.params.extra_headers"),
        ({"prompt": "a", "params": {"extra_headers": {"x y": "1"}}}, "no header of HTTP"),
        ({"prompt": "a", "params": {"extra_headers": {"x": "a\nb"}}}, "no header of HTTP"),
        ({"prompt": "a", "params": {"betas": 5}}, "params.betas is not a list"),
        ({"prompt": "a", "params": {"extra_body": {"model": "x"}}}, "belongs into params"),
        ({"kind": "sleep"}, "needs a prompt"),
        ({"kind": "sleep", "params": {}}, "kind sleep needs params.seconds"),
        ({"kind": "sleep", "params": {"seconds": "1"}}, "kind sleep needs params.seconds"),
        ({"kind": "sleep", "params": {"second": 1}}, "knows no params.second"),
        ({"kind": "echo", "params": {"x": 1}}, "kind echo needs a prompt"),
        ({"prompt": "a", "promt": "b"}, "unknown field `promt`; .*did you mean prompt"),
        ({"messages": SAY, "max_token": 5}, "unknown field `max_token` .did you mean max_tokens"),
        ({"prompt": "a", "priority": "urgent"}, "unknown field `priority`"),
        ({"prompt": "a", "labels": {"a": 1}}, r"\$.labels"),
        ({"prompt": "a", "labels": ["a"]}, r"\$.labels"),
        ({"prompt": "a", "max_attempts": 0}, r"\$.max_attempts`"),
        ({"prompt": "a", "max_attempts": 1.5}, r"\$.max_attempts`"),
        ({"prompt": "a", "timeout": 0}, r"\$.timeout`"),
        ({"prompt": "a", "timeout": "5"}, r"\$.timeout`"),
        ({"prompt": "a", "timeout": float("nan")}, "NaN is no JSON"),
        ({"prompt": "a", "timeout": float("inf")}, "Infinity is no JSON"),
        ({"prompt": "a", "start_within": 0}, r"\$.start_within`"),
        ({"prompt": "a", "deadline": "soon"}, r"\$.deadline`"),
        (
            {"prompt": "a", "payload": {"digest": "sha256:" + "0" * 64, "size": 1}},
            "whoever submits",
        ),
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


def test_a_number_without_an_end_does_not_become_nothing() -> None:
    for line in (b'{"prompt": "a", "timeout": 1e999}', b'{"messages": [], "temperature": 1e999}'):
        with pytest.raises(InvalidInput, match=r"line 1: .*(infinite|range)"):
            Source("-", io.BytesIO(line), Reading(format="jsonl"))


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
    answered = {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "", "signature": "s"}],
    }
    used = {"type": "tool_use", "id": "t", "name": "x", "input": {"a": 1}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [TEXT], "is_error": False}
    source = load(
        {"params": {"messages": SAY, "system": [TEXT], "extra_body": {"new": {"x": 1}}}},
        {"prompt": "a", "params": {"betas": ["x"], "thinking": thinks(9000), "new": 1}},
        {
            "prompt": "a",
            "params": {"extra_headers": {"Anthropic-Beta": "x"}, "tools": [{"type": "t"}]},
        },
        {"prompt": "a", "max_tokens": 2000, "params": {"thinking": thinks(1024)}},
        {"prompt": "a", "params": asks_for({"type": "string", "pattern": "(?=a)"})},
        {"messages": [*SAY, answered, *SAY], "tools": [TOOL], "tool_choice": {"type": "auto"}},
        {
            "messages": [*SAY, {"role": "assistant", "content": [used]}, *said([result])],
            "tools": [TOOL],
        },
        {"messages": [*SAY, {"role": "assistant", "content": "{"}], "stop_sequences": ["}"]},
        {"prompt": "a", "params": {"metadata": {"user_id": "u"}, "service_tier": "auto"}},
        {
            "prompt": "a",
            "params": {"temperature": 0, "top_p": 0.5, "top_k": 3, "cache_control": None},
        },
        {"prompt": "a", "kind": "claude-cli", "params": {"max_turns": 3}},
        {"kind": "sleep", "params": {"seconds": 0.5}},
        {"kind": "mine", "params": {"stream": "of mine", "messages": 7}},
    )
    assert source.kinds == {"claude": 1, "claude-cli": 11, "sleep": 12, "mine": 13}


def test_a_handler_of_ones_own_has_its_own_rules() -> None:
    assert len(load({"kind": "claude", "params": {"x": 1}}, own={"claude": lambda _: None})) == 1


def test_the_arguments_of_ones_own_functions_are_checked_by_their_signature() -> None:
    app = App()

    @app.task
    def translate(text: str, times: int = 1) -> str:
        return text * times

    for params, wrong in (
        ({}, "needs params.text"),
        ({"text": 5}, "params.text: Expected `str`"),
        ({"text": "a", "times": "b"}, "params.times: Expected `int`"),
        ({"text": "a", "tims": 2}, "takes no params.tims"),
    ):
        with pytest.raises(InvalidInput, match=f"line 2: kind translate.*{wrong}"):
            load(
                {"kind": "translate", "params": {"text": "a"}},
                {"kind": "translate", "params": params},
                own=app.checks,
            )


def test_a_deadline_before_the_start_is_refused() -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    load({"prompt": "a", "not_before": soon, "deadline": later})
    with pytest.raises(InvalidInput, match="its deadline lies before its not_before"):
        load({"prompt": "a", "not_before": later, "deadline": soon})


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
