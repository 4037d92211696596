"""The handler in its process: hanging up, credentials, pools, one client."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import pytest

from agentflow.errors import KeyMissing, UsageError
from agentflow.handlers.claude.handler import ClaudeHandler
from agentflow.handlers.contract import Run
from agentflow.protocol import limits
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task
from agentflow.simulator import Simulator

from .conftest import KEY, failure_of, run_of, started


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
