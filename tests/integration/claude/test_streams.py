"""Streams that end, break or surprise in ways the simulator does not make."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar, Final

import pytest

from agentflow.handlers.contract import Outcome
from agentflow.protocol.record import Usage
from agentflow.rules.retry import Signal

from .conftest import failure_of, run_of, started


class TestStreams:
    """Streams that the simulator does not make, from a bare socket."""

    HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_raw\r\n"
    START: ClassVar[dict[str, Any]] = {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-5-5",
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 10, "output_tokens": 1},
        },
    }
    TEXT: Final = (
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": "A"},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "B"}},
        {"type": "content_block_stop", "index": 0},
    )
    END: Final = (
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    )

    @staticmethod
    def events(*events: Any) -> bytes:
        return b"".join(
            f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
        )

    @pytest.fixture
    async def serve(self) -> AsyncIterator[Callable[..., Awaitable[str]]]:
        """Call it for the address of a server that sends a body, cut or whole, and closes.

        With `hung_up` it waits instead until the client closes, and then sets that event.
        """
        servers: list[asyncio.Server] = []

        async def start(
            body: bytes, whole: bool, *, lines: str = "", hung_up: asyncio.Event | None = None
        ) -> str:
            length = len(body) + (0 if whole else 10)
            head = self.HEAD + f"{lines}content-length: {length}\r\n\r\n".encode()

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                request = await reader.readuntil(b"\r\n\r\n")
                size = request.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
                await reader.readexactly(int(size))
                writer.write(head + body)
                await writer.drain()
                if hung_up is not None:
                    await reader.read()
                    hung_up.set()
                writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            servers.append(server)
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        yield start
        for server in servers:
            server.close()
            await server.wait_closed()

    async def test_a_whole_one(self, serve: Any) -> None:
        url = await serve(self.events(self.START, *self.TEXT, *self.END), True)
        run = run_of()
        async with started(base_url=url) as handler:
            outcome = await handler(run)
        assert outcome == Outcome(text="AB", stop_reason="end_turn")
        assert run.usage == Usage(10, 5)
        assert (run.model, run.request_id) == ("claude-opus-5-5", "req_raw")
        assert not run.simulated

    async def test_one_that_ends_early_is_a_drop(self, serve: Any) -> None:
        """Its connection is closed in order, so nothing below notices."""
        url = await serve(self.events(self.START, *self.TEXT), True)
        run = run_of()
        async with started(base_url=url) as handler:
            error = await failure_of(handler, run)
        assert error.signal == Signal(exception="dropped")
        assert run.usage.input_tokens == 10

    async def test_a_drop_after_the_last_event_is_none(self, serve: Any) -> None:
        url = await serve(self.events(self.START, *self.TEXT, *self.END), False)
        async with started(base_url=url) as handler:
            assert (await handler(run_of())).text == "AB"

    async def test_no_stream_at_all_is_told_as_what_it_is(self, serve: Any) -> None:
        url = await serve(b"<html>Please log in to this hotel's network</html>", True)
        async with started(base_url=url) as handler:
            error = await failure_of(handler, run_of())
        assert error.signal == Signal(status=200, type="not_an_answer")
        assert error.failure.message.endswith(": Please log in to this hotel's network")

    @pytest.mark.parametrize(
        ("event", "text"),
        [
            ({"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta"}}, ""),
            ({"type": "content_block_delta", "index": 0}, None),
            ({"type": "message_start", "message": None}, None),
        ],
    )
    async def test_events_that_say_nothing_cost_no_answer(
        self, event: Any, text: str | None, serve: Any
    ) -> None:
        url = await serve(self.events(self.START, event, *self.END), True)
        run = run_of()
        async with started(base_url=url) as handler:
            assert await handler(run) == Outcome(text=text, stop_reason="end_turn")
        assert run.usage == Usage(10, 5)

    async def test_it_hangs_up_on_what_it_cannot_read(self, serve: Any) -> None:
        """The API would go on generating, and the answer be paid for and read by nobody."""
        hung_up = asyncio.Event()
        body = self.events(self.START) + b'event: content_block_delta\ndata: {"type"\n\n'
        url = await serve(body, False, hung_up=hung_up)
        async with started(base_url=url) as handler:
            error = await failure_of(handler, run_of())  # held, and with it the stream's frames
            async with asyncio.timeout(10):
                await hung_up.wait()
        assert error.signal == Signal(exception="broken_json")

    async def test_headers_of_an_answer_that_began_well_say_nothing_of_its_error(
        self, serve: Any
    ) -> None:
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
        lines = "retry-after: 9\r\nx-should-retry: false\r\n"
        url = await serve(self.events(self.START, error), True, lines=lines)
        async with started(base_url=url) as handler:
            failed = await failure_of(handler, run_of())
        assert failed.signal == Signal(status=200, type="overloaded_error")
        assert failed.failure.request_id == "req_raw"

    @pytest.mark.parametrize("data", [b"null", b"[]", b"3", b'"\xff"'])
    async def test_data_that_is_no_event(self, data: bytes, serve: Any) -> None:
        broken = b"event: content_block_delta\ndata: " + data + b"\n\n"
        body = self.events(self.START) + broken + self.events(*self.END)
        async with started(base_url=await serve(body, True)) as handler:
            error = await failure_of(handler, run_of())
        assert error.signal == Signal(exception="broken_json")

    async def test_what_a_later_api_may_send_is_kept_or_passed_over(self, serve: Any) -> None:
        new = (
            {"type": "weather_report", "sun": True},
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "hologram", "size": 3},
            },
            {
                "type": "content_block_delta",
                "index": 1,
                "delta": {"type": "hologram_delta", "points": [1]},
            },
            {"type": "content_block_stop", "index": 1},
        )
        url = await serve(self.events(self.START, *self.TEXT, *new, *self.END), True)
        async with started(base_url=url) as handler:
            outcome = await handler(run_of())
        assert outcome.text == "AB"
        assert outcome.content[0] == {"type": "text", "text": "AB"}
        hologram = outcome.content[1]
        assert (hologram["type"], hologram["size"]) == ("hologram", 3)
        assert hologram["deltas"] == [{"type": "hologram_delta", "points": [1]}]

    async def test_a_tool_input_that_was_cut_is_kept_as_text(self, serve: Any) -> None:
        body = self.events(
            self.START,
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "tool_use", "id": "x", "name": "n", "input": {}},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": '{"a": "b'},
            },
            *self.END,
        )
        async with started(base_url=await serve(body, True)) as handler:
            outcome = await handler(run_of())
        assert outcome.content[0]["input"] == '{"a": "b'

    @pytest.mark.parametrize(
        "usage",
        [{"speed": "fast"}, {"inference_geo": "us"}],
        ids=["fast mode", "a pinned region"],
    )
    async def test_what_is_not_served_at_list_price_has_no_cost(
        self, usage: dict[str, str], serve: Any
    ) -> None:
        start = json.loads(json.dumps(self.START))
        start["message"]["usage"] |= usage
        url = await serve(self.events(start, *self.TEXT, *self.END), True)
        run = run_of()
        async with started(base_url=url) as handler:
            await handler(run)
        assert run.usage == Usage(10, 5)
        assert run.cost_micro is None

    async def test_searches_are_paid_for(self, serve: Any) -> None:
        end = json.loads(json.dumps(self.END))
        end[0]["usage"]["server_tool_use"] = {"web_search_requests": 2, "web_fetch_requests": 1}
        url = await serve(self.events(self.START, *self.TEXT, *end), True)
        run = run_of()
        async with started(base_url=url) as handler:
            await handler(run)
        assert run.cost_micro == 10 * 4 + 5 * 20 + 2 * 10_000
