"""The program itself: what it imports, how it ends, what it says."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from agentflow import __version__, cli
from agentflow.cli import COMMANDS, main
from agentflow.errors import AgentFlowError, MasterAbsent, TaskFailed
from tests.cli.conftest import Here, environment, run

MODULES = "import sys, json; from agentflow.cli import main; code = main(sys.argv[1:]); "
MODULES += "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)"


HEAVY = {"agentflow_tui", "aiohttp", "anthropic", "jsonschema_rs", "pydantic", "rich", "textual"}
"""What costs a process megabytes and tenths of a second."""


def modules(env: dict[str, str], *arguments: str) -> tuple[int, set[str]]:
    """Exit code, and what a command has imported when it is done."""
    done = subprocess.run(
        [sys.executable, "-c", MODULES, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    code, names = json.loads(done.stderr.splitlines()[-1])
    return code, {name.split(".")[0] for name in names}


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["nonsense"]])
def test_what_needs_no_server_imports_no_nats(arguments: list[str], tmp_path: Path) -> None:
    _, found = modules(environment(tmp_path), *arguments)
    assert not found & (HEAVY | {"nats", "asyncio"})


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "simulator"])
def test_help_imports_nothing_heavy(name: str, tmp_path: Path) -> None:
    code, found = modules(environment(tmp_path), name, "--help")
    assert code == 0
    assert not found & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "x"],
        ["submit", "x", "--wait"],
        ["get", "x"],
        ["list"],
        ["watch", "x"],
        ["workers"],
        ["stats"],
        ["doctor"],
        ["streams", "show"],
    ],
)
def test_a_command_never_imports_the_sdk_or_a_terminal_library(
    arguments: list[str], tmp_path: Path
) -> None:
    env = environment(tmp_path, AGENTFLOW_NATS="nats://127.0.0.1:1")
    code, found = modules(env, *arguments)
    assert code != 0
    assert not found & (HEAVY | {"httpx"})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, cli: Here) -> None:
    done = cli(name, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: agentflow {name}")
    assert done.err == ""


def test_the_list_of_commands(cli: Here) -> None:
    done = cli("--help")
    assert all(f"  {name} " in done.out for name in COMMANDS)
    assert cli("--version").out == f"agentflow, version {__version__}\n"


def test_a_command_that_is_not_there_fails_only_when_called(
    cli: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMMANDS, "later", ("later", "Comes later."))
    assert "Comes later." in cli("--help").out
    done = cli("later")
    assert (done.code, done.err) == (
        1,
        "agentflow: `agentflow later` is not part of this installation\n",
    )


def test_wrong_usage_ends_with_2(cli: Here) -> None:
    for arguments in (["nonsense"], ["get"], ["list", "--state", "odd"], ["stats", "--what"]):
        done = cli(*arguments)
        assert (done.code, done.out) == (2, "")
        assert "Error: " in done.err


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @click.command("stats")
    def command() -> None:
        raise error

    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: command)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (AgentFlowError("a sentence"), 1, "agentflow: a sentence\n"),
        (TaskFailed("task x failed\x1b[2J"), 1, "agentflow: task x failed\n"),
        (MasterAbsent(), 3, f"agentflow: {MasterAbsent.__doc__}\n"),
        (ValueError("odd"), 1, "unexpected ValueError: odd (AGENTFLOW_DEBUG=1 shows where)\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_every_error_is_one_sentence(
    cli: Here, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    raising(monkeypatch, error)
    done = cli("stats")
    assert done.code == code
    assert done.err.endswith(text)
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 1


def test_the_traceback_is_there_for_who_asks(cli: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, AgentFlowError("a sentence"))
    monkeypatch.setenv("AGENTFLOW_DEBUG", "1")
    done = cli("stats")
    assert done.code == 1
    assert "Traceback" in done.err
    assert "a sentence" in done.err


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agentflow", "--help"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("command", [["submit", "x"], ["list"], ["get", "x"], ["watch"]])
def test_a_server_that_is_not_there_is_one_sentence(command: list[str], tmp_path: Path) -> None:
    done = run(*command, "--nats", "nats://me:secret@127.0.0.1:1", env=environment(tmp_path))
    assert (done.code, done.out) == (3, "")
    assert done.err == (
        "agentflow: cannot reach NATS at nats://127.0.0.1:1 (connection refused); start the local "
        "stack with `agentflow up`, or name a server with --nats\n"
    )


def test_ctrl_c_ends_quietly(nats: object, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agentflow", "submit", "x", "--wait", "--queue", "nobody"],
        env=environment(tmp_path, AGENTFLOW_NATS=os.environ["AGENTFLOW_NATS"]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines = [process.stderr.readline(), process.stderr.readline()]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert "no worker serves the queue nobody" in lines[1]
    assert err == (
        f"task {lines[0].strip()} goes on; `agentflow get {lines[0].strip()} --wait` waits for it\n"
    )


def test_main_returns_and_never_exits() -> None:
    assert main(["--version"]) == 0
