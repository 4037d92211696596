"""From a task to the arguments of messages.create, and what headers say."""

from typing import Any

import pytest

from agentflow.errors import InvalidTask
from agentflow.handlers.claude.headers import retry_after, should_retry
from agentflow.handlers.claude.request import DEFAULT_MAX_TOKENS, DEFAULT_MODEL, build
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task

KNOWN = {"model", "max_tokens", "messages", "system", "tools", "extra_headers", "extra_query"}


def built(**fields: Any) -> dict[str, Any]:
    task = Task(id="t", queue="default", priority=Priority.NORMAL, **fields)
    return build(task, KNOWN)


def test_a_prompt_alone_gets_the_defaults() -> None:
    assert built(prompt="Hi") == {
        "model": DEFAULT_MODEL,
        "max_tokens": DEFAULT_MAX_TOKENS,
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_the_fields_of_a_task_go_before_the_defaults() -> None:
    assert built(prompt="Hi", model="m", system="s", max_tokens=7) == {
        "model": "m",
        "max_tokens": 7,
        "system": "s",
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_params_go_through_unchanged() -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    system = [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]
    params = {"model": "m", "max_tokens": 7, "system": system, "messages": messages, "tools": []}
    assert built(params=params) == params


def test_what_the_sdk_does_not_know_is_left_to_the_api() -> None:
    arguments = built(
        prompt="Hi", params={"new": 1, "extra_body": {"newer": 2}, "extra_headers": {"a": "b"}}
    )
    assert arguments["extra_body"] == {"new": 1, "newer": 2}
    assert arguments["extra_headers"] == {"a": "b"}
    assert "new" not in arguments


def test_the_task_itself_is_not_changed() -> None:
    params = {"new": 1, "extra_body": {"newer": 2}}
    built(prompt="Hi", params=params)
    assert params == {"new": 1, "extra_body": {"newer": 2}}


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "needs a prompt or params.messages"),
        ({"params": {"messages": []}}, "needs a prompt or params.messages"),
        ({"prompt": "Hi", "params": {"messages": []}}, "both prompt and params.messages"),
        ({"prompt": "Hi", "model": "m", "params": {"model": "m"}}, "both model and params.model"),
        ({"prompt": "Hi", "system": "s", "params": {"system": []}}, "both system and"),
        ({"prompt": "Hi", "max_tokens": 1, "params": {"max_tokens": 1}}, "both max_tokens and"),
        ({"prompt": "Hi", "params": {"stream": False}}, "params.stream cannot be set"),
        ({"prompt": "Hi", "params": {"timeout": 3}}, "the task's own timeout"),
        ({"prompt": "Hi", "params": {"model": None}}, "params.model is not the name"),
        ({"prompt": "Hi", "params": {"model": ""}}, "params.model is not the name"),
        ({"prompt": "Hi", "params": {"extra_body": 1}}, "params.extra_body is not an object"),
        ({"prompt": "Hi", "params": {"extra_headers": []}}, "extra_headers is not an object"),
        ({"prompt": "Hi", "params": {"extra_query": None}}, "extra_query is not an object"),
        ({"prompt": "Hi", "params": {"extra_body": {"model": "m"}}}, "model belongs into params"),
        ({"prompt": "Hi", "params": {"extra_body": {"stream": 0}}}, "stream belongs into params"),
        ({"prompt": "Hi", "params": {"a": 1, "extra_body": {"a": 1}}}, "a belongs into params"),
    ],
)
def test_what_is_missing_or_given_twice_is_named(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        built(**fields)
    assert str(caught.value).startswith("task t: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Thu, 01 Jan 99999 00:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=100.0) == seconds


def test_should_retry_is_true_false_or_unsaid() -> None:
    said = [should_retry({"x-should-retry": text}) for text in ("true", "False", "")]
    assert said == [True, False, None]
    assert should_retry({}) is None


@pytest.mark.parametrize(
    ("params", "headers"),
    [
        ({"betas": ["a-1", "b-2"]}, {"anthropic-beta": "a-1,b-2"}),
        ({"betas": "a-1"}, {"anthropic-beta": "a-1"}),
        ({"betas": []}, {}),
        (
            {"betas": ["b"], "extra_headers": {"Anthropic-Beta": "a", "x": "y"}},
            {"anthropic-beta": "a,b", "x": "y"},
        ),
    ],
)
def test_betas_become_the_header(params: dict[str, Any], headers: dict[str, str]) -> None:
    before = dict(params)
    arguments = built(prompt="Hi", params=params)
    assert arguments["extra_headers"] == headers
    assert "extra_body" not in arguments
    assert params == before


@pytest.mark.parametrize("betas", [None, 3, [3], [""], ["a\r\nx-api-key: b"], {"a": 1}])
def test_betas_that_are_none(betas: Any) -> None:
    with pytest.raises(InvalidTask, match=r"params\.betas is not a list"):
        built(prompt="Hi", params={"betas": betas})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("authorization", "its own credential"),
        ("X-Api-Key", "its own credential"),
        (" x-api-key ", "its own credential"),
        ("Proxy-Authorization", "its own credential"),
        ("Cookie", "its own credential"),
        ("Host", "the connection sets it"),
        ("content-length", "the connection sets it"),
        ("Content-Type", "a request is JSON"),
    ],
)
def test_headers_a_task_cannot_set(name: str, reason: str) -> None:
    with pytest.raises(InvalidTask, match=reason) as caught:
        built(prompt="Hi", params={"extra_headers": {name: "sk-other-1234567890"}})
    assert "sk-other" not in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [{"x y": "a"}, {"": "a"}, {"x": "a\r\nb: c"}, {"x": "ü"}, {"x:": "a"}, {"ü": "a"}, {"x": "\0"}],
)
def test_headers_that_are_none(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidTask, match="cannot be sent"):
        built(prompt="Hi", params={"extra_headers": headers})
