"""What lines of Claude Code come to. Their form was taken from versions 2.1.197 and 2.1.330."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentflow.handlers.claude_cli.result import Conversation
from agentflow.handlers.contract import AttemptFailed
from agentflow.protocol.record import Usage
from agentflow.rules.retry import Signal, rule_of
from agentflow.rules.routes.prices import Price, Prices, Rates

SONNET, OPUS, LONG = "claude-sonnet-5-5", "claude-opus-4-8", "claude-haiku-5-5"

DOLLAR = 1_000_000
"""A dollar for a million tokens is a micro-dollar for each; the table's unit is smaller."""
PRICES = Prices(
    models={
        SONNET: Price(
            rates=Rates(
                input=2 * DOLLAR,
                output=10 * DOLLAR,
                cache_write_5m=3 * DOLLAR,
                cache_write_1h=4 * DOLLAR,
                cache_read=DOLLAR,
            )
        ),
        OPUS: Price(rates=Rates(input=5 * DOLLAR, output=25 * DOLLAR)),
        LONG: Price(
            rates=Rates(input=DOLLAR, output=DOLLAR),
            long_above=1000,
            long=Rates(input=5 * DOLLAR, output=5 * DOLLAR),
        ),
    },
    search=10_000 * DOLLAR,
)


def take(conversation: Conversation, *events: dict[str, Any]) -> list[str]:
    found = [conversation.take(json.dumps(event).encode()) for event in events]
    return [text for text in found if text]


def stream(event: dict[str, Any], parent: str | None = None) -> dict[str, Any]:
    return {"type": "stream_event", "event": event, "parent_tool_use_id": parent}


def start(model: str = SONNET, parent: str | None = None, **usage: Any) -> dict[str, Any]:
    message = {"model": model, "usage": usage}
    return stream({"type": "message_start", "message": message}, parent)


def text(words: str, parent: str | None = None) -> dict[str, Any]:
    delta = {"type": "text_delta", "text": words}
    return stream({"type": "content_block_delta", "delta": delta}, parent)


def stop(parent: str | None = None, **usage: Any) -> list[dict[str, Any]]:
    return [
        stream({"type": "message_delta", "delta": {}, "usage": usage}, parent),
        stream({"type": "message_stop"}, parent),
    ]


def result(**fields: Any) -> dict[str, Any]:
    usual = {
        "subtype": "success",
        "is_error": False,
        "api_error_status": None,
        "result": "done",
        "stop_reason": "end_turn",
        "session_id": "s-1",
        "num_turns": 2,
        "duration_ms": 385,
        "duration_api_ms": 119,
        "total_cost_usd": 0.17,
        "permission_denials": [],
    }
    return {"type": "result", **usual, **fields}


def told(**counts: Any) -> dict[str, Any]:
    names = {"i": "inputTokens", "o": "outputTokens", "w": "cacheCreationInputTokens"}
    names |= {"r": "cacheReadInputTokens", "s": "webSearchRequests", "basis": "costBasis"}
    return {names[name]: value for name, value in counts.items()}


def ended(*events: dict[str, Any]) -> Conversation:
    conversation = Conversation()
    take(conversation, *events)
    return conversation


def failed(*events: dict[str, Any]) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        ended(*events).outcome()
    return caught.value


