"""Every way to fail, and what the real SDK makes of it."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic

from agentflow.simulator import Simulator

ASKING: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "List three rivers"}],
}


def fake(**knobs: Any) -> dict[str, Any]:
    return {**ASKING, "extra_headers": {"x-fake": json.dumps(knobs)}}


async def streamed(
    client: AsyncAnthropic, request: dict[str, Any], seen: list[str] | None = None
) -> None:
    """Reads a stream to its end; `seen` gets the type of each event."""
    async for event in await client.messages.create(**request, stream=True):
        if seen is not None:
            seen.append(event.type)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (402, anthropic.PaymentRequiredError, "billing_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (408, anthropic.RequestTimeoutError, "timeout_error"),
        (409, anthropic.ConflictError, "conflict_error"),
        (413, anthropic.ContentTooLargeError, "invalid_request_error"),
        (422, anthropic.UnprocessableEntityError, "invalid_request_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (499, anthropic.ClientClosedRequestError, "invalid_request_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (502, anthropic.InternalServerError, "api_error"),
        (503, anthropic.ServiceUnavailableError, "api_error"),
        (504, anthropic.GatewayTimeoutError, "timeout_error"),
        (529, anthropic.OverloadedError, "overloaded_error"),
    ],
)
async def test_a_status_raises_the_sdk_s_class(
    client: AsyncAnthropic,
    status: int,
    error: type[anthropic.APIStatusError],
    kind: str,
    stream: bool,
) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        await client.messages.create(**fake(status=status), stream=stream)

    assert type(caught.value) is error
    assert caught.value.status_code == status
    assert caught.value.type == kind
    assert caught.value.request_id is not None
    assert caught.value.body["request_id"] == caught.value.request_id  # type: ignore[index]


async def test_an_error_carries_code_type_message_and_retry_headers(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.RateLimitError) as caught:
        await client.messages.create(
            **fake(
                status=429,
                error_type="rate_limit_error",
                error_code="ramp_limit_exceeded",
                error_message="slower, please",
                retry_after=2.5,
                retry_after_ms=2500,
                should_retry=False,
            )
        )

    error = caught.value
    assert error.error_code == "ramp_limit_exceeded"
    assert error.api_message == "slower, please"
    headers = error.response.headers
    assert headers["retry-after"] == "2.5"
    assert headers["retry-after-ms"] == "2500"
    assert headers["x-should-retry"] == "false"


async def test_retry_after_may_be_a_date(client: AsyncAnthropic) -> None:
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    with pytest.raises(anthropic.ServiceUnavailableError) as caught:
        await client.messages.create(**fake(status=503, retry_after=date))
    assert caught.value.response.headers["retry-after"] == date


async def test_an_html_page_has_no_error_type(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.InternalServerError) as caught:
        await client.messages.create(**fake(fault="html", status=502))

    assert caught.value.status_code == 502
    assert caught.value.type is None
    assert "<html>" in str(caught.value.body)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    ("fault", "cause"), [("drop", httpx2.RemoteProtocolError), ("reset", httpx2.ReadError)]
)
async def test_no_answer_at_all_is_a_connection_error(
    client: AsyncAnthropic, fault: str, cause: type[Exception], stream: bool
) -> None:
    with pytest.raises(anthropic.APIConnectionError) as caught:
        await client.messages.create(**fake(fault=fault), stream=stream)
    assert isinstance(caught.value.__cause__, cause)


async def test_a_hang_is_a_timeout(client: AsyncAnthropic, simulator: Simulator) -> None:
    with pytest.raises(anthropic.APITimeoutError):
        await client.messages.create(**fake(fault="hang"), timeout=httpx2.Timeout(20.0, read=0.3))
    await simulator.wait_for(lambda: simulator.log.in_flight == 0)

    entry = simulator.stats().log[0]
    assert (entry.fault, entry.status, entry.disconnected) == ("hang", None, True)


async def test_a_stream_dropped_in_the_middle_is_no_anthropic_error(client: AsyncAnthropic) -> None:
    seen: list[str] = []
    with pytest.raises(httpx2.RemoteProtocolError):
        await streamed(client, fake(fault="drop_mid"), seen)

    assert seen[0] == "message_start"
    assert seen.count("content_block_delta") == 10


async def test_a_json_body_dropped_in_the_middle(client: AsyncAnthropic) -> None:
    with pytest.raises((anthropic.APIConnectionError, httpx2.RemoteProtocolError)):
        await client.messages.create(**fake(fault="drop_mid"))


async def test_a_stall_in_the_middle_is_a_read_timeout(client: AsyncAnthropic) -> None:
    seen: list[str] = []
    # Only the reading is to be quick: on a loaded machine a connection may take its time.
    patience = httpx2.Timeout(20.0, read=0.5)
    with pytest.raises(httpx2.ReadTimeout):
        await streamed(client, {**fake(stall=60, stall_after=3), "timeout": patience}, seen)

    assert seen.count("content_block_delta") == 3


@pytest.mark.parametrize("fault", ["truncated_json", "malformed_sse"])
async def test_broken_json_is_a_decode_error(client: AsyncAnthropic, fault: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        await client.messages.create(**fake(fault=fault))
    with pytest.raises(json.JSONDecodeError):
        await streamed(client, fake(fault=fault))


@pytest.mark.parametrize("kind", ["overloaded_error", "api_error", "rate_limit_error"])
async def test_an_error_in_the_stream_has_status_200(client: AsyncAnthropic, kind: str) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        await streamed(client, fake(fault="sse_error", error_type=kind))

    assert type(caught.value) is anthropic.APIStatusError
    assert caught.value.status_code == 200
    assert caught.value.type == kind


async def test_the_same_error_without_a_stream_has_its_own_status(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.OverloadedError):
        await client.messages.create(**fake(fault="sse_error"))


async def test_an_invalid_request_is_the_client_s_error(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"top_k: not accepted"):
        await client.messages.create(**ASKING, extra_body={"top_k": 1})
    with pytest.raises(anthropic.BadRequestError, match=r"messages.0.role: Invalid enum"):
        await client.messages.create(**ASKING | {"messages": [{"role": "oracle", "content": "?"}]})
    with pytest.raises(anthropic.BadRequestError, match=r"x-fake: .*sttaus"):
        await client.messages.create(**fake(sttaus=500))


async def test_an_outage_in_the_mode_reaches_every_endpoint(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    simulator.set_mode({"status": 401})
    with pytest.raises(anthropic.AuthenticationError):
        await client.models.list()
    with pytest.raises(anthropic.AuthenticationError):
        await client.messages.count_tokens(model="m", messages=ASKING["messages"])
