"""Kind `claude-cli` under bubblewrap: what a run sees of the machine, and what it reaches."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentflow.errors import InvalidTask, StackError, UsageError
from agentflow.handlers.claude_cli.handler import ClaudeCliHandler
from agentflow.handlers.claude_cli.outlet import SOCKET, Outlet
from agentflow.handlers.contract import Run
from agentflow.simulator import Simulator
from tests.integration.test_claude_cli import KEY, started, task_of
from tests.support import tools

pytestmark = pytest.mark.timeout(90)


def works() -> bool:
    """Whether bubblewrap is here and the kernel lets it."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return False
    command = [bwrap, "--unshare-all", "--ro-bind", "/", "/", "/bin/true"]
    return subprocess.run(command, capture_output=True, timeout=20).returncode == 0


# No mark of a tool: where Claude Code must be there, bubblewrap need not be.
needs_both = pytest.mark.skipif(
    tools.claude_cli() is None or not works(), reason="Claude Code and bubblewrap are not both here"
)


@pytest.fixture(name="simulator")
async def _simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture(name="environ")
def _environ(simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": simulator.url,
        "AGENTFLOW_CLAUDE": str(tools.claude_cli() or sys.executable),
        "AGENTFLOW_WORKSPACES": str(tmp_path / "workspaces"),
        "AGENTFLOW_ISOLATE": "1",
    }


LOOK = """
ls / > seen; ls /tmp >> seen; ps -e 2>/dev/null || ls -d /proc/[0-9]* > processes
cat {secret} > stolen 2>&1; ls {store} >> stolen 2>&1; touch {store}/made 2>> stolen
(echo > /dev/tcp/127.0.0.1/{port}) 2> reached && echo REACHED >> reached
(echo > /dev/tcp/1.1.1.1/53) 2>> reached && echo REACHED >> reached
echo done > done
"""


@needs_both
async def test_a_run_sees_its_workspace_and_reaches_the_api(
    simulator: Simulator, environ: dict[str, str], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = LOOK.format(secret=secret, store=tmp_path, port=port)
        bash = {"name": "Bash", "input": {"command": command}}
        simulator.set_mode({"tools": [bash], "text": "looked"})
        task = task_of(
            params={
                "tools": ["Bash"],
                "allowed_tools": ["Bash"],
                "collect": ["*"],
                "files": {"given": "x"},
            }
        )
        async with started(environ) as handler:
            outcome = await handler(Run(task))
    files = outcome.value["files"]
    assert (outcome.text, files["done"], files["given"]) == ("looked", "done\n", "x")
    assert "SECRET" not in files["stolen"]
    assert "secret" not in files["stolen"].replace(str(secret), "")
    assert "REACHED" not in files["reached"]
    assert not (tmp_path / "made").exists()
    assert "home" not in files["seen"].split()
    assert len(files.get("processes", "").split()) < 12


@needs_both
async def test_what_would_lead_out_is_refused(environ: dict[str, str]) -> None:
    async with started(environ) as handler:
        with pytest.raises(InvalidTask, match="add_dirs: runs are isolated here"):
            await handler(Run(task_of(params={"add_dirs": ["/etc"]})))
    with pytest.raises(UsageError, match="CLAUDE_CODE_USE_BEDROCK is set"):
        ClaudeCliHandler(environ | {"CLAUDE_CODE_USE_BEDROCK": "1"})


async def test_where_it_cannot_be_a_worker_says_so(environ: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    without = environ | {"PATH": str(folder)}
    with pytest.raises(StackError, match="bubblewrap is not there; install it"):
        await ClaudeCliHandler(without).start()
    forbidden = folder / "bwrap"
    forbidden.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2; exit 1\n")
    forbidden.chmod(0o755)
    with pytest.raises(StackError, match=r"No permissions to create new namespace.*user name"):
        await ClaudeCliHandler(without).start()


async def ask(folder: Path, *lines: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(folder / SOCKET))
    writer.write("\r\n".join((*lines, "", "")).encode())
    try:
        async with asyncio.timeout(20):
            return (await reader.read(400)).split(b"\r\n")[0]
    finally:
        writer.close()


async def test_the_outlet_leads_to_the_api_alone(simulator: Simulator) -> None:
    plain = Outlet({"ANTHROPIC_BASE_URL": simulator.url})
    assert plain.variable == "ANTHROPIC_BASE_URL="
    async with plain.opened() as folder:
        assert b"HTTP/1.1" in await ask(folder, "GET / HTTP/1.1", "Host: x", "Connection: close")
    assert not folder.exists()
    port = int(simulator.url.rpartition(":")[2])
    async with Outlet({"ANTHROPIC_BASE_URL": f"https://127.0.0.1:{port}"}).opened() as folder:
        for words in (f"CONNECT localhost:{port}", "CONNECT 127.0.0.1:22", "GET http://a/"):
            assert b"403" in await ask(folder, f"{words} HTTP/1.1")
        assert b"200" in await ask(folder, f"CONNECT 127.0.0.1:{port} HTTP/1.1")


async def test_a_proxy_of_the_workers_is_asked() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nfrom there")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        environ = {"HTTPS_PROXY": f"http://me:p%40ss@127.0.0.1:{port}"}
        async with Outlet(environ).opened() as folder:
            assert b"200" in await ask(folder, "CONNECT api.anthropic.com:443 HTTP/1.1")
    assert asked[0].startswith(b"CONNECT api.anthropic.com:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in asked[0]