def test_a_run_with_a_tool() -> None:
    conversation = Conversation()
    shown = take(
        conversation,
        {"type": "system", "subtype": "init", "session_id": "s-1", "model": SONNET},
        start(input_tokens=100, output_tokens=1),
        *stop(input_tokens=100, output_tokens=12),
        {"type": "user", "message": {"content": [{"type": "tool_result", "content": "ok"}]}},
        start(input_tokens=130, output_tokens=1),
        text("all "),
        text("done"),
        {"type": "assistant", "message": {"content": [{"type": "text", "text": "all done"}]}}
        | {"request_id": "req_2", "parent_tool_use_id": None},
        *stop(output_tokens=2),
    )
    assert shown == ["all ", "done"]
    assert conversation.spent(PRICES) == (Usage(230, 14), 230 * 2 + 14 * 10)
    assert conversation.has_turns
    take(conversation, result(modelUsage={SONNET: told(i=230, o=14)}, new_field={"of": "later"}))
    assert conversation.spent(PRICES) == (Usage(230, 14), 230 * 2 + 14 * 10)
    assert (conversation.model, conversation.request_id) == (SONNET, "req_2")
    outcome = conversation.outcome()
    assert (outcome.text, outcome.stop_reason) == ("done", "end_turn")
    assert outcome.value == {
        "session_id": "s-1",
        "num_turns": 2,
        "duration_ms": 385,
        "duration_api_ms": 119,
        "permission_denials": [],
    }


def test_what_a_subagent_says_is_no_answer_but_costs() -> None:
    conversation = Conversation()
    shown = take(
        conversation,
        start(input_tokens=10),
        start(OPUS, "toolu_1", input_tokens=7),
        text("of the subagent", "toolu_1"),
        text("mine"),
        *stop("toolu_1", output_tokens=1),
        *stop(output_tokens=2),
    )
    assert shown == ["mine"]
    assert conversation.spent(PRICES) == (Usage(17, 3), 10 * 2 + 2 * 10 + 7 * 5 + 25)
    assert conversation.model == SONNET


# What neither count knows alone.


def test_what_was_asked_on_the_side_comes_from_its_own_count() -> None:
    usage = {f"{OPUS}[1m]": told(i=50, o=4), SONNET: told(i=10, o=2)}
    conversation = ended(start(input_tokens=10), *stop(output_tokens=2), result(modelUsage=usage))
    assert conversation.spent(PRICES) == (Usage(60, 6), 10 * 2 + 2 * 10 + 50 * 5 + 4 * 25)


def test_a_request_that_broke_is_paid_beside_the_one_that_followed() -> None:
    conversation = ended(
        start(input_tokens=100, output_tokens=1),
        text("hal"),
        result(modelUsage={SONNET: told(i=100, o=9)}),
    )
    assert conversation.spent(PRICES) == (Usage(200, 10), 200 * 2 + 10 * 10)


def test_a_request_that_broke_and_was_streamed_again() -> None:
    events = (start(input_tokens=100), start(input_tokens=100), *stop(output_tokens=9))
    assert ended(*events).spent(PRICES) == (Usage(200, 9), 200 * 2 + 9 * 10)
    assert not ended(start(input_tokens=100)).has_turns


def test_caches_and_searches() -> None:
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 8,
        "cache_read_input_tokens": 100,
        "cache_creation": {"ephemeral_1h_input_tokens": 3, "ephemeral_5m_input_tokens": 5},
    }
    cost = 10 * 2 + 5 * 3 + 3 * 4 + 100 + 10
    streamed = [start(**usage), *stop(output_tokens=1)]
    assert ended(*streamed).spent(PRICES) == (Usage(10, 1, 8, 100), cost)
    # The same, had it asked on the side.
    by_sum = ended(result(modelUsage={SONNET: told(i=10, o=1, w=8, r=100, s=2)}, usage=usage))
    assert by_sum.spent(PRICES) == (Usage(10, 1, 8, 100), cost + 2 * 10_000)


def test_each_request_has_the_tier_of_its_own_prompt() -> None:
    one = [start(LONG, input_tokens=900), *stop(output_tokens=0)]
    assert ended(*one, *one).spent(PRICES) == (Usage(1800, 0), 1800)
    long = [start(LONG, input_tokens=1001), *stop(output_tokens=0)]
    assert ended(*one, *long).spent(PRICES) == (Usage(1901, 0), 900 + 5 * 1001)
    # Of a sum nobody knows which of its requests were long.
    assert ended(result(modelUsage={LONG: told(i=1800)})).spent(PRICES) == (Usage(1800), None)
    assert ended(result(modelUsage={LONG: told(i=900)})).spent(PRICES) == (Usage(900), 900)


