"""HTTP/1.1 as clients really speak it: in pieces, pipelined, chunked, hesitant, wrong."""

from __future__ import annotations

import msgspec
import pytest

from agentflow.simulator import Simulator, http

from .conftest import AUTH, Wire, packed

PROMPT = {
    "model": "claude-opus-5-5",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "Hello"}],
}


def events(data: bytes, *, size: int, max_body: int = http.MAX_BODY) -> list[object]:
    """What the parser says when the bytes come `size` at a time."""
    parser = http.RequestParser(max_body)
    found: list[object] = []
    for start in range(0, len(data), size):
        parser.feed(data[start : start + size])
        while (event := parser.next_event()) is not None:
            found.append(event)
    return found


PLAIN = b"POST /a?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = (
    b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\nA;note=1\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n"
)
BARE = b"GET /c HTTP/1.1\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 10_000], ids=["byte by byte", "by sevens", "whole"])
def test_a_pipeline_is_read_in_pieces_of_any_size(size: int) -> None:
    plain, chunked, bare = events(PLAIN + b"\r\n" + CHUNKED + BARE, size=size)

    assert plain == http.Request(
        "POST", "/a", "x=1", {"host": "h", "content-length": "3"}, body=b"abc"
    )
    assert isinstance(chunked, http.Request)
    assert chunked.body == b"abc0123456789"
    assert bare == http.Request("GET", "/c", "", {"connection": "close"}, keep_alive=False)


@pytest.mark.parametrize("size", [3, 10_000])
@pytest.mark.parametrize("request_", [PLAIN, CHUNKED], ids=["length", "chunked"])
def test_a_body_too_large_is_thrown_away_and_the_next_request_read(
    request_: bytes, size: int
) -> None:
    large, after = events(request_ + BARE, size=size, max_body=2)

    assert isinstance(large, http.Request)
    assert (large.too_large, large.body) == (True, b"")
    assert isinstance(after, http.Request)
    assert after.path == "/c"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nspace : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", 400),
        (b"GET / HTTP/1.1\r\nLong: " + b"x" * 70_000, 431),
    ],
)
async def test_bytes_that_are_no_request_end_the_connection(
    wire: Wire, data: bytes, status: int
) -> None:
    wire.writer.write(data)
    answer = await wire.answer()

    assert answer.status == status
    assert answer.error["message"]
    assert await wire.reader.read() == b""


async def test_pipelined_requests_are_answered_in_their_order(wire: Wire) -> None:
    for number in range(200):
        body = {**PROMPT, "stream": number % 2 == 0}
        knobs = msgspec.json.encode({"text": f"answer {number}", "chunks": 1}).decode()
        wire.send("POST", "/v1/messages?beta=true", body, {**AUTH, "x-fake": knobs})

    for number in range(200):
        assert f'"answer {number}"'.encode() in (await wire.answer()).body


async def test_a_request_waits_behind_one_that_takes_time(wire: Wire) -> None:
    slow = {**AUTH, "x-fake": '{"latency": 0.05, "text": "slow"}'}
    wire.send("POST", "/v1/messages", PROMPT, slow)
    wire.send("GET", "/v1/models")

    assert b"slow" in (await wire.answer()).body
    assert b"has_more" in (await wire.answer()).body


async def test_a_chunked_body_is_a_body(wire: Wire) -> None:
    data = msgspec.json.encode(PROMPT)
    head = "".join(f"{name}: {value}\r\n" for name, value in AUTH.items())
    wire.writer.write(
        f"POST /v1/messages HTTP/1.1\r\n{head}transfer-encoding: chunked\r\n\r\n".encode()
        + http.chunk(data[:10])
        + http.chunk(data[10:])
        + http.LAST_CHUNK
    )

    assert (await wire.answer()).status == 200


async def test_a_client_that_asks_first_is_told_to_continue(wire: Wire) -> None:
    request = packed("POST", "/v1/messages", PROMPT, {**AUTH, "expect": "100-continue"})
    head, _, body = request.partition(b"\r\n\r\n")
    wire.writer.write(head + b"\r\n\r\n")
    assert await wire.reader.readuntil(b"\r\n\r\n") == http.CONTINUE
    wire.writer.write(body)

    assert (await wire.answer()).status == 200


async def test_a_body_over_32_megabytes_is_413_and_the_connection_lives(wire: Wire) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in AUTH.items())
    size = http.MAX_BODY + 1
    wire.writer.write(
        f"POST /v1/messages HTTP/1.1\r\n{head}content-length: {size}\r\n\r\n".encode()
    )
    wire.writer.write(bytes(size))

    assert (await wire.answer()).status == 413
    assert (await wire.ask("GET", "/v1/models")).status == 200


