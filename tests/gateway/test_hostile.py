"""What strangers send: half requests, slow ones, wrong ones. They are refused, others served."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow.client import Client
from agentflow.errors import AgentFlowError
from agentflow.gateway import server
from agentflow.gateway.http import call
from agentflow.gateway.routes.submitting import decoded
from tests.gateway.conftest import Serve, Served

HEAD = b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


async def fine(served: Served) -> None:
    """Others are served."""
    assert (await served.get("/livez")).status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 500 + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX y\r\n\r\n", 400),
        # What a proxy and we might read as two requests.
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
    ],
)
async def test_what_is_no_request_is_refused(serve: Serve, request_: bytes, status: int) -> None:
    served = await serve()
    answer = await served.raw(request_)
    assert answer.startswith(b"HTTP/1.") and int(answer.split()[1]) == status, answer[:200]
    await fine(served)


async def test_who_sends_half_a_request_is_not_waited_for(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_WITHIN", 0.5)
    monkeypatch.setattr(call, "BODY_WITHIN", 0.5)
    served = await serve()
    assert await served.raw(b"") == b""
    assert await served.raw(b"GET /livez HTTP/1.1\r\nHost: loc") == b""
    slow = await served.raw(HEAD + b'Content-Length: 50\r\n\r\n{"prompt"')
    assert slow.startswith(b"HTTP/1.1 408")
    await fine(served)


async def test_a_trickle_is_cut_like_silence(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_WITHIN", 0.6)
    served = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    reading = asyncio.create_task(reader.read())
    for byte in b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1000:
        if reading.done():
            break
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)
    assert reading.done(), "a byte now and then keeps no connection"
    writer.close()
    await fine(served)


async def test_an_address_holds_so_many_connections(serve: Serve) -> None:
    served = await serve(connections=5)
    held = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(5)]
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    assert await reader.read() == b"", "the sixth is closed"
    for _, each in [*held, (reader, writer)]:
        each.close()
    async with asyncio.timeout(20):
        while served.gateway.connections():
            await asyncio.sleep(0.02)
    await fine(served)


async def test_nothing_unfolds(serve: Serve) -> None:
    served = await serve()
    bomb = gzip.compress(b" " * 50_000_000)
    for encoding in ("gzip", "deflate", "br"):
        refused = await served.ask(
            "POST",
            "/v1/tasks",
            data=bomb,
            headers={"Content-Type": "application/json", "Content-Encoding": encoding},
        )
        assert refused.status == 415
    await fine(served)


async def test_a_body_that_never_ends_is_cut(serve: Serve, client: Client) -> None:
    served = await serve()

    async def endless() -> Any:
        while True:
            yield b'{"prompt": "' + b"x" * 65_536

    kind = {"Content-Type": "application/json"}
    try:
        answer = await served.ask("POST", "/v1/tasks/cancel", data=endless(), headers=kind)
    except OSError:
        pass  # closed while it was still sending
    else:
        assert answer.status == 413
    long = await served.raw(
        b"POST /v1/tasks/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65_536 + b"\r\n") * 66
    )
    assert b'"status":413' in long
    await fine(served)


async def test_paths_lead_nowhere_else(serve: Serve) -> None:
    served = await serve()
    for path in (
        "/v1/tasks/..%2f..%2fetc%2fpasswd",
        "/v1/tasks/a%00b",
        "/v1/tasks/" + "a" * 65,
        "/v1/tasks/a.b",
        "//v1/tasks/a",
        "/v1/tasks/{name}",
        "/{rest}.x",
        "/page/..",
    ):
        answer = await served.raw(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        assert answer.split()[1] in (b"404", b"400"), path
    assert (await served.ask("DELETE", "/v1/tasks")).headers["Allow"] == "GET, POST"
    assert (await served.ask("PATCH", "/v1/tasks")).status == 405
    assert (await served.ask("BREW", "/v1/tasks")).status == 400
    head = await served.ask("HEAD", "/livez")
    assert (head.status, head.body) == (200, b"")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["prompt", "params", "labels", "queue", "priority", "kind", "id", "timeout", "batch", "x"]
)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(
        st.binary(),
        JSON.map(json.dumps).map(str.encode),
        st.dictionaries(FIELDS, JSON).map(json.dumps).map(str.encode),
    )
)
def test_any_body_is_a_task_or_refused_in_a_sentence(data: bytes) -> None:
    said = "a task"
    try:
        decoded(data)
    except AgentFlowError as error:
        said = str(error)
    assert said


def nested(depth: int) -> Iterator[bytes]:
    yield b'{"prompt": "x", "params": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    yield b"[" * depth


async def test_what_is_nested_without_end_is_refused(serve: Serve) -> None:
    served = await serve()
    for data in nested(100_000):
        answer = await served.ask(
            "POST", "/v1/tasks", data=data, headers={"Content-Type": "application/json"}
        )
        assert answer.status in (400, 422)
        assert answer.json["detail"]
    await fine(served)