@pytest.mark.parametrize(
    ("basis", "cost"), [(["list", "list"], 170_000), (["list", "unknown"], None), ([None], None)]
)
def test_its_own_total_holds_only_by_list_prices(basis: list[str | None], cost: int | None) -> None:
    usage = {f"claude-new-{n}": told(i=5, o=1, basis=name) for n, name in enumerate(basis)}
    assert ended(result(modelUsage=usage)).spent(PRICES)[1] == cost


def test_our_prices_go_before_its_total() -> None:
    usage = {SONNET: told(i=10, o=2, basis="list")}
    assert ended(result(modelUsage=usage)).spent(PRICES) == (Usage(10, 2), 40)


def test_nothing_asked_costs_nothing() -> None:
    assert Conversation().spent(PRICES) == (Usage(), 0)
    assert ended(result(modelUsage={})).spent(PRICES) == (Usage(), 0)


# Ends.


@pytest.mark.parametrize(
    ("fields", "stop_reason"),
    [
        ({"subtype": "error_max_turns", "errors": ["Reached"], "result": None}, "max_turns"),
        ({"subtype": "error_max_budget_usd", "result": None}, "max_budget"),
        ({"stop_reason": "refusal", "result": "API Error: ... unable to respond"}, "refusal"),
    ],
)
def test_ends_that_trying_again_does_not_better_are_results(
    fields: dict[str, Any], stop_reason: str
) -> None:
    said = {"type": "assistant", "message": {"content": [{"type": "text", "text": "so far"}]}}
    outcome = ended(said, result(is_error=True, **fields)).outcome()
    assert outcome.stop_reason == stop_reason
    assert outcome.text == (fields["result"] or "so far")


def test_why_it_was_refused_is_kept() -> None:
    details = {"type": "refusal", "category": "general_harms"}
    message = {"content": [], "stop_details": details}
    outcome = ended(
        {"type": "assistant", "message": message, "error": "invalid_request"},
        result(is_error=True, stop_reason="refusal"),
    ).outcome()
    assert outcome.value["stop_details"] == details


def test_structured_output_and_denials() -> None:
    denials = [{"tool_name": "Bash", "tool_use_id": "t", "tool_input": {"command": "env"}}]
    denials += [{"tool_name": "Write", "tool_input": {"content": "x" * 5000}}] * 30
    value = (
        ended(result(structured_output={"name": "x"}, permission_denials=denials)).outcome().value
    )
    assert value["structured_output"] == {"name": "x"}
    shown = value["permission_denials"]
    assert shown[:2] == [
        {"tool_name": "Bash", "tool_input": {"command": "env"}},
        {"tool_name": "Write"},
    ]
    assert len(shown) == 20


# Errors: `subtype` is "success" for each.


@pytest.mark.parametrize(
    ("words", "error", "status", "reason"),
    [
        ("API Error: 529 overloaded", "server_error", 529, "overloaded"),
        ("API Error: Request rejected (429)", "rate_limit", 429, "rate_limited"),
        (
            "Failed to authenticate. API Error: 401",
            "authentication_failed",
            401,
            "authentication",
        ),
        ("Credit balance is too low", "billing_error", 400, "billing"),
        ("Prompt is too long", "invalid_request", 400, "invalid_request"),
        ("Not logged in · Please run /login", "authentication_failed", None, "authentication"),
        ("Not logged in · Please run /login", None, None, "authentication"),
        (
            "API Error: Unable to connect to API (ConnectionRefused)",
            "unknown",
            None,
            "connection",
        ),
        ("API Error: Unable to connect to API (ECONNRESET)", "unknown", None, "dropped"),
        (
            "API Error: Connection to the API was lost (ECONNRESET).",
            "server_error",
            None,
            "dropped",
        ),
        ("API Error: SIMULATED overloaded_error", "unknown", None, "overloaded"),
        ("API Error: The request timed out", "unknown", None, "stalled"),
        ("The model does not exist", "invalid_request", None, "invalid_request"),
        ("Something else altogether", None, None, "handler_error"),
    ],
)
def test_errors_meet_the_rule_of_the_retry_table_that_they_mean(
    words: str, error: str | None, status: int | None, reason: str
) -> None:
    said = {"type": "assistant", "message": {"content": []}, "error": error, "request_id": "req_1"}
    found = failed(said, result(is_error=True, result=words, api_error_status=status))
    assert rule_of(found.signal).reason == reason
    assert (found.failure.message, found.failure.status) == (words, status)
    assert found.failure.request_id == "req_1"


