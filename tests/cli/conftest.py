"""Commands against a real server with a real worker and a real master, all of them processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentflow.cli import main
from tests.support.nats_server import NatsServer

ROOT = Path(__file__).parents[2]


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """stdout as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(folder: Path, **extra: str) -> dict[str, str]:
    """One in which nothing of this machine's user is found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AGENTFLOW")}
    own = {"HOME": str(folder), "AGENTFLOW_STORE": str(folder / "store"), "PYTHONPATH": str(ROOT)}
    return {**kept, **own, **extra}


def run(*arguments: str, env: dict[str, str], stdin: bytes = b"") -> Done:
    """A command as a process."""
    done = subprocess.run(
        [sys.executable, "-m", "agentflow", *arguments],
        env=env,
        input=stdin,
        capture_output=True,
        timeout=60,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


class Here:
    """Runs commands in this process, which is quicker."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str) -> Done:
        self._capture.readouterr()
        code = main(arguments)
        out, err = self._capture.readouterr()
        return Done(code, out, err)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings and no stack of this machine's user; the folder of one's own."""
    for name in list(os.environ):
        if name.startswith("AGENTFLOW"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AGENTFLOW_STORE", str(tmp_path / "store"))
    return tmp_path


@pytest.fixture
def cli(alone: Path, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    found = NatsServer(tmp_path_factory.mktemp("nats")).start()
    yield found
    found.stop()


READY = {"worker": b" slots on ", "master": b" is ready at "}


def part(folder: Path, role: str, server: NatsServer, *arguments: str) -> Iterator[int]:
    """A worker or a master that is ready; its log stands in the folder."""
    told = folder / f"{role}.log"
    with told.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentflow", role, "--nats", server.url, *arguments],
            # A kind that nobody knows is waited for otherwise, until a worker has it.
            env=environment(folder, AGENTFLOW_UNKNOWN_KIND_FOR="0"),
            stdout=log,
            stderr=log,
        )
    try:
        while READY[role] not in told.read_bytes():
            assert process.poll() is None, told.read_text()
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0, told.read_text()


@pytest.fixture(scope="module")
def worker(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Its pid."""
    folder = tmp_path_factory.mktemp("worker")
    options = ("--kinds", "echo,sleep", "--name", "w1", "--queues", "default,second")
    yield from part(folder, "worker", server, *options)


@pytest.fixture(scope="module")
def master(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Its pid."""
    yield from part(tmp_path_factory.mktemp("master"), "master", server)


@pytest.fixture
def nats(server: NatsServer, monkeypatch: pytest.MonkeyPatch, alone: Path) -> NatsServer:
    """The server, found by every command."""
    monkeypatch.setenv("AGENTFLOW_NATS", server.url)
    return server
