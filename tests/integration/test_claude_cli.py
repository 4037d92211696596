"""Kind `claude-cli` with the real CLI in front of a simulator.

A start of it takes half a second of a core, so a test looks at much, and what may run at once does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentflow.errors import ClaudeMissing, KeyMissing, StackError, UsageError
from agentflow.handlers import price_file
from agentflow.handlers.claude_cli.handler import ClaudeCliHandler
from agentflow.handlers.contract import AttemptFailed, Run
from agentflow.protocol.record import State, Usage
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task
from agentflow.rules.retry import Signal, rule_of
from agentflow.rules.routes.prices import cost_micro
from agentflow.simulator import Entry, Simulator
from tests.integration.conftest import StartWorker
from tests.support import tools
from tests.support.observer import Observer
from tests.support.until import until

pytestmark = pytest.mark.timeout(90)
needs_cli = pytest.mark.tools("claude")

MODEL = "claude-sonnet-5-5"
KEY = "sk-ant-test-0123456789"


def task_of(task_id: str = "t", **fields: Any) -> Task:
    params = {"bare": True, **fields.pop("params", {})}  # it starts in less time
    given = {"prompt": f"Do {task_id}", "model": MODEL, "params": params, **fields}
    return Task(id=task_id, queue="default", priority=Priority.NORMAL, kind="claude-cli", **given)


def bash(command: str) -> dict[str, Any]:
    return {"tools": [{"name": "Bash", "input": {"command": command}}], "text": "done"}


def posts(simulator: Simulator, prompt: str = "") -> list[Entry]:
    entries = simulator.stats().log
    return [entry for entry in entries if entry.method == "POST" and prompt in entry.prompt]


@pytest.fixture(name="simulator")
async def _simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture(name="environ")
def _environ(simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    """All that the handler knows of the machine."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": simulator.url,
        "AGENTFLOW_CLAUDE": str(tools.claude_cli() or sys.executable),
        "AGENTFLOW_WORKSPACES": str(tmp_path / "workspaces"),
        "AGENTFLOW_PASSWORD": "of the worker",
    }


@asynccontextmanager
async def started(environ: dict[str, str]) -> AsyncIterator[ClaudeCliHandler]:
    handler = ClaudeCliHandler(environ)
    await handler.start()
    try:
        yield handler
    finally:
        await handler.close()


@pytest.fixture(name="handler")
async def _handler(environ: dict[str, str]) -> AsyncIterator[ClaudeCliHandler]:
    async with started(environ) as handler:
        yield handler


def pids_in(path: Path, count: int) -> list[int]:
    """Process ids that a run has written, once there are so many; with them the guard's."""
    try:
        found = [int(line) for line in path.read_text().split()]
    except FileNotFoundError:
        return []
    return found if len(found) >= count else []