def test_an_error_within_may_have_no_text() -> None:
    fields = {"subtype": "error_during_execution", "result": None, "is_error": True}
    assert failed(result(**fields, errors=["one", "two"])).failure.message == "one; two"
    assert "error_during_execution" in failed(result(**fields)).failure.message


@pytest.mark.parametrize("is_error", [None, "false", 0])
def test_only_a_plain_false_is_no_error(is_error: Any) -> None:
    assert failed(result(is_error=is_error)).signal == Signal(exception="handler")


@pytest.mark.parametrize(
    ("fields", "signal"),
    [
        # Its own pauses begin below a second and have a random part.
        (
            {"attempt": 1, "retry_delay_ms": 589.84, "error_status": 529, "error": "overloaded"},
            Signal(status=529),
        ),
        (
            {"attempt": 1, "retry_delay_ms": 7000, "error_status": 429, "error": "rate_limit"},
            Signal(status=429, retry_after=7.0),
        ),
        (
            {"attempt": 2, "retry_delay_ms": 1243.6, "error_status": 429, "error": "rate_limit"},
            Signal(status=429),
        ),
        (
            {"attempt": 1, "error_status": 401, "error": "authentication_failed"},
            Signal(status=401, type="authentication_error"),
        ),
        ({"attempt": 1, "error_status": None}, Signal(exception="connection")),
        ({"retry_delay_ms": "?", "error_status": "?", "error": 7}, Signal(exception="connection")),
    ],
)
def test_a_retry_announced_is_the_failure_it_follows(
    fields: dict[str, Any], signal: Signal
) -> None:
    conversation = ended({"type": "system", "subtype": "api_retry", **fields})
    assert conversation.refused().signal == signal


# Anything may come out of a program.


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"Warning: something",
        b"[1]",
        b"7",
        b"\xff\xfe{",
        b'{"type": 1}',
        b'{"type": "stream_event"}',
        b'{"type": "stream_event", "event": {"type": "message_start", "message": 3}}',
        b'{"type": "stream_event", "event": {"type": "message_delta", "usage": []}}',
        b'{"type": "stream_event", "event": {"type": "content_block_delta", "delta": "x"}}',
        b'{"type": "assistant", "message": {"content": [3, {"text": 5}, null]}}',
        b'{"type": "assistant", "message": []}',
        b'{"type": "system", "session_id": []}',
        b'{"type": "user"}',
        b"[" * 10_000,
    ],
    ids=lambda line: line[:40].decode(errors="replace"),
)
def test_what_makes_no_sense_is_passed_over(line: bytes) -> None:
    conversation = Conversation()
    assert conversation.take(line) is None
    assert conversation.result is None
    conversation.spent(PRICES)


def test_a_result_full_of_nonsense_is_a_result() -> None:
    fields = {"modelUsage": {"m": 3, SONNET: {"inputTokens": "x"}}, "usage": [], "num_turns": []}
    conversation = ended(result(**fields, permission_denials={}, stop_reason=4, result=5))
    assert conversation.spent(PRICES) == (Usage(), 0)
    assert conversation.outcome().text is None
