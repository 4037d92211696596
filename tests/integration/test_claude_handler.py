"""The Claude handler with the real SDK, against the simulator: what it gives, and how it fails."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from agentflow.errors import InvalidTask, KeyMissing, UsageError
from agentflow.handlers.claude import ClaudeHandler
from agentflow.handlers.contract import AttemptFailed, Outcome, Run
from agentflow.handlers.price_file import load as load_prices
from agentflow.protocol import limits
from agentflow.protocol.record import Usage
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task
from agentflow.rules.prices import Detail, cost_micro
from agentflow.rules.retry import Signal, decide
from agentflow.simulator import Simulator

KEY = "sk-ant-test-0123456789"


def run_of(shown: list[str] | None = None, **fields: Any) -> Run:
    given = {"prompt": "Write a haiku about queues", **fields}
    task = Task(id="t", queue="default", priority=Priority.NORMAL, **given)
    return Run(task, emit=(lambda _: None) if shown is None else shown.append)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Neither credentials nor prices of the machine."""
    for name in ("API_KEY", "AUTH_TOKEN", "PROFILE", "BASE_URL", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.delenv("ANTHROPIC_CONFIG_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("AGENTFLOW_PRICES", raising=False)
    yield
    gc.unfreeze()


@pytest.fixture(name="simulator")
async def _simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@asynccontextmanager
async def started(**options: Any) -> AsyncIterator[ClaudeHandler]:
    handler = ClaudeHandler(**{"api_key": KEY, **options})
    await handler.start()
    try:
        yield handler
    finally:
        await handler.close()


@pytest.fixture(name="handler")
async def _handler(simulator: Simulator) -> AsyncIterator[ClaudeHandler]:
    async with started(base_url=simulator.url, stall=30.0) as handler:
        yield handler


async def failure_of(handler: ClaudeHandler, run: Run) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        await handler(run)
    return caught.value


class TestAnswers:
    async def test_text_arrives_piece_by_piece_and_whole(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"text": "Grüße, 世界! " * 40, "chunks": 10})
        shown: list[str] = []
        run = run_of(shown)
        outcome = await handler(run)
        assert outcome == Outcome(text="Grüße, 世界! " * 40, stop_reason="end_turn")
        assert len(shown) == 10
        assert "".join(shown) == outcome.text

    async def test_what_an_attempt_spent_is_in_the_run(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode(
            {
                "usage": {
                    "input_tokens": 1_000,
                    "output_tokens": 500,
                    "cache_creation_input_tokens": 300,
                    "cache_read_input_tokens": 10_000,
                    "ephemeral_1h_input_tokens": 100,
                }
            }
        )
        run = run_of(model="claude-opus-5-5")
        await handler(run)
        assert run.usage == Usage(1_000, 500, 300, 10_000)
        hour = Detail(written_1h=100)
        assert run.cost_micro == cost_micro("claude-opus-5-5", run.usage, load_prices(), hour)
        assert run.cost_micro == 4_000 + 10_000 + 200 * 5 + 100 * 8 + 2_000
        assert run.model == "claude-opus-5-5"
        assert run.request_id == simulator.stats().log[0].request_id
        assert run.simulated
        assert run.first_token_s is not None
        assert run.first_token_s > 0

    async def test_a_model_without_a_price_has_no_cost(self, handler: ClaudeHandler) -> None:
        run = run_of(model="claude-new-9")
        await handler(run)
        assert run.usage.output_tokens > 0
        assert run.cost_micro is None

    async def test_the_defaults_are_those_of_the_readme(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"text": "word " * 10_000})
        run = run_of()
        outcome = await handler(run)
        assert simulator.stats().log[0].model == "claude-sonnet-5-5"
        assert simulator.stats().log[0].stream
        assert (outcome.stop_reason, run.usage.output_tokens) == ("max_tokens", 4096)

    async def test_long_answers_are_allowed(self, handler: ClaudeHandler) -> None:
        """Without streaming the SDK refuses more than 21,333 tokens."""
        assert (await handler(run_of(max_tokens=64_000))).text

    async def test_a_conversation_in_params(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"content": "echo"})
        messages = [
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Two"},
            {"role": "user", "content": [{"type": "text", "text": "Three"}]},
        ]
        params = {"messages": messages, "model": "claude-opus-5-5", "max_tokens": 99}
        outcome = await handler(run_of(prompt=None, params=params))
        assert outcome.text == "Three"
        assert simulator.stats().log[0].model == "claude-opus-5-5"

    async def test_a_stop_sequence_is_told(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"text": "one two three"})
        outcome = await handler(run_of(params={"stop_sequences": ["three"]}))
        assert outcome == Outcome(
            text="one two ", stop_reason="stop_sequence", value={"stop_sequence": "three"}
        )

    async def test_tool_calls_are_content(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        given = {"city": "Zürich", "days": [1, 2], "deep": {"a": None}}
        simulator.set_mode({"tools": [[{"name": "weather", "input": given}, {"name": "clock"}]]})
        outcome = await handler(run_of())
        assert (outcome.text, outcome.stop_reason) == (None, "tool_use")
        assert [(b["type"], b["name"], b["input"]) for b in outcome.content] == [
            ("tool_use", "weather", given),
            ("tool_use", "clock", {}),
        ]
        assert all(block["id"] for block in outcome.content)
        json.dumps(outcome.content)

    async def test_thinking_is_content_and_not_text(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"content": "thinking", "thinking": "Hm. " * 30, "text": "Yes. " * 9})
        shown: list[str] = []
        outcome = await handler(run_of(shown))
        assert outcome.text == "".join(shown) == "Yes. " * 9
        thought, answer = outcome.content
        assert (thought["type"], thought["thinking"]) == ("thinking", "Hm. " * 30)
        assert thought["signature"]
        assert answer == {"type": "text", "text": "Yes. " * 9}

    @pytest.mark.parametrize("content", ["refusal", "max_tokens", "pause_turn"])
    async def test_endings_that_are_results(
        self, content: str, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"content": content})
        outcome = await handler(run_of())
        assert outcome.stop_reason == content
        if content == "refusal":
            assert outcome.text is None
            assert outcome.value["stop_details"]["category"] == "general_harms"

    async def test_content_goes_into_the_next_request_as_it_is(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        """What is stored is what an agent's next turn has to send back."""
        simulator.set_mode({"tools": [{"name": "weather"}]})
        outcome = await handler(run_of())
        turns = [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": outcome.content},
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": outcome.content[0]["id"],
                        "content": "dry",
                    }
                ],
            },
        ]
        second = await handler(run_of(prompt=None, params={"messages": turns}))
        assert second.stop_reason == "end_turn"

    async def test_a_hundred_at_once_on_one_client(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"content": "echo", "latency": 0.2})
        prompts = [f"prompt {number}" for number in range(100)]
        outcomes = await asyncio.gather(*(handler(run_of(prompt=text)) for text in prompts))
        assert [outcome.text for outcome in outcomes] == prompts
        assert simulator.stats().max_in_flight > 10
        assert handler.pools()[handler.pool]["sonnet"]["in_flight"] == 0


