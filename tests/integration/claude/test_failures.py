"""What each failure of the API and of the way there becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentflow.errors import InvalidTask
from agentflow.handlers.claude.handler import ClaudeHandler
from agentflow.protocol.record import Usage
from agentflow.rules.retry import Signal, decide
from agentflow.simulator import Simulator

from .conftest import failure_of, run_of, started

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
    502: ("api_error", "unavailable", True),
    503: ("api_error", "unavailable", True),
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
        decision = decide(error.signal, failures=0, max_attempts=5, chance=0.5)
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
            ("drop_mid", "dropped", "ReadError"),
            ("malformed_sse", "broken_json", "Unreadable"),
            ("truncated_json", "broken_json", "Unreadable"),
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
        decision = decide(error.signal, failures=0, max_attempts=5, chance=0.5)
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

    @pytest.mark.parametrize(
        ("end", "category"), [("close", "dropped"), ("reset", "dropped"), ("hang", "stalled")]
    )
    async def test_an_error_that_never_ends(
        self, end: str, category: str, simulator: Simulator
    ) -> None:
        simulator.set_mode({"status": 500, "raw": {"pieces": ['{"type":"err'], "end": end}})
        async with started(base_url=simulator.url, stall=1.0) as handler:
            error = await failure_of(handler, run_of())
        assert error.signal == Signal(exception=category)

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