async def test_connection_close_is_honoured(wire: Wire) -> None:
    answer = await wire.ask("POST", "/v1/messages", PROMPT, {**AUTH, "connection": "close"})

    assert answer.status == 200
    assert await wire.reader.read() == b""


BEARER = {"authorization": "Bearer any"}
KEY = {"x-api-key": "any"}


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
@pytest.mark.parametrize("auth", [BEARER, KEY], ids=["bearer", "x-api-key"])
async def test_both_ways_to_authenticate_and_both_versions(
    wire: Wire, auth: dict[str, str], version: str
) -> None:
    answer = await wire.ask("POST", "/v1/messages", PROMPT, {**auth, "anthropic-version": version})

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-simulated"] == "true"
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["anthropic-organization-id"]
    assert sum(name.startswith("anthropic-ratelimit-") for name in answer.headers) == 12


@pytest.mark.parametrize(
    ("headers", "status", "kind"),
    [
        ({"anthropic-version": "2026-10-21"}, 401, "authentication_error"),
        ({"anthropic-version": "2026-10-21", "authorization": "Basic abc"}, 401, None),
        ({"anthropic-version": "2026-10-21", "authorization": "Bearer "}, 401, None),
        ({"anthropic-version": "2026-10-21", "x-api-key": ""}, 401, None),
        (KEY, 400, "invalid_request_error"),
        ({**KEY, "anthropic-version": "2024-01-01"}, 400, None),
    ],
)
async def test_a_request_without_key_or_version_is_refused(
    wire: Wire, headers: dict[str, str], status: int, kind: str | None
) -> None:
    answer = await wire.ask("POST", "/v1/messages", PROMPT, headers)

    assert answer.status == status
    assert answer.error["type"] == (kind or answer.error["type"])


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
async def test_sampling_parameters_end_with_the_new_version(wire: Wire, name: str) -> None:
    body = {**PROMPT, name: 1}
    old = {**KEY, "anthropic-version": "2023-06-01"}

    assert (await wire.ask("POST", "/v1/messages", body, old)).status == 200
    refused = await wire.ask("POST", "/v1/messages", body)
    assert refused.status == 400
    assert refused.error["message"].startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "model: Expected"),
        ({"model": ""}, "model: Expected `str` of length >= 1"),
        ({"max_tokens": 0}, "max_tokens: Expected `int` >= 1"),
        ({"max_tokens": "many"}, "max_tokens: Expected `int`"),
        ({"messages": []}, "messages: Expected `array` of length >= 1"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        ({"messages": [{"role": "assistant", "content": "I"}]}, "messages: the first message"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages.0.content.0.type: Field"),
        ({"stream": "yes"}, "stream: Expected `bool"),
    ],
)
async def test_a_wrong_field_is_named(wire: Wire, change: dict[str, object], message: str) -> None:
    answer = await wire.ask("POST", "/v1/messages", {**PROMPT, **change})

    assert answer.status == 400
    assert answer.error["message"].startswith(message)


@pytest.mark.parametrize("missing", ["model", "max_tokens", "messages"])
async def test_a_missing_field_is_named(wire: Wire, missing: str) -> None:
    body = {name: value for name, value in PROMPT.items() if name != missing}
    answer = await wire.ask("POST", "/v1/messages", body)

    assert (answer.status, answer.error["message"]) == (400, f"{missing}: Field required")


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_no_json_is_400(wire: Wire, body: bytes) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in AUTH.items())
    wire.writer.write(
        f"POST /v1/messages HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body
    )

    assert (await wire.answer()).status == 400


async def test_the_cli_s_health_checks_are_answered(wire: Wire) -> None:
    assert (await wire.ask("HEAD", "/", headers={})).status == 200
    assert (await wire.ask("HEAD", "/api/hello", headers={})).status == 200
    assert (await wire.ask("GET", "/api/hello", headers={})).status == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/messages"), ("POST", "/v1/complete"), ("GET", "/v1/models/x")]
)
async def test_what_is_not_there_is_404(wire: Wire, method: str, path: str) -> None:
    answer = await wire.ask(method, path)

    assert (answer.status, answer.error["type"]) == (404, "not_found_error")


async def test_the_connection_goes_on_after_errors_that_leave_it_whole(
    wire: Wire, simulator: Simulator
) -> None:
    for knobs in ('{"status":500}', '{"fault":"sse_error"}', '{"fault":"truncated_json"}', "{}"):
        body = {**PROMPT, "stream": True}
        await wire.ask("POST", "/v1/messages", body, {**AUTH, "x-fake": knobs})

    stats = simulator.stats()
    assert stats.connections_total == 1
    assert stats.outcomes == {"500": 1, "sse_error": 1, "truncated_json": 1, "200": 1}
