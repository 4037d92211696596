"""The Node SDK against the simulator, unchanged: only its base URL is given."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from agentflow.simulator import Simulator
from tests.support import tools

pytestmark = pytest.mark.tools("node")

SCRIPT = tools.ROOT / "tests" / "simulator" / "node_client.cjs"
MODEL = "claude-sonnet-5-5"

ASKING: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "List three rivers"}],
}


def call(name: str, request: Any = ASKING, *, timeout: float = 5.0, **knobs: Any) -> dict[str, Any]:
    headers = {"x-fake": json.dumps(knobs)} if knobs else {}
    options = {"headers": headers, "timeout": timeout * 1000}
    return {"call": name, "request": request, "options": options}


async def node(simulator: Simulator, *calls: dict[str, Any]) -> list[Any]:
    """What came of the calls: the value, or the error as a dict."""
    process = await asyncio.create_subprocess_exec(
        tools.path("node"),
        SCRIPT,
        json.dumps(calls),
        env={
            "PATH": os.environ["PATH"],
            "NODE_PATH": str(tools.MODULES),
            "ANTHROPIC_BASE_URL": simulator.url,
            "NO_PROXY": "*",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    found = [json.loads(line) for line in out.splitlines()]
    assert len(found) == len(calls)
    return [each["ok"] if "ok" in each else each["error"] for each in found]


def text_of(message: dict[str, Any]) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


async def test_an_answer_comes_the_same_in_one_piece_and_as_a_stream(simulator: Simulator) -> None:
    raw, events, stream = await node(
        simulator, call("raw"), call("events"), call("stream", chunks=7)
    )

    message = raw["message"]
    text = text_of(message)
    assert text.startswith("[SIMULATED] ")
    assert (message["model"], message["stop_reason"]) == (MODEL, "end_turn")
    assert message["usage"]["output_tokens"] == -(-len(text) // 4)
    assert raw["id"] == raw["headers"]["request-id"] == simulator.stats().log[0].request_id
    assert raw["headers"]["anthropic-ratelimit-requests-limit"].isdigit()

    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta["text"] for delta in deltas) == text

    assert len(stream["parts"]) == 7
    assert "".join(stream["parts"]) == text_of(stream["message"]) == text
    assert stream["message"]["usage"] == message["usage"]


async def test_the_rules_of_the_version_that_the_sdk_sends_hold(simulator: Simulator) -> None:
    sampling = {**ASKING, "temperature": 0.5}
    [refused] = await node(simulator, call("create", sampling))

    # Only anthropic-version 2026-10-21 refuses it, so this is the version that was sent.
    assert refused["status"] == 400
    assert refused["apiMessage"].startswith("temperature: not accepted by anthropic-version 2026")


async def test_every_kind_of_content_is_put_together_from_a_stream(simulator: Simulator) -> None:
    parallel = [[{"name": "a", "input": {"n": 1, "s": "ü"}}, {"name": "b"}]]
    thinking, tools_, refusal, cut = await node(
        simulator,
        call("stream", content="thinking"),
        call("stream", tools=parallel),
        call("stream", content="refusal"),
        call("stream", {**ASKING, "max_tokens": 5}),
    )

    assert [block["type"] for block in thinking["message"]["content"]] == ["thinking", "text"]
    assert thinking["message"]["content"][0]["signature"]
    calls = tools_["message"]["content"]
    assert [(block["name"], block["input"]) for block in calls] == [
        ("a", {"n": 1, "s": "ü"}),
        ("b", {}),
    ]
    assert tools_["message"]["stop_reason"] == "tool_use"
    assert refusal["message"]["stop_reason"] == "refusal"
    assert refusal["message"]["stop_details"]["category"] == "general_harms"
    assert cut["message"]["stop_reason"] == "max_tokens"
    assert cut["message"]["usage"]["output_tokens"] == 5


async def test_tokens_are_counted_and_models_listed(simulator: Simulator) -> None:
    prompt = {name: ASKING[name] for name in ("model", "messages")}
    count, answer, whole, pages, one, none = await node(
        simulator,
        call("count", prompt),
        call("create"),
        call("models", {"limit": 1000}),
        call("models", {"limit": 4}),
        call("model", {"id": "claude-haiku-4-5"}),
        call("model", {"id": "claude-nonesuch"}),
    )

    assert count["input_tokens"] == answer["usage"]["input_tokens"]
    assert MODEL in whole
    assert pages == whole
    assert simulator.log.paths["GET /v1/models"] == 1 + -(-len(whole) // 4)
    assert one["id"] == "claude-haiku-4-5-20251001"
    assert none["classes"][0] == "NotFoundError"


STATUSES = [
    (400, "BadRequestError", "invalid_request_error"),
    (401, "AuthenticationError", "authentication_error"),
    (402, "PaymentRequiredError", "billing_error"),
    (403, "PermissionDeniedError", "permission_error"),
    (404, "NotFoundError", "not_found_error"),
    (408, "RequestTimeoutError", "timeout_error"),
    (409, "ConflictError", "conflict_error"),
    (413, "ContentTooLargeError", "invalid_request_error"),
    (422, "UnprocessableEntityError", "invalid_request_error"),
    (429, "RateLimitError", "rate_limit_error"),
    (499, "ClientClosedRequestError", "invalid_request_error"),
    (500, "InternalServerError", "api_error"),
    (502, "InternalServerError", "api_error"),
    (503, "ServiceUnavailableError", "api_error"),
    (504, "GatewayTimeoutError", "timeout_error"),
    (529, "OverloadedError", "overloaded_error"),
]


@pytest.mark.parametrize("name", ["create", "events"])
async def test_a_status_throws_the_sdk_s_class(simulator: Simulator, name: str) -> None:
    errors = await node(simulator, *(call(name, status=status) for status, *_ in STATUSES))

    for (status, expected, kind), error in zip(STATUSES, errors, strict=True):
        assert error["classes"][0] == expected, error
        assert (error["status"], error["type"]) == (status, kind)
        assert error["requestID"].startswith("req_")
        assert error["requestID"] == error["headers"]["request-id"]


async def test_an_error_carries_code_message_and_retry_headers(simulator: Simulator) -> None:
    [error] = await node(
        simulator,
        call(
            "create",
            status=429,
            error_code="ramp_limit_exceeded",
            error_message="slower, please",
            retry_after=2.5,
            should_retry=False,
        ),
    )

    assert error["errorCode"] == "ramp_limit_exceeded"
    assert error["apiMessage"] == "slower, please"
    assert error["headers"]["retry-after"] == "2.5"
    assert error["headers"]["x-should-retry"] == "false"


async def test_broken_connections_and_answers_are_told_apart(simulator: Simulator) -> None:
    drop, reset, hang, html, in_stream, mid, json_ = await node(
        simulator,
        call("create", fault="drop"),
        call("create", fault="reset"),
        call("create", fault="hang", timeout=0.2),
        call("create", fault="html", status=502),
        call("events", fault="sse_error", error_type="overloaded_error"),
        call("events", fault="drop_mid"),
        call("create", fault="truncated_json"),
    )

    assert drop["classes"][0] == reset["classes"][0] == "APIConnectionError"
    assert hang["classes"][0] == "APIConnectionTimeoutError"
    assert (html["status"], html["type"]) == (502, None)
    # A status it has none; the Python SDK says 200.
    assert (in_stream.get("status"), in_stream["type"]) == (None, "overloaded_error")
    assert mid["classes"][0] == "TypeError", "what fetch throws, not an error of the SDK"
    assert json_["classes"][0] == "SyntaxError"


async def test_its_own_retries_meet_a_script_in_order(simulator: Simulator) -> None:
    simulator.add_script(
        [{"status": 529, "retry_after_ms": 5}, {"status": 503, "retry_after_ms": 5}],
        match="three rivers",
    )
    asked = call("create")
    asked["options"]["maxRetries"] = 2
    [message] = await node(simulator, asked)

    assert text_of(message).startswith("[SIMULATED] ")
    assert [entry.status for entry in simulator.stats().log] == [529, 503, 200]


BATCH: dict[str, Any] = {
    "requests": [{"custom_id": f"r-{number}", "params": ASKING} for number in range(3)]
}


async def test_batches_are_made_read_and_deleted(simulator: Simulator) -> None:
    (found,) = await node(simulator, call("batched", BATCH))
    assert found["ended"]["processing_status"] == "ended"
    assert found["ended"]["request_counts"]["succeeded"] == 3
    assert {line["custom_id"] for line in found["lines"]} == {"r-0", "r-1", "r-2"}
    assert {line["result"]["type"] for line in found["lines"]} == {"succeeded"}
    assert found["deleted"] == {"id": found["made"]["id"], "type": "message_batch_deleted"}


async def test_batches_are_listed_by_pages_and_cancelled(simulator: Simulator) -> None:
    simulator.set_mode({"batches": {"processing": 60, "canceling": 60}})
    *made, listed, cancelled, wrong = await node(
        simulator,
        *[call("batch", BATCH) for _ in range(5)],
        call("batches", {"limit": 2}),
        call("cancelled", BATCH),
        call("batch", {"requests": []}),
    )
    assert listed == [batch["id"] for batch in made[::-1]]
    assert cancelled["processing_status"] == "canceling"
    assert (wrong["status"], wrong["type"]) == (400, "invalid_request_error")
