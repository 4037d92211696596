"""Keys as people have them, and where they must not be seen."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

import pytest

from agentflow.errors import InvalidTask, KeyMissing, UsageError
from agentflow.handlers.claude.handler import ClaudeHandler
from agentflow.simulator import Simulator

from .conftest import failure_of, run_of, started

KEY = "sk-own-SECRET0123456789"


class TestAtTheStart:
    @pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
    @pytest.mark.parametrize("after", ["\r", "\n", "\r\n", " ", "\t", "\u00a0", "\u2028"])
    async def test_blanks_and_line_ends_are_no_part_of_a_key(
        self, name: str, after: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, f" {KEY}{after}")
        async with started(api_key=None, base_url=simulator.url) as handler:
            assert (await handler(run_of())).text
            pool = handler.pool
        async with started(api_key=KEY) as handler:
            assert handler.pool == pool

    @pytest.mark.parametrize(
        ("key", "told"),
        [
            (f"“{KEY}”", "character 1 is U+201C"),
            (f"{KEY}\u200b", "character 24 is U+200B"),
            (f"{KEY[:6]} {KEY[6:]}", "character 7 is U+0020"),
            (f"{KEY[:6]}\r\n{KEY[6:]}", "character 7 is U+000D"),
            (f"{KEY}ü", "character 24 is U+00FC"),
            (f"{KEY}\ud83d", "character 24 is U+D83D"),
        ],
    )
    async def test_what_cannot_be_sent_is_refused_in_a_sentence(self, key: str, told: str) -> None:
        with pytest.raises(UsageError) as caught:
            await ClaudeHandler(api_key=key).start()
        text = str(caught.value)
        assert text.startswith("ANTHROPIC_API_KEY cannot be sent: ")
        assert told in text
        assert "SECRET" not in text

    @pytest.mark.parametrize("key", ["", " ", "\r\n"])
    async def test_a_blank_one_is_none(self, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", key)
        with pytest.raises(KeyMissing):
            await ClaudeHandler().start()

    async def test_an_empty_second_one_does_no_harm(
        self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "")
        async with started(api_key=None, base_url=simulator.url) as handler:
            assert (await handler(run_of())).text


class TestInTexts:
    @pytest.mark.parametrize(
        "knobs",
        [
            {"status": 401, "error_message": f"invalid key {KEY}"},
            {"status": 401, "error_message": f"invalid key {KEY[:20]}..."},
            {"status": 400, "error_type": KEY, "error_code": KEY, "error_message": repr(KEY)},
            {"fault": "sse_error", "error_type": KEY, "error_message": f"Bearer {KEY}"},
            {"raw": {"pieces": [f"<html>Bearer {KEY}</html>"]}},
            {"raw": {"pieces": [f'data: {{"{KEY}\n\n']}},
            {"raw": {"pieces": [], "headers": {"request-id": KEY}}},
            {"status": 403, "fault": "html"},
        ],
    )
    async def test_no_error_and_no_log_holds_it(
        self, knobs: dict[str, Any], simulator: Simulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        simulator.set_mode(knobs)
        run = run_of()
        with caplog.at_level(logging.DEBUG):
            async with started(api_key=KEY, base_url=simulator.url) as handler:
                error = await failure_of(handler, run)
        shown = "".join(traceback.format_exception(error))
        seen = f"{shown} {error} {error.failure} {error.signal} {run.request_id} {caplog.text}"
        assert "SECRET" not in seen

    async def test_a_request_id_is_one_short_line(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"raw": {"pieces": [], "headers": {"request-id": "\x80" + "r" * 5_000}}})
        run = run_of()
        await failure_of(handler, run)
        assert run.request_id is not None
        assert len(run.request_id) <= 128


class TestOfTasks:
    async def test_a_task_cannot_bring_its_own(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        with pytest.raises(InvalidTask, match="its own credential"):
            await handler(run_of(params={"extra_headers": {"X-Api-Key": "sk-other"}}))
        assert simulator.stats().requests == 0

    async def test_betas_are_sent_as_the_header(self) -> None:
        heads: list[bytes] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with started(base_url=url) as handler:
            await failure_of(handler, run_of(params={"betas": ["one-1", "two-2"]}))
        server.close()
        assert b"anthropic-beta: one-1,two-2" in heads[0]
