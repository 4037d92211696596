"""Server, simulator, master and worker, each its own process, for whoever looks from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.support import tools
from tests.support.nats_server import NatsServer

WITHIN = 30.0
"""Seconds after which a test gives up; what comes at all comes much sooner."""


class Fleet:
    """A whole stack on loopback: one worker of queue `default`, all kinds, Claude simulated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.server = NatsServer(folder / "nats")
        self._processes: list[subprocess.Popen[bytes]] = []
        path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        cli = tools.nats_cli()
        if cli is not None:
            path.insert(0, str(cli.parent))
        # Neither contexts of the nats CLI nor a stack of whoever runs the tests are to be found.
        self.env = {
            "PATH": os.pathsep.join(path),
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(tools.ROOT),
        }

    @property
    def url(self) -> str:
        return self.server.url

    def start(self) -> Self:
        """Start all parts, and return when each says that it is ready."""
        self.server.start()
        self.env["NATS_URL"] = self.env["AGENTFLOW_NATS"] = self.url
        simulator = self._launch("simulator", ["-m", "agentflow.simulator"])
        url = self._said(simulator, "http://").partition("http://")[2].split()[0]
        self.env["ANTHROPIC_BASE_URL"] = f"http://{url}"
        self.env["ANTHROPIC_API_KEY"] = "simulated"
        master = self._launch("master", ["-m", "agentflow", "master"])
        worker = self._launch("worker", ["-m", "agentflow", "worker"])
        self._said(master, "tasks are known")
        self._said(worker, "slots on")
        return self

    def stop(self) -> None:
        """Stop all parts in order."""
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
        self.server.stop()

    def run(self, *command: str, check: bool = True) -> str:
        """What a program prints, stdout and stderr as they come; AssertionError when it fails."""
        done = subprocess.run(
            command,
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WITHIN,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout

    def agentflow(self, *command: str, check: bool = True) -> str:
        """What a command of ours prints."""
        return self.run(sys.executable, "-m", "agentflow", *command, check=check)

    def listen(self, command: Sequence[str], subject: str) -> subprocess.Popen[str]:
        """Start a program that subscribes to `subject`, and return when the server knows it."""
        before = self._subscriptions(subject)
        process = subprocess.Popen(
            list(command),
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        end = time.monotonic() + WITHIN
        while self._subscriptions(subject) <= before:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, f"nobody subscribed to {subject}"
            time.sleep(0.01)
        return process

    @staticmethod
    def heard(process: subprocess.Popen[str]) -> str:
        """What a listener prints until it ends by itself."""
        try:
            return process.communicate(timeout=WITHIN)[0]
        finally:
            process.kill()

    def _subscriptions(self, subject: str) -> int:
        with urllib.request.urlopen(f"{self.server.monitoring}/connz?subs=1") as answer:
            connections = json.load(answer)["connections"]
        return sum(each.get("subscriptions_list", []).count(subject) for each in connections)

    def _launch(self, name: str, arguments: list[str]) -> Path:
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, *arguments],
                    env=self.env,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                )
            )
        return log

    def _said(self, log: Path, text: str) -> str:
        """The line of a log with this text, as soon as it is there."""
        end = time.monotonic() + WITHIN
        while True:
            for line in log.read_text().splitlines():
                if text in line:
                    return line
            ended = [process.args for process in self._processes if process.poll() is not None]
            assert not ended, f"{ended}:\n{log.read_text()}"
            assert time.monotonic() < end, f"{log.name} never said {text!r}:\n{log.read_text()}"
            time.sleep(0.01)
