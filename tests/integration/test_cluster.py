"""Three servers in a cluster, three copies of each stream: one is killed, and the work goes on.

Slow because the servers hold no election before four seconds of silence.
"""

import asyncio
import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.client import Client
from agentflow.config import Connect
from agentflow.protocol import streams, subjects
from tests.support.deployment import ROOT, Deployment, Process
from tests.support.nats_server import free_port
from tests.support.until import until

TASKS = 50
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()
PASSWORD = "route"


def host_config(folder: Path, name: str, port: int) -> Path:
    """The file of one host as docs/deploy.md has it, beside the two that it includes."""
    folder.mkdir()
    for included in ("nats.conf", "deploy/nats-roles.conf"):
        (folder / included).parent.mkdir(exist_ok=True)
        (folder / included).symlink_to(ROOT / included)
    block = DEPLOY[DEPLOY.index("# host.conf on n1") :]
    text = block[: block.index("```")]
    for documented, here in (
        ('"n1"', f'"{name}"'),
        ('"0.0.0.0:4222"', '"127.0.0.1:4222"'),
        ('"0.0.0.0:6222"', f'"127.0.0.1:{port}"'),
    ):
        assert text.count(documented) == 1
        text = text.replace(documented, here)
    file = folder / "host.conf"
    file.write_text(text)
    return file


class Cluster:
    """Three servers and how to reach them."""

    def __init__(self, folder: Path) -> None:
        ports = {name: free_port() for name in ("n0", "n1", "n2")}
        routes = [f"nats://route:{PASSWORD}@127.0.0.1:{port}" for port in ports.values()]
        environment = {
            "AGENTFLOW_ROUTE_PASSWORD": json.dumps(PASSWORD),
            "AGENTFLOW_ROUTES": json.dumps(routes),
        }
        self.servers = [
            Deployment(
                folder / name,
                config=host_config(folder / name, name, port),
                environment=environment,
            )
            for name, port in ports.items()
        ]
        for server in self.servers:
            server.start()

    def options(self, role: str) -> Connect:
        urls = tuple(server.url for server in self.servers)
        return msgspec.structs.replace(self.servers[0].options(role), urls=urls)

    def environment(self, role: str) -> dict[str, str]:
        urls = ",".join(server.url for server in self.servers)
        return self.servers[0].environment(role) | {"AGENTFLOW_NATS": urls}

    def named(self, name: str) -> Deployment:
        return self.servers[int(name.removeprefix("n"))]

    async def formed(self) -> None:
        """Return when the three have a leader, and each says that it is healthy."""
        await until(lambda: all(healthy(server) for server in self.servers))

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


def healthy(server: Deployment) -> bool:
    url = f"http://127.0.0.1:{server.monitoring_port}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(json.load(answer)["status"] == "ok")
    except OSError:
        return False


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    yield found
    found.stop()


async def run(client: Client, prefix: str) -> set[str]:
    """TASKS tasks; their texts."""
    prompts = (f"{prefix}{number}" for number in range(TASKS))
    return {result.text or "" async for result in client.map(prompts, kind="echo")}


def expected(prefix: str) -> set[str]:
    return {f"{prefix}{number}" for number in range(TASKS)}


@pytest.mark.slow
async def test_a_cluster_goes_on_without_the_server_that_leads(
    cluster: Cluster, tmp_path: Path
) -> None:
    await cluster.formed()
    async with await Connection.open(cluster.options("admin")) as connection:
        applied = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agentflow", "streams", "apply", "--replicas", "3"),
            env=cluster.environment("admin"),
        )
        assert await applied.wait() == 0
        js = JetStream(connection)
        for stream in streams.streams():
            info = await js.stream_info(stream["name"])
            assert info["config"]["num_replicas"] == 3
        worker = Process(
            tmp_path / "worker.log", cluster.environment("worker"), ["worker", "--kinds", "echo"]
        )
        try:
            await asyncio.to_thread(worker.until, "slots on")
            async with Client(cluster.options("submitter")) as client:
                assert await run(client, "before") == expected("before")
                await _current(js)
                leader = (await js.stream_info(subjects.RECORDS))["cluster"]["leader"]
                killed = cluster.named(leader)
                killed.kill()
                assert await run(client, "after") == expected("after")
                killed.start()
                # What it missed it gets from the others.
                await until(lambda: healthy(killed))
        finally:
            assert worker.stop() == 0


async def _current(js: JetStream) -> None:
    """Return when all copies of the log have all of it."""

    def behind(info: dict[str, Any]) -> bool:
        return not all(each["current"] for each in info["cluster"]["replicas"])

    while behind(await js.stream_info(subjects.RECORDS)):
        await asyncio.sleep(0.05)