STATUSES = {
    400: ("invalid_request_error", "invalid_request", False),
    401: ("authentication_error", "authentication", False),
    402: ("billing_error", "billing", False),
    403: ("permission_error", "permission", False),
    404: ("not_found_error", "not_found", False),
    408: ("timeout_error", "conflict", True),
    409: ("conflict_error", "conflict", True),
    413: ("request_too_large", "too_large", False),
    422: ("invalid_request_error", "invalid_request", False),
    429: ("rate_limit_error", "rate_limited", True),
    500: ("api_error", "server_error", True),
    502: ("api_error", "server_error", True),
    503: ("api_error", "server_error", True),
    504: ("timeout_error", "server_error", True),
    529: ("overloaded_error", "overloaded", True),
}


class TestFailures:
    @pytest.mark.parametrize("status", STATUSES)
    async def test_an_error_of_the_api(
        self, status: int, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        kind, reason, retried = STATUSES[status]
        simulator.set_mode({"status": status, "error_type": kind, "error_message": "because"})
        run = run_of()
        error = await failure_of(handler, run)
        assert error.signal == Signal(status=status, type=kind)
        entry = simulator.stats().log[0]
        assert (error.failure.type, error.failure.status) == (kind, status)
        assert (error.failure.message, error.failure.request_id) == ("because", entry.request_id)
        assert run.request_id == entry.request_id
        assert run.simulated
        assert (run.usage, run.cost_micro) == (Usage(), 0)
        assert simulator.stats().requests == 1, "the SDK must not retry by itself"
        decision = decide(error.signal, failures=0, max_attempts=5, random=lambda: 0.5)
        assert (decision.reason, decision.retry) == (reason, retried)

    @pytest.mark.parametrize(
        ("knobs", "signal"),
        [
            (
                {"status": 429, "retry_after": 7, "error_code": "ramp_limit_exceeded"},
                Signal(
                    status=429,
                    type="rate_limit_error",
                    code="ramp_limit_exceeded",
                    retry_after=7.0,
                ),
            ),
            (
                {"status": 429, "retry_after_ms": 1500, "retry_after": 7},
                Signal(status=429, type="rate_limit_error", retry_after=1.5),
            ),
            (
                {"status": 429, "retry_after": "Thu, 01 Jan 1970 00:00:00 GMT"},
                Signal(status=429, type="rate_limit_error", retry_after=0.0),
            ),
            (
                {"status": 429, "error_code": "enforced_spend_limit_reached"},
                Signal(status=429, type="rate_limit_error", code="enforced_spend_limit_reached"),
            ),
            (
                {"status": 529, "should_retry": False},
                Signal(status=529, type="overloaded_error", should_retry=False),
            ),
            (
                {"status": 400, "should_retry": True},
                Signal(status=400, type="invalid_request_error", should_retry=True),
            ),
        ],
    )
    async def test_what_headers_and_codes_say(
        self, knobs: dict[str, Any], signal: Signal, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode(knobs)
        assert (await failure_of(handler, run_of())).signal == signal

    @pytest.mark.parametrize("status", [500, 502, 403])
    async def test_a_page_of_a_proxy(
        self, status: int, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"fault": "html", "status": status})
        error = await failure_of(handler, run_of())
        assert error.signal == Signal(status=status)
        assert "gateway" in error.failure.message

    @pytest.mark.parametrize("fault", ["drop", "reset"])
    async def test_a_connection_lost_before_the_answer(
        self, fault: str, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"fault": fault})
        error = await failure_of(handler, run_of())
        assert error.signal == Signal(exception="dropped")
        assert "before an answer" in error.failure.message

    @pytest.mark.parametrize(
        ("fault", "category", "name"),
        [
            ("drop_mid", "dropped", "RemoteProtocolError"),
            ("malformed_sse", "broken_json", "JSONDecodeError"),
            ("truncated_json", "broken_json", "JSONDecodeError"),
        ],
    )
    async def test_an_answer_that_breaks_keeps_what_it_cost(
        self,
        fault: str,
        category: str,
        name: str,
        handler: ClaudeHandler,
        simulator: Simulator,
    ) -> None:
        simulator.set_mode({"fault": fault, "usage": {"input_tokens": 1_000}})
        shown: list[str] = []
        run = run_of(shown, model="claude-opus-5-5")
        error = await failure_of(handler, run)
        assert error.signal == Signal(exception=category)
        assert error.failure.type == name
        assert error.failure.request_id == run.request_id == simulator.stats().log[0].request_id
        assert shown
        assert run.usage.input_tokens == 1_000
        assert run.cost_micro is not None
        assert run.cost_micro >= 4_000

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("overloaded_error", "overloaded"),
            ("api_error", "server_error"),
            ("rate_limit_error", "rate_limited"),
            ("authentication_error", "authentication"),
            ("invalid_request_error", "invalid_request"),
        ],
    )
    async def test_an_error_within_the_stream(
        self, kind: str, reason: str, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode(
            {"fault": "sse_error", "error_type": kind, "usage": {"input_tokens": 1_000}}
        )
        run = run_of()
        error = await failure_of(handler, run)
        assert error.signal == Signal(status=200, type=kind)
        assert run.usage.input_tokens == 1_000
        decision = decide(error.signal, failures=0, max_attempts=5, random=lambda: 0.5)
        assert decision.reason == reason

    async def test_a_stall_within_the_answer(self, simulator: Simulator) -> None:
        simulator.set_mode({"stall": 60, "stall_after": 2, "usage": {"input_tokens": 1_000}})
        run = run_of()
        async with started(base_url=simulator.url, stall=1.0) as handler:
            error = await failure_of(handler, run)
        assert error.signal == Signal(exception="stalled")
        assert "no byte for 1 s" in error.failure.message
        assert run.usage.input_tokens == 1_000
        await simulator.wait_for(lambda: simulator.log.disconnects == 1)

    async def test_no_answer_at_all(self, simulator: Simulator) -> None:
        simulator.set_mode({"fault": "hang"})
        async with started(base_url=simulator.url, stall=1.0) as handler:
            error = await failure_of(handler, run_of())
        assert error.signal == Signal(exception="stalled")
        await simulator.wait_for(lambda: simulator.log.in_flight == 0)

    async def test_nobody_listens(self, free_port: Callable[[], int]) -> None:
        async with started(base_url=f"http://127.0.0.1:{free_port()}") as handler:
            error = await failure_of(handler, run_of())
        assert error.signal == Signal(exception="connection")
        assert "cannot be reached" in error.failure.message

    async def test_it_works_again_after_each_failure(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        faults = ["drop", "reset", "drop_mid", "malformed_sse", "sse_error", "html"]
        simulator.add_script([step for fault in faults for step in ({"fault": fault}, {})])
        for _ in faults:
            await failure_of(handler, run_of())
            assert (await handler(run_of())).stop_reason == "end_turn"
        state = handler.pools()[handler.pool]["sonnet"]
        assert state["in_flight"] == 0


class TestWrongTasks:
    @pytest.mark.parametrize(
        ("params", "complaint"),
        [
            ({"stream": True}, "params.stream"),
            ({"model": 7}, "params.model"),
            ({"messages": []}, "both prompt and params.messages"),
            ({"extra_headers": {"x": 3}}, "the SDK rejects"),
            ({"extra_headers": {"x y": "a"}}, "cannot be sent"),
        ],
    )
    async def test_are_never_sent(
        self,
        params: dict[str, Any],
        complaint: str,
        handler: ClaudeHandler,
        simulator: Simulator,
    ) -> None:
        with pytest.raises(InvalidTask, match=complaint):
            await handler(run_of(params=params))
        assert simulator.stats().requests == 0

    @pytest.mark.parametrize("params", [{"temperature": 1.0}, {"max_tokens": 0.5}])
    async def test_are_judged_by_the_api(
        self, params: dict[str, Any], handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        error = await failure_of(handler, run_of(params=params))
        assert error.signal == Signal(status=400, type="invalid_request_error")
        assert next(iter(params)) in error.failure.message


class TestCancel:
    @pytest.mark.parametrize(
        "knobs",
        [{"fault": "hang"}, {"stall": 60, "stall_after": 2}, {"tokens_per_s": 1}],
        ids=["before the answer", "in a silence", "between tokens"],
    )
    async def test_hangs_up_at_once(
        self, knobs: dict[str, Any], handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode(knobs | {"usage": {"input_tokens": 1_000}})
        seen = asyncio.Event()
        task = Task(id="t", queue="default", priority=Priority.NORMAL, prompt="Count")
        run = Run(task, emit=lambda _: seen.set())
        call = asyncio.create_task(handler(run))
        if "fault" in knobs:
            await simulator.wait_for(lambda: simulator.log.in_flight == 1)
        else:
            async with asyncio.timeout(10):
                await seen.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await simulator.wait_for(lambda: simulator.log.disconnects == 1)
        assert simulator.stats().log[0].disconnected
        assert run.usage.input_tokens == (0 if "fault" in knobs else 1_000)
        assert handler.pools()[handler.pool]["sonnet"]["in_flight"] == 0
        simulator.set_mode({})
        assert (await handler(run_of())).stop_reason == "end_turn"

    async def test_a_timeout_round_it_hangs_up_too(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        """Tokens drip, so no read ever times out: only the worker's own limit ends it."""
        simulator.set_mode({"tokens_per_s": 100, "text": "word " * 4_000, "chunks": 2_000})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await handler(run_of())
        await simulator.wait_for(lambda: simulator.log.disconnects == 1)


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

    async def test_no_stream_at_all_is_a_drop(self, serve: Any) -> None:
        url = await serve(b"<html>Please log in to this hotel's network</html>", True)
        async with started(base_url=url) as handler:
            assert (await failure_of(handler, run_of())).signal == Signal(exception="dropped")

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta"}},
            {"type": "content_block_delta", "index": 0},
            {"type": "message_start", "message": None},
        ],
    )
    async def test_events_that_make_no_sense(self, event: Any, serve: Any) -> None:
        url = await serve(self.events(self.START, event, *self.END), True)
        run = run_of()
        async with started(base_url=url) as handler:
            error = await failure_of(handler, run)
        assert error.signal == Signal(exception="broken_json")
        assert run.usage.input_tokens == 10

    async def test_it_hangs_up_on_what_it_cannot_read(self, serve: Any) -> None:
        """The API would go on generating, and the answer be paid for and read by nobody."""
        hung_up = asyncio.Event()
        body = self.events(self.START, {"type": "content_block_delta", "index": 7})
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


class TestCredentials:
    async def test_the_key_is_never_in_an_error(self, simulator: Simulator) -> None:
        simulator.set_mode({"status": 401, "error_message": f"the key {KEY} is not valid"})
        async with started(base_url=simulator.url) as handler:
            error = await failure_of(handler, run_of())
        assert KEY not in error.failure.message
        assert error.failure.message == "the key [key] is not valid"

    async def test_an_error_is_cut(self, handler: ClaudeHandler, simulator: Simulator) -> None:
        simulator.set_mode({"status": 400, "error_message": "x" * 100_000})
        error = await failure_of(handler, run_of())
        assert len(error.failure.message) == limits.ERROR_TEXT

    @pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
    async def test_come_from_the_environment(
        self, name: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.url)
        async with started(api_key=None) as handler:
            assert (await handler(run_of())).text
            other = handler.pool
        async with started() as handler:
            assert handler.pool == other, "a pool belongs to the credential, not to where it was"

    async def test_must_be_there(self) -> None:
        with pytest.raises(KeyMissing, match="ANTHROPIC_API_KEY"):
            await ClaudeHandler().start()

    async def test_a_pool_shows_nothing_of_the_key(self) -> None:
        async with started() as handler:
            assert len(handler.pool) == 10
            assert int(handler.pool, 16)
            assert handler.pool not in KEY
        async with started(pool="team-a") as handler:
            assert handler.pool == "team-a"
        with pytest.raises(UsageError, match="cannot name a pool"):
            ClaudeHandler(pool="team.a")

    @pytest.mark.parametrize("url", ["http://a:b:c", "localhost:8000", "ftp://localhost"])
    async def test_an_address_that_is_none_is_told_at_the_start(self, url: str) -> None:
        with pytest.raises(UsageError, match="no client for Claude can be made"):
            await ClaudeHandler(api_key=KEY, base_url=url).start()


class TestPools:
    async def test_the_last_rate_limits_are_kept_by_family(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        limited = {"limits": {"requests": 1, "burst": 60}}
        simulator.set_mode(limited)
        await handler(run_of(model="claude-opus-5-5"))
        error = await failure_of(handler, run_of(model="claude-opus-4-8"))
        await handler(run_of(model="claude-haiku-5-5"))
        assert error.signal.retry_after is not None
        pools = handler.pools()[handler.pool]
        assert sorted(pools) == ["haiku", "opus"]
        opus, haiku = pools["opus"], pools["haiku"]
        assert (opus["refused"], haiku["refused"]) == (1, 0)
        assert opus["limits"]["requests-limit"] == "1"
        assert opus["limits"]["requests-remaining"] == "0"
        assert len(opus["limits"]) == 12
        assert opus["limits_at"]
        json.dumps(pools)

    async def test_requests_in_flight_are_counted(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"stall": 60})
        calls = [asyncio.create_task(handler(run_of())) for _ in range(3)]
        await simulator.wait_for(lambda: simulator.log.in_flight == 3)
        assert handler.pools()[handler.pool]["sonnet"]["in_flight"] == 3
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert handler.pools()[handler.pool]["sonnet"]["in_flight"] == 0


class TestProcess:
    async def test_the_sdk_is_out_of_the_collectors_way(self, simulator: Simulator) -> None:
        """146,000 objects of the SDK would cost each full collection 90 ms of a stopped loop."""
        async with started(base_url=simulator.url):
            assert gc.get_freeze_count() > 100_000
            assert len(gc.get_objects()) < 10_000

    async def test_every_call_goes_over_one_client(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        for _ in range(20):
            await handler(run_of())
        assert simulator.stats().connections_total == 1

    async def test_close_ends_what_is_open(self, simulator: Simulator) -> None:
        async with started(base_url=simulator.url) as handler:
            await handler(run_of())
        await simulator.wait_for(lambda: simulator.log.connections == 0)
        with pytest.raises(RuntimeError, match="not started"):
            await handler(run_of())
        await handler.close()

    async def test_broken_prices_are_told_at_the_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "prices.json"
        path.write_text("{")
        monkeypatch.setenv("AGENTFLOW_PRICES", str(path))
        with pytest.raises(UsageError, match="cannot be read"):
            await ClaudeHandler(api_key=KEY).start()
