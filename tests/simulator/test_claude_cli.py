"""Claude Code's CLI against the simulator, unchanged: `claude -p` in a home of its own.

Whether it succeeded, only `is_error` of a parsed result says: `subtype` is "success" for errors
too, and interrupted it may exit 0 without a word.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any

import pytest

from agentflow.simulator import Entry, Simulator
from tests.support import tools

pytestmark = pytest.mark.tools("claude")

PROMPT = "List three rivers"


class Cli:
    """The CLI in one home: a directory that nobody else has."""

    def __init__(self, simulator: Simulator, home: Path) -> None:
        self.home = home
        home.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "CLAUDE_CONFIG_DIR": str(home / "config"),
            "ANTHROPIC_API_KEY": "any",
            "ANTHROPIC_BASE_URL": simulator.url,
            "NO_PROXY": "127.0.0.1",
            # Without these it asks hosts elsewhere, and offline it waits for them.
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            # By default it retries for longer than a test may take.
            "CLAUDE_CODE_MAX_RETRIES": "1",
        }

    async def start(self, *arguments: str, prompt: str = PROMPT, **environment: str) -> Process:
        return await asyncio.create_subprocess_exec(
            tools.path("claude"),
            *("-p", prompt, "--output-format", "json", *arguments),
            cwd=self.home,
            env=self.environment | environment,
            stdin=DEVNULL,  # an open pipe it would read for three seconds
            stdout=PIPE,
            stderr=PIPE,
        )

    async def run(
        self, *arguments: str, prompt: str = PROMPT, **environment: str
    ) -> tuple[int | None, dict[str, Any]]:
        """The exit code and the result object."""
        process = await self.start(*arguments, prompt=prompt, **environment)
        out, err = await process.communicate()
        assert out, err.decode()
        result: dict[str, Any] = json.loads(out)
        assert result["type"] == "result"
        return process.returncode, result


@pytest.fixture(name="cli")
def _cli(simulator: Simulator, tmp_path: Path) -> Cli:
    return Cli(simulator, tmp_path / "home")


def posts(simulator: Simulator) -> list[Entry]:
    return [entry for entry in simulator.stats().log if entry.method == "POST"]


def outcomes(simulator: Simulator) -> list[tuple[int | None, bool]]:
    """Status and stream of each request."""
    return [(entry.status, entry.stream) for entry in posts(simulator)]


async def test_it_answers_with_what_the_simulator_says(cli: Cli, simulator: Simulator) -> None:
    code, result = await cli.run()

    [entry] = posts(simulator)
    assert (code, result["is_error"], result["num_turns"]) == (0, False, 1)
    assert result["result"].startswith("[SIMULATED] ")
    assert result["stop_reason"] == "end_turn"
    assert entry.prompt == PROMPT, "what the CLI wraps round it is not what the user said"
    assert entry.stream
    usage = result["usage"]
    assert usage["input_tokens"] == entry.input_tokens
    # What the CLI wraps round it is marked for the cache.
    assert usage["input_tokens"] + usage["cache_creation_input_tokens"] > 10_000
    assert result["usage"]["output_tokens"] == entry.output_tokens
    assert result["total_cost_usd"] > 0
    assert simulator.log.outcomes.keys() == {"200"}, "it knocks with HEAD / first"
    assert (cli.home / "config" / ".claude.json").exists()


async def test_without_its_tools_it_asks_for_little(cli: Cli, simulator: Simulator) -> None:
    bare = ("--bare", "--tools", "", "--system-prompt", "Be brief.", "--no-session-persistence")
    code, result = await cli.run(*bare, "--model", "claude-sonnet-5-5")

    [entry] = posts(simulator)
    assert (code, result["is_error"]) == (0, False)
    assert entry.model == "claude-sonnet-5-5"
    assert entry.input_tokens < 1_000


async def test_a_header_of_the_user_sets_the_knobs(cli: Cli) -> None:
    knobs = json.dumps({"text": "forty-two", "usage": {"input_tokens": 7, "output_tokens": 5}})
    _, result = await cli.run(ANTHROPIC_CUSTOM_HEADERS=f"x-fake: {knobs}")

    assert result["result"] == "forty-two"
    assert (result["usage"]["input_tokens"], result["usage"]["output_tokens"]) == (7, 5)


async def test_it_runs_the_tools_that_are_called_for(cli: Cli, simulator: Simulator) -> None:
    (cli.home / "rivers.txt").write_text("Loire, Ebro and Drava\n")
    call = {"name": "Read", "input": {"file_path": str(cli.home / "rivers.txt")}}
    simulator.set_mode({"tools": [call], "text": "done"})
    code, result = await cli.run()

    assert (code, result["result"], result["num_turns"]) == (0, "done", 2)
    first, second = posts(simulator)
    assert (first.status, second.status) == (200, 200)
    assert result["usage"]["input_tokens"] == first.input_tokens + second.input_tokens


async def test_an_overload_meets_only_the_task_it_is_meant_for(
    cli: Cli, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.add_script([{"status": 529, "retry_after_ms": 5}], match="[meets-529]")
    other = Cli(simulator, tmp_path / "other")
    ended = await asyncio.gather(cli.run(prompt=f"{PROMPT} [meets-529]"), other.run())

    assert [(code, result["is_error"]) for code, result in ended] == [(0, False), (0, False)]
    met = [entry.status for entry in posts(simulator) if "[meets-529]" in entry.prompt]
    spared = [entry.status for entry in posts(simulator) if "[meets-529]" not in entry.prompt]
    assert (met, spared) == ([529, 200], [200])


@pytest.mark.parametrize(
    ("status", "requests"), [(400, [(400, True)]), (404, [(404, True), (404, False)])]
)
async def test_a_wrong_request_is_not_retried(
    cli: Cli, simulator: Simulator, status: int, requests: list[tuple[int, bool]]
) -> None:
    simulator.set_mode({"status": status, "error_message": "so it is"})
    code, result = await cli.run()

    assert (code, result["is_error"], result["api_error_status"]) == (1, True, status)
    assert result["total_cost_usd"] == 0
    assert outcomes(simulator) == requests
    if status == 400:
        assert result["result"] == "API Error: 400 so it is"


async def test_an_overload_that_lasts_is_an_error(cli: Cli, simulator: Simulator) -> None:
    simulator.set_mode({"status": 529, "retry_after_ms": 5})
    code, result = await cli.run()

    assert (code, result["is_error"], result["api_error_status"]) == (1, True, 529)
    assert result["subtype"] == "success", "which is why nobody may look at it"
    assert outcomes(simulator) == [(529, True), (529, True)]


async def test_a_stream_that_breaks_is_asked_for_again_in_one_piece(
    cli: Cli, simulator: Simulator
) -> None:
    simulator.add_script([{"fault": "drop_mid"}], match=PROMPT)
    code, result = await cli.run()

    assert (code, result["is_error"]) == (0, False)
    assert result["result"].startswith("[SIMULATED] ")
    assert outcomes(simulator) == [(200, True), (200, False)], "both are paid for"


async def test_without_a_key_it_says_so(cli: Cli, simulator: Simulator) -> None:
    code, result = await cli.run(ANTHROPIC_API_KEY="")

    assert (code, result["is_error"], result["api_error_status"]) == (1, True, None)
    assert "Not logged in" in result["result"]
    assert posts(simulator) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted_it_has_no_good_result_whatever_its_exit_code(
    cli: Cli, simulator: Simulator, number: signal.Signals
) -> None:
    simulator.set_mode({"fault": "hang"})
    process = await cli.start()
    await simulator.wait_for(lambda: bool(posts(simulator)), timeout=30)
    process.send_signal(number)
    out, _ = await process.communicate()

    # Mostly silence and, after SIGINT, exit code 0; now and then a result object of an error.
    assert out == b"" or json.loads(out)["is_error"] is True
    await simulator.wait_for(lambda: simulator.log.in_flight == 0)
    assert [entry.disconnected for entry in posts(simulator)] == [True]
