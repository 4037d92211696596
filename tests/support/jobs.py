"""`agentflow run` and `agentflow up` as processes, with a home and a store of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.local.server import LocalServer
from agentflow.local.store import running
from tests.support.tools import ROOT
from tests.support.until import until


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Program:
    """A command that runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pid = process.pid
        self._said = b""

    def signal(self, number: signal.Signals) -> None:
        """To this process alone, not to those it started."""
        self.process.send_signal(number)

    async def says(self, text: str) -> None:
        """Return when a line with this text stands on its stderr."""
        assert self.process.stderr is not None
        line = b""
        while text.encode() not in line:
            line = await asyncio.to_thread(self.process.stderr.readline)
            assert line, f"it ended without saying {text!r}:\n{self._said.decode()}"
            self._said += line

    async def done(self) -> Done:
        """What became of it."""
        out, err = await asyncio.to_thread(self.process.communicate, timeout=60)
        return Done(self.process.returncode, out.decode(), (self._said + (err or b"")).decode())


class Home:
    """A user's machine: where a job's files are, and which processes belong to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.out = folder / "tasks.results.jsonl"
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AGENTFLOW", "ANTHROPIC"))
        }
        own = {"HOME": str(folder), "AGENTFLOW_STORE": str(self.store), "PYTHONPATH": str(ROOT)}
        self.environment = kept | own

    def tasks(self, tasks: Iterable[dict[str, Any]], name: str = "tasks.jsonl") -> str:
        """A file of tasks; its name."""
        lines = "".join(json.dumps(task) + "\n" for task in tasks)
        (self.folder / name).write_text(lines)
        return name

    def start(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        stderr: int = subprocess.PIPE,
        **environment: str,
    ) -> Program:
        """A command, in a session of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", "agentflow", *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
        if stdin is not None:
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.flush()
        return Program(process)

    async def command(
        self, *arguments: str, stdin: bytes | None = None, **environment: str
    ) -> Done:
        """A command from its start to its end."""
        return await self.start(
            *arguments, stdin=stdin, stderr=subprocess.PIPE, **environment
        ).done()

    async def up(self, *arguments: str) -> Program:
        """A simulated stack on the store, up and serving."""
        program = self.start("up", "--simulate", "--port", "0", "--gateway-port", "0", *arguments)
        assert program.process.stdout is not None
        line = await asyncio.to_thread(program.process.stdout.readline)
        assert line.startswith(b"SIMULATED"), (line, program.process.stderr)
        return program

    def results(self, name: str = "tasks.results.jsonl") -> list[dict[str, Any]]:
        """The whole lines of a file of results."""
        path = self.folder / name
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    async def until_results(self, count: int) -> list[dict[str, Any]]:
        """Return as soon as so many tasks have ended."""
        await until(lambda: len(self.results()) >= count)
        return self.results()

    def processes(self, name: str = "") -> list[psutil.Process]:
        """What runs for this home and has `name` in its command line."""
        found = []
        for process in psutil.process_iter():
            try:
                home = process.environ().get("HOME")
                if home == str(self.folder) and name in " ".join(process.cmdline()):
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def end(self) -> list[str]:
        """End what still runs; says what that was."""
        found = self.processes()
        shown = [repr(process) for process in found]
        for process in found:
            process.kill()
        psutil.wait_procs(found, timeout=10)
        return shown

    def simulator(self, path: str, body: Any = None) -> Any:
        """What the running stack's simulator says to a control request."""
        info = running(self.store)
        assert info is not None
        assert info.simulator_url is not None
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{info.simulator_url}/_fake/{path}", data=data)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return json.load(answer)

    def asked(self) -> list[str]:
        """The prompts that reached the simulator, in order."""
        log = self.simulator("stats")["log"]
        return [entry["prompt"] for entry in log if entry["path"] == "/v1/messages"]

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[JetStream]:
        """The streams of the store when no stack runs on it."""
        async with (
            LocalServer(self.store) as server,
            await Connection.open(Connect(urls=(server.url,)), "test") as connection,
        ):
            yield JetStream(connection)