def alive(pids: Sequence[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def children_like(name: str) -> list[psutil.Process]:
    """Processes below this one with such a word in their command line."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(name in word for word in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue  # a zombie is none either
    return found


# A child, one in a session of its own, and one that has lost its parent as well.
FAMILY = "echo $$ $PPID > pids; sleep 600 & echo $! >> pids; (setsid sleep 600 & echo $! >> pids)"


@needs_cli
async def test_it_works_in_a_folder_of_the_task(
    simulator: Simulator, handler: ClaudeCliHandler, tmp_path: Path
) -> None:
    write = {"name": "Write", "input": {"file_path": "out/new.txt", "content": "rivers"}}
    look = {"name": "Bash", "input": {"command": "cp given.txt copy.txt; env > env.txt; " + FAMILY}}
    simulator.set_mode({"tools": [write, look], "text": "Three rivers"})
    shown: list[str] = []
    task = task_of(
        system="Be brief.",
        max_tokens=1234,
        params={
            "bare": False,
            "tools": ["Write", "Bash"],
            "allowed_tools": ["Bash", "Read(./**)"],
            "permission_mode": "acceptEdits",
            "max_turns": 9,
            "max_budget_usd": 9.5,
            "effort": "low",
            "mcp_config": {"mcpServers": {}},
            "agents": {"one": {"description": "d", "prompt": "p"}},
            "files": {"given.txt": "Loire\n", "raw/b": {"base64": "AAH/"}},
            "collect": ["**/*.txt", "raw/*", "pids"],
        },
    )
    run = Run(task, emit=shown.append)
    outcome = await handler(run)

    asked = posts(simulator)
    assert [(entry.status, entry.model) for entry in asked] == [(200, MODEL)] * 3
    assert (outcome.text, outcome.stop_reason) == ("Three rivers", "end_turn")
    assert "".join(shown) == "Three rivers"
    value = outcome.value
    environment = value["files"].pop("env.txt")
    pids = [int(pid) for pid in value["files"].pop("pids").split()]
    assert value["files"] == {
        "given.txt": "Loire\n",
        "copy.txt": "Loire\n",
        "out/new.txt": "rivers",
        "raw/b": {"base64": "AAH/"},
    }
    assert (value["num_turns"], value["workspace"], value["permission_denials"]) == (3, None, [])
    assert value["session_id"]
    assert value["duration_ms"] > 0
    # What it cost, as if kind `claude` had asked the same.
    assert run.usage.input_tokens == sum(entry.input_tokens for entry in asked)
    assert run.usage.output_tokens == sum(entry.output_tokens for entry in asked)
    # What it says in every turn is marked for the cache: written once, read by the two that follow.
    assert run.usage.cache_creation_input_tokens < run.usage.cache_read_input_tokens
    priced = cost_micro(MODEL, run.usage, price_file.load())
    assert priced is not None
    assert run.cost_micro == pytest.approx(priced, abs=3), "each turn is rounded by itself"
    assert run.model == MODEL
    assert run.request_id is not None
    assert run.simulated
    # Nothing of it is left, and nothing of the worker's was to be seen.
    assert alive(pids) == []
    await handler.close()
    assert list((tmp_path / "workspaces" / "tasks").iterdir()) == []
    assert list((tmp_path / "workspaces" / "trash").iterdir()) == []
    assert "AGENTFLOW_" not in environment
    assert f"HOME={tmp_path / 'workspaces' / 'tasks' / 't' / 'home'}\n" in environment


@needs_cli
async def test_what_the_first_request_meets_goes_to_the_retry_table(
    simulator: Simulator, handler: ClaudeCliHandler, tmp_path: Path
) -> None:
    answers: dict[str, tuple[dict[str, Any], Signal, str]] = {
        "a529": ({"status": 529}, Signal(status=529), "overloaded"),
        "a429": (
            {"status": 429, "retry_after": 7},
            Signal(status=429, retry_after=7.0),
            "rate_limited",
        ),
        "a401": (
            {"status": 401},
            Signal(status=401, type="authentication_error"),
            "authentication",
        ),
        "a400": ({"status": 400}, Signal(status=400), "invalid_request"),
    }
    for name, (knobs, _, _) in answers.items():
        simulator.add_script([knobs], match=f"Do {name}")
    runs = {name: Run(task_of(name)) for name in answers}
    ended = await asyncio.gather(*map(handler, runs.values()), return_exceptions=True)

    for (name, (_, signal_, reason)), error in zip(answers.items(), ended, strict=True):
        assert isinstance(error, AttemptFailed), name
        assert (error.signal, rule_of(error.signal).reason) == (signal_, reason)
        assert error.failure.status == signal_.status
        assert len(posts(simulator, f"Do {name}")) == 1, "the task's log tries again, nobody else"
        assert (runs[name].usage, runs[name].cost_micro) == (Usage(), 0)
    # The folder waits for the next attempt.
    assert {path.name for path in (tmp_path / "workspaces" / "tasks").iterdir()} == set(answers)


@needs_cli
async def test_what_later_requests_meet_does_not_begin_it_anew(
    simulator: Simulator, handler: ClaudeCliHandler
) -> None:
    turn = bash("echo 1")["tools"]
    simulator.add_script(
        [{"tools": turn}, {"status": 529, "retry_after_ms": 5}, {"text": "after"}], match="Do busy"
    )
    simulator.add_script([{"fault": "drop_mid"}, {"text": "again"}], match="Do broken")
    busy, broken = Run(task_of("busy", params={"tools": ["Bash"]})), Run(task_of("broken"))
    outcomes = await asyncio.gather(handler(busy), handler(broken))

    assert [outcome.text for outcome in outcomes] == ["after", "again"]
    # Asked twice, paid for twice; the CLI counts only the second.
    first, second = posts(simulator, "Do broken")
    others = [entry.status for entry in posts(simulator) if entry not in (first, second)]
    assert others == [200, 529, 200]
    assert broken.usage.input_tokens == first.input_tokens + second.input_tokens


@needs_cli
async def test_a_cancelled_run_ends_with_all_that_it_started(
    simulator: Simulator, handler: ClaudeCliHandler, tmp_path: Path
) -> None:
    simulator.set_mode(bash(f"{FAMILY}; wait"))
    run = Run(task_of(params={"tools": ["Bash"], "allowed_tools": ["Bash"]}))
    work = asyncio.create_task(handler(run))
    pids = tmp_path / "workspaces" / "tasks" / "t" / "work" / "pids"
    await until(lambda: pids_in(pids, 4))
    started = pids_in(pids, 4)
    assert sorted(alive(started)) == sorted(started)
    guard = psutil.Process(started[1]).ppid()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert alive([*started, guard]) == []
    [entry] = posts(simulator)
    assert run.usage == Usage(entry.input_tokens, entry.output_tokens), "it is paid all the same"
    assert run.cost_micro


@needs_cli
async def test_nothing_outlives_a_killed_worker(
    simulator: Simulator, environ: dict[str, str], tmp_path: Path
) -> None:
    simulator.set_mode(bash(f"{FAMILY}; wait"))
    task = {"tools": ["Bash"], "allowed_tools": ["Bash"], "bare": True}
    program = (
        "import asyncio\n"
        "from agentflow.handlers.claude_cli.handler import ClaudeCliHandler\n"
        "from agentflow.handlers.contract import Run\n"
        "from agentflow.protocol.subjects import Priority\n"
        "from agentflow.protocol.task import Task\n"
        "async def main():\n"
        "    handler = ClaudeCliHandler()\n"
        "    await handler.start()\n"
        f"    task = Task(id='t', queue='q', priority=Priority.LOW, prompt='x', params={task!r})\n"
        "    await handler(Run(task))\n"
        "asyncio.run(main())\n"
    )
    environment = {**environ, "PYTHONPATH": str(tools.ROOT)}
    worker = subprocess.Popen([sys.executable, "-c", program], env=environment)
    try:
        pids = tmp_path / "workspaces" / "tasks" / "t" / "work" / "pids"
        await until(lambda: pids_in(pids, 4) or worker.poll() is not None)
        started = pids_in(pids, 4)
        assert alive(started)
    finally:
        worker.kill()
        worker.wait()
    await until(lambda: not alive(started))


@needs_cli
async def test_without_a_result_an_exit_status_of_zero_is_no_success(
    simulator: Simulator, handler: ClaudeCliHandler, environ: dict[str, str]
) -> None:
    simulator.set_mode({"fault": "hang"})
    work = asyncio.create_task(handler(Run(task_of())))
    await simulator.wait_for(lambda: bool(posts(simulator)), timeout=30)
    [guard, cli] = children_like(environ["AGENTFLOW_CLAUDE"])
    assert cli.ppid() == guard.pid
    cli.send_signal(signal.SIGINT)
    with pytest.raises(AttemptFailed) as caught:
        await work
    # Interrupted a moment earlier or later, the CLI still writes a result: an error of its own.
    if "[ede_diagnostic]" not in str(caught.value):
        assert "without a result (exit status 0)" in str(caught.value)
        assert caught.value.failure.type == "claude_cli_broken"
        assert caught.value.signal == Signal(exception="broken_json")


@needs_cli
async def test_a_named_workspace_stays_and_its_session_goes_on(
    simulator: Simulator, handler: ClaudeCliHandler, tmp_path: Path
) -> None:
    session = "11111111-2222-4333-8444-555555555555"
    simulator.set_mode(bash("echo 1 >> turns"))
    params = {"workspace": "w", "tools": ["Bash"], "allowed_tools": ["Bash"], "collect": ["turns"]}
    first = await handler(Run(task_of("first", params={**params, "session_id": session})))
    simulator.set_mode({"text": "I remember"})
    second = await handler(Run(task_of("second", params={**params, "resume": session})))

    assert first.value["session_id"] == second.value["session_id"] == session
    assert second.value["files"] == {"turns": "1\n"}
    work = tmp_path / "workspaces" / "named" / "w" / "work"
    assert second.value["workspace"] == str(work)
    assert (work / "turns").exists()
    *_, before, after = posts(simulator)
    assert after.input_tokens > before.input_tokens, "what was said before is asked along"


@needs_cli
async def test_a_worker_runs_it_and_ends_it_in_time(
    simulator: Simulator, handler: ClaudeCliHandler, observer: Observer, start_worker: StartWorker
) -> None:
    simulator.add_script([{"fault": "hang"}], match="Do hang")
    simulator.add_script([{"text": "forty-two"}], match="Do well")
    await start_worker({"claude-cli": handler})
    common = {"kind": "claude-cli", "model": MODEL, "params": {"bare": True}}
    for name, more in {
        "hang": {"timeout": 2, "max_attempts": 1},
        "well": {},
        "wrong": {"params": {"max_turn": 3}},
    }.items():
        await observer.submit({"id": name, "prompt": f"Do {name}", **common, **more})
    well, hang, wrong = [await observer.ended(name) for name in ("well", "hang", "wrong")]

    assert (well.state, well.text, well.simulated) == (State.SUCCEEDED, "forty-two", True)
    assert well.cost_usd
    assert (hang.state, hang.reason) == (State.FAILED, "timeout")
    # A busy machine may not have come to its request in this time.
    assert all(entry.disconnected for entry in posts(simulator, "Do hang"))
    assert wrong.error is not None
    assert "no params.max_turn; it has tools," in wrong.error.message
    assert children_like("claude_cli/guard") == []


# Without the CLI.


async def test_a_worker_without_the_program_or_a_key_does_not_start(
    environ: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ClaudeMissing, match=r"AGENTFLOW_CLAUDE names .*npm install -g"):
        await ClaudeCliHandler({**environ, "AGENTFLOW_CLAUDE": str(tmp_path / "none")}).start()
    with pytest.raises(ClaudeMissing, match="it is not in PATH"):
        await ClaudeCliHandler({**environ, "AGENTFLOW_CLAUDE": "", "PATH": str(tmp_path)}).start()
    with pytest.raises(KeyMissing):
        await ClaudeCliHandler({**environ, "ANTHROPIC_API_KEY": ""}).start()
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="AGENTFLOW_WORKSPACES"):
        await ClaudeCliHandler(
            {**environ, "AGENTFLOW_WORKSPACES": str(tmp_path / "file" / "in")}
        ).start()
    with pytest.raises(UsageError, match="AGENTFLOW_CLAUDE_CLI_CONCURRENCY is 'x', not 1 to 1000"):
        ClaudeCliHandler({**environ, "AGENTFLOW_CLAUDE_CLI_CONCURRENCY": "x"})


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_a_program_that_vanishes_is_worth_another_try(
    environ: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "claude"
    environ["AGENTFLOW_CLAUDE"] = program(path, "exit 0")
    async with started(environ) as handler:
        path.unlink()
        with pytest.raises(AttemptFailed, match="npm install") as caught:
            await handler(Run(task_of()))
    assert caught.value.failure.type == "claude_cli_missing"
    assert rule_of(caught.value.signal).reason == "handler_error"


async def test_tasks_of_one_workspace_take_turns_and_only_so_many_run(
    environ: dict[str, str], tmp_path: Path
) -> None:
    result = json.dumps({"type": "result", "is_error": False, "result": "ok"})
    environ["AGENTFLOW_CLAUDE"] = program(
        tmp_path / "claude",
        # Each says that it is there, and finds nobody who has not left.
        f'mkdir "{tmp_path}/one" || exit 9; sleep 0.05; rmdir "{tmp_path}/one"; echo \'{result}\'',
    )
    async with started(environ) as handler:
        runs = [Run(task_of(f"t{n}", params={"workspace": "shared"})) for n in range(4)]
        assert [outcome.text for outcome in await asyncio.gather(*map(handler, runs))] == ["ok"] * 4
    async with started({**environ, "AGENTFLOW_CLAUDE_CLI_CONCURRENCY": "1"}) as handler:
        runs = [Run(task_of(f"t{n}")) for n in range(4)]
        assert [outcome.text for outcome in await asyncio.gather(*map(handler, runs))] == ["ok"] * 4


async def test_the_route_is_that_of_kind_claude_with_the_same_key(environ: dict[str, str]) -> None:
    from agentflow.handlers.claude.handler import ClaudeHandler

    async with started(environ) as handler:
        other = ClaudeHandler(api_key=KEY, base_url=environ["ANTHROPIC_BASE_URL"])
        await other.start()
        assert handler.route(task_of()) == other.route(task_of()) == (handler.pool, "sonnet")
        await other.close()
    assert handler.route(task_of(model="opus[1m]"))[1] == "opus"
    assert KEY not in handler.pool
