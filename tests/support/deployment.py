"""The server as it is deployed, with nats.conf itself, and the roles as its clients."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from agentflow.config import Connect
from tests.support.nats_server import READY_WITHIN, binary, free_port, read_info

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "nats.conf"
PASSWORDS = {
    # One that is a number without its quotes, one with characters that mean something elsewhere.
    "admin": "12",
    "submitter": "12e45",
    "worker": "a#b $c",
    "master": "master",
    "viewer": "viewer",
}
OPTIONAL = {"operator": "operator", "gateway": "gateway"}
"""Those that are there where their line is no comment any more."""
EVERY = PASSWORDS | OPTIONAL
_VIOLATION = re.compile(
    r':([^":]*)" - "[^"]*user:(\w+)" - (Publish|Subscription) Violation - Subject "([^"]+)"'
)


class Violation(NamedTuple):
    """What the server refused, as its log has it."""

    role: str
    what: str
    subject: str


def variable(role: str) -> str:
    """The variable of the server's environment with the password of a role."""
    return f"AGENTFLOW_{role.upper()}_PASSWORD"


def clean_environment() -> dict[str, str]:
    """One that says nothing of a server, a user or a store."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AGENTFLOW")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def whole(folder: Path) -> Path:
    """nats.conf with the optional roles, as an administrator makes it."""
    (folder / "deploy").mkdir(parents=True, exist_ok=True)
    for name in ("nats.conf", *(f"deploy/nats-{part}.conf" for part in ("roles", *OPTIONAL))):
        text = (ROOT / name).read_text()
        (folder / name).write_text(text.replace("  # include ./nats-", "  include ./nats-"))
    return folder / "nats.conf"


class Deployment:
    """A server on `config`, in `folder`; a port is given on the command line, as one may."""

    def __init__(
        self,
        folder: Path,
        *,
        config: Path = CONFIG,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.log = folder / "nats-server.log"
        self.config = config
        self._environment = dict(environment or {})
        self.port = 0
        self.monitoring_port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it, and return when it greets."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        self.monitoring_port = self.monitoring_port or free_port()
        quoted = {variable(role): f'"{text}"' for role, text in EVERY.items()}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(binary(), "-c", str(self.config)),
                    *("-p", str(self.port), "-m", str(self.monitoring_port)),
                ],
                cwd=self.folder,
                env=clean_environment() | quoted | self._environment | {"GOMAXPROCS": "2"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + READY_WITHIN
        while read_info(self.port) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"nats-server did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.005)
        return self

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    # The roles.

    def options(self, role: str) -> Connect:
        """How a role connects."""
        return Connect(
            urls=(self.url,),
            user=role,
            password=EVERY[role],
            inbox_prefix="_INBOX" if role == "admin" else f"_INBOX.{role}",
        )

    def environment(self, role: str) -> dict[str, str]:
        """The same for a process."""
        options = self.options(role)
        return clean_environment() | {
            "AGENTFLOW_NATS": self.url,
            "AGENTFLOW_USER": role,
            "AGENTFLOW_PASSWORD": EVERY[role],
            "AGENTFLOW_INBOX_PREFIX": options.inbox_prefix,
        }

    def violations(self, role: str | None = None, *, besides: str = "") -> list[Violation]:
        """What the server refused so far, to one role or to all; without the client `besides`."""
        found = _VIOLATION.findall(self.log.read_text())
        return [
            Violation(*rest)
            for client, *rest in found
            if client != besides and role in (None, rest[0])
        ]

    def run(
        self, role: str, *arguments: str, within: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """A command as this role."""
        return subprocess.run(
            [sys.executable, "-m", "agentflow", *arguments],
            env=self.environment(role),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
        )


class Process:
    """A part of the stack; its output goes to a file."""

    def __init__(self, log: Path, environment: dict[str, str], arguments: Sequence[str]) -> None:
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agentflow", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def until(self, text: str, within: float = 30) -> None:
        """Return when its output has `text`."""
        deadline = time.monotonic() + within
        while text not in self.log.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{text!r} did not come:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.01)

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
            raise
