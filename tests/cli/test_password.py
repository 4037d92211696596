"""`agentflow up` with a real key: nobody else gets in, and its owner notices nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.client import Client
from agentflow.local.server import LocalServer
from agentflow.local.stack import LocalStack
from agentflow.protocol import subjects
from tests.cli.conftest import environment, run
from tests.support import tools

pytestmark = pytest.mark.timeout(90)

Up = Callable[..., str]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """Start a stack with a worker for echo; gives what it prints once it is ready."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str, store: str = "store", **more: str) -> str:
        log = tmp_path / f"up-{store}.log"
        env = environment(tmp_path, ANTHROPIC_API_KEY="sk-ant-none", **more)
        command = ("up", "--workers", "1", "--kinds", "echo", "--port", "0", *options)
        with log.open("wb") as out:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "agentflow", *command],
                    env=env | {"AGENTFLOW_STORE": str(tmp_path / store)},
                    stdout=out,
                    stderr=out,
                )
            )
        end = time.monotonic() + 60
        while "Ctrl-C stops it" not in (text := log.read_text()):
            assert started[-1].poll() is None, text
            assert time.monotonic() < end, text
            time.sleep(0.05)
        return text

    yield start
    for process in started:
        process.terminate()
    for process in started:
        assert process.wait(30) == 0


def address(text: str) -> str:
    found = re.search(r"runs at (nats://\S+)", text)
    assert found
    return found[1]


def stranger(url: str, *commands: bytes) -> list[bytes]:
    """What the server says to somebody without a password, until it answers a PING."""
    host, port = url.removeprefix("nats://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        lines = connection.makefile("rb")
        lines.readline()
        greeting = b'CONNECT {"verbose":false,"headers":true,"no_responders":true}'
        connection.sendall(b"\r\n".join((greeting, *commands, b"PING", b"")))
        said: list[bytes] = []
        while not said or not said[-1].startswith(b"PONG"):
            said.append(lines.readline())
            assert said[-1], said
    return said[:-1]


def test_nobody_gets_in_without_the_password_and_its_owner_does(up: Up, tmp_path: Path) -> None:
    text = up()
    url, env = address(text), environment(tmp_path)
    # Whoever else there is: each thing is refused, and stands in the server's log.
    said = stranger(
        url, b"SUB agentflow.live.> 1", b"SUB _INBOX.x 2",
        b"PUB agentflow.tasks.default _INBOX.x 2", b"hi",
        b"PUB $JS.API.STREAM.MSG.GET.AGENTFLOW_RECORDS _INBOX.x 0", b"",
    )  # fmt: skip
    assert len(said) == 4
    assert all(line.startswith(b"-ERR 'Permissions Violation") for line in said), said
    log = (tmp_path / "store/logs/nats-server.log").read_text()
    assert log.count("Violation") >= 4
    # Its owner.
    done = run("submit", "hi", "--kind", "echo", "--wait", "--json", env=env)
    assert (done.code, done.lines[-1]["text"]) == (0, "hi"), done.err
    # With the URL alone, too.
    done = run("list", "--nats", url, "--json", env=env)
    assert (done.code, len(done.lines)) == (0, 1), done.err
    # A password that was meant for a server elsewhere does no harm.
    done = run("list", "--json", env=env | {"AGENTFLOW_USER": "viewer", "AGENTFLOW_PASSWORD": "x"})
    assert (done.code, len(done.lines)) == (0, 1), done.err
    # Whoever has another store is told.
    other = env | {"AGENTFLOW_STORE": str(tmp_path / "other")}
    done = run("list", "--nats", url, env=other)
    assert done.code == 3
    assert "who gives no password" in done.err
    # What lies there is for its owner alone.
    assert "password" in {path.name for path in (tmp_path / "store").iterdir()}
    for path in (tmp_path / "store", tmp_path / "store/password", tmp_path / "store/nats.conf"):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path


async def test_a_locked_server_keeps_its_password_and_what_an_open_one_stored(
    tmp_path: Path,
) -> None:
    async with LocalServer(tmp_path / "s") as server, Client(server.connect) as client:
        await client.submit("kept", kind="echo")
    passwords = set()
    for _ in range(2):
        async with LocalServer(tmp_path / "s", locked=True) as server:
            passwords.add(server.connect.password)
            async with Client(server.connect) as client:
                info = await client.js.stream_info(subjects.TASKS)
                assert info["state"]["messages"] == 1
    assert len(passwords) == 1
    assert len(passwords.pop() or "") >= 32


@pytest.mark.tools("nats")
def test_the_nats_cli_gets_in_by_its_context_and_by_the_environment(up: Up, tmp_path: Path) -> None:
    cli = tools.nats_cli()
    assert cli is not None
    folder = tmp_path / "config"
    env = environment(tmp_path, XDG_CONFIG_HOME=str(folder))
    env["PATH"] = os.pathsep.join([str(cli.parent), str(Path(sys.executable).parent), env["PATH"]])
    text = up(XDG_CONFIG_HOME=str(folder))
    line = next(line for line in text.splitlines() if " pub " in line)
    assert line.strip().startswith("nats --context agentflow pub agentflow.tasks.default ")

    def shell(command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command], env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert "Published" in shell(line.strip())
    assert "Published" in shell("nats pub agentflow.tasks.default hi"), "none was selected"
    assert (folder / "nats/context.txt").read_text() == "agentflow"
    assert not (folder / "nats/context/agentflow.json").stat().st_mode & 0o077
    # A person's own choice stays, and the environment comes before it.
    elsewhere = {"url": "nats://127.0.0.1:1", "description": "mine"}
    (folder / "nats/context/mine.json").write_text(json.dumps(elsewhere))
    (folder / "nats/context.txt").write_text("mine")
    assert "Published" in shell('eval "$(agentflow env)" && nats pub agentflow.tasks.default hi')
    # Another stack: the context leads there, the choice is not touched, nor is a context of theirs.
    mine = folder / "nats/context/agentflow.json"
    mine.write_text(json.dumps(elsewhere))
    other = up(store="other", XDG_CONFIG_HOME=str(folder))
    assert (folder / "nats/context.txt").read_text() == "mine"
    assert json.loads(mine.read_text()) == elsewhere
    hint = f'eval "$(agentflow env --store {shlex.quote(str(tmp_path / "other"))})"'
    assert hint in other
    assert "Published" in shell(f"{hint} && nats pub agentflow.tasks.default hi")


def test_open_lets_in_everybody_and_says_so(up: Up) -> None:
    text = up("--open")
    assert "OPEN: every user of this machine may submit tasks, read all, and spend." in text
    assert stranger(address(text), b"SUB agentflow.live.> 1") == []


def test_what_spends_or_runs_programs_is_locked(tmp_path: Path) -> None:
    def locked(**options: Any) -> bool:
        stack = LocalStack(tmp_path / "s", **options)
        assert stack.exposed == (options.get("locked") is False and not options.get("simulate"))
        return stack.server.locked

    assert locked()
    assert locked(simulate=True, kinds=["echo", "claude-cli"])
    assert not locked(simulate=True, kinds=["echo"])
    assert not locked(locked=False)


def test_env_says_where_no_stack_runs(tmp_path: Path) -> None:
    done = run("env", env=environment(tmp_path))
    assert (done.code, done.out) == (3, "")
    assert "agentflow up" in done.err
