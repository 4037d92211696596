"""The stack of docker-compose.yml without Docker: each service's command, as a process here.

What Docker does is played: variables are filled in from deploy/env.example, the mounted files and
the host name `nats` are replaced, and the health checks run with the services' environments.
"""

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from agentflow.cli import COMMANDS
from agentflow.client import Client
from agentflow.config import connect_options
from tests.support.deployment import ROOT, clean_environment
from tests.support.nats_server import binary, free_port, read_info

COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENV_FILE = re.findall(r"^(\w+)=", (ROOT / "deploy/env.example").read_text(), re.MULTILINE)
WITHIN = 30.0


def filled_in() -> dict[str, str]:
    """What somebody writes into .env; one value is a number to a reader that knows no strings."""
    return {name: f"{number}e{number}" for number, name in enumerate(ENV_FILE, 10)}


def interpolated(text: str, variables: dict[str, str]) -> str:
    """As compose does it: ${NAME:?message}, ${NAME:-default}."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if not variables.get(name):
            assert kind == ":-", f"{name}: {rest}"
            return rest
        return variables[name]

    return re.sub(r"\$\{(\w+)(:[?-])([^}]*)\}", value, text)


class Composed:
    """The services that run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.monitoring_port = free_port(), free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, name: str) -> dict[str, str]:
        """A service's own, in a container that has no other."""
        found = {
            key: interpolated(str(text), filled_in())
            for key, text in SERVICES[name].get("environment", {}).items()
        }
        if "AGENTFLOW_NATS" in found:
            assert found["AGENTFLOW_NATS"] == "nats://nats:4222"
            found["AGENTFLOW_NATS"] = f"nats://127.0.0.1:{self.port}"
        for key, file in found.items():
            if key.endswith("_FILE"):
                found[key] = str(self.secret(file.removeprefix("/run/secrets/")))
        return clean_environment() | found

    def secret(self, name: str) -> Path:
        """The file of a secret, as Docker mounts it."""
        path = self.folder / f"{name}.secret"
        path.write_text(filled_in()[COMPOSE["secrets"][name]["environment"]])
        return path

    def command(self, name: str) -> list[str]:
        command = [*SERVICES[name]["command"]]
        if name != "nats":
            return [sys.executable, "-m", "agentflow", *command]
        mounts = dict(volume.split(":")[1::-1] for volume in SERVICES[name]["volumes"])
        command = [str(ROOT / mounts[word]) if word in mounts else word for word in command]
        # The tests bind nothing but loopback.
        command = ["127.0.0.1" if word == "0.0.0.0" else word for word in command]
        ports = ["-p", str(self.port), "-m", str(self.monitoring_port)]
        return [binary(), *command, *ports]

    def start(self, name: str, said: str) -> None:
        """Start a service, and return when it has said so."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.command(name),
                cwd=self.folder,
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._processes[name] = process
        deadline = time.monotonic() + WITHIN
        while said not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)

    def stop(self, name: str) -> int:
        """`docker compose stop`: SIGTERM, and a kill after the grace period."""
        process = self._processes.pop(name)
        process.terminate()
        try:
            # Docker would kill it after this; how long it takes is the machine's affair.
            assert SERVICES[name].get("stop_grace_period", "10s").removesuffix("s").isdigit()
            return process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            raise

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait(10)

    def healthy(self, name: str) -> subprocess.CompletedProcess[str]:
        """A service's health check, in its own environment."""
        kind, program, *arguments = SERVICES[name]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "agentflow")
        return subprocess.run(
            [sys.executable, "-m", "agentflow", *arguments],
            env=self.environment(name),
            capture_output=True,
            text=True,
            timeout=int(SERVICES[name]["healthcheck"]["timeout"].removesuffix("s")) + 15,
        )


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    found = Composed(tmp_path_factory.mktemp("composed"))
    try:
        found.start("nats", "Server is ready")
        found.start("master", "is ready")
        found.start("worker", "slots on")
        yield found
    finally:
        found.end()


def test_the_server_asks_for_a_password(composed: Composed) -> None:
    info = read_info(composed.port)
    assert info is not None
    assert info["auth_required"]


async def test_a_task_runs(composed: Composed) -> None:
    variables = filled_in()
    options = connect_options(
        nats=f"nats://127.0.0.1:{composed.port}",
        user="submitter",
        inbox_prefix="_INBOX.submitter",
        environ={"AGENTFLOW_PASSWORD": variables["AGENTFLOW_SUBMITTER_PASSWORD"]},
    )
    async with Client(options) as client:
        task = await client.submit("hello", kind="echo")
        assert (await task.result(timeout=20)).text == "hello"
        assert (await client.stats()).workers == 1


@pytest.mark.parametrize("name", ["master", "worker"])
def test_a_service_is_healthy_while_it_beats(composed: Composed, name: str) -> None:
    done = composed.healthy(name)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_the_server_answers_its_health_check(composed: Composed) -> None:
    (url,) = (word for word in SERVICES["nats"]["healthcheck"]["test"] if "://" in word)
    # wget's own job; the address and the answer are what can be wrong here.
    assert url == "http://127.0.0.1:8222/healthz"
    with urllib.request.urlopen(url.replace("8222", str(composed.monitoring_port))) as answer:
        assert answer.status == 200


def test_the_dashboard_is_a_command(composed: Composed) -> None:
    (command,) = SERVICES["tui"]["command"]
    assert command in COMMANDS
    done = subprocess.run(
        [sys.executable, "-m", "agentflow", command, "--help"],
        env=composed.environment("tui"),
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    assert done.returncode == 0, done.stderr


def test_services_stop_in_order_and_are_then_unwell(composed: Composed) -> None:
    assert composed.stop("worker") == 0
    done = composed.healthy("worker")
    assert done.returncode == 1, done.stdout
    assert "sent a heartbeat" in done.stderr
    assert composed.stop("master") == 0
    assert composed.stop("nats") in (0, 1)
    done = composed.healthy("worker")
    assert done.returncode == 3
