"""Claims that race while the leader of the records is killed, stopped and made to step down.

Long because an election takes four seconds and more, and there are many.
"""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentflow.audit import verify
from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.errors import BusError
from agentflow.log.task import Overtaken, TaskLog
from agentflow.protocol import subjects
from agentflow.protocol.record import EMPTY, State
from agentflow.rules import records as entries
from tests.support.masters import origin
from tests.support.nats_server import NatsServer, free_port
from tests.support.until import until

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.long("an election takes four seconds and more, and there are many"),
]

CLUSTER = """
cluster {{
  name: races
  listen: 127.0.0.1:{port}
  routes: [{routes}]
}}
"""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[NatsServer]]:
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
    found = [
        NatsServer(tmp_path / f"n{at}", extra=CLUSTER.format(port=port, routes=routes))
        for at, port in enumerate(ports)
    ]
    for server in found:
        server.start()
    yield found
    for server in found:
        if server.alive:
            server.resume()
            server.kill()


async def test_racing_claims_have_one_winner_whatever_becomes_of_the_leader(
    servers: list[NatsServer],
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    options = Connect(urls=tuple(server.url for server in servers))
    connections = [await Connection.open(options, f"racer {number}") for number in range(4)]
    js = JetStream(connections[0])

    async def made() -> bool:
        try:
            notes = await provision.ensure_streams(js, replicas=3)
        except BusError:
            return False
        return not notes

    async with asyncio.timeout(60):
        while not await made():
            await asyncio.sleep(0.2)
    racers = [TaskLog(JetStream(each), f"racer-{at}") for at, each in enumerate(connections)]
    stop = asyncio.Event()
    won: dict[str, list[str]] = {}

    async def race(racer: TaskLog, task_id: str) -> None:
        of = origin(task_id, message=f"{1}-{1}")
        record = entries.claimed(of, EMPTY, actor=racer.actor, now=racer.now())
        try:
            claim = await racer.append(record)
        except Overtaken:
            return
        won.setdefault(task_id, []).append(racer.actor)
        ending = entries.follow(
            of, claim, State.SUCCEEDED, actor=racer.actor, now=racer.now(), ended=racer.now()
        )
        await racer.append(ending)

    async def races() -> int:
        number = 0
        while not stop.is_set():
            batch = [f"t{number + each}" for each in range(20)]
            number += 20
            await asyncio.gather(*(race(racer, name) for name in batch for racer in racers))
        return number

    async def leader() -> NatsServer:
        while True:
            try:
                name = (await js.stream_info(subjects.RECORDS))["cluster"]["leader"]
            except (BusError, KeyError):
                await asyncio.sleep(0.2)
                continue
            for server in servers:
                if name == f"test-{server.port}":
                    return server

    running = asyncio.create_task(races())
    for act in ["step down", "kill", "stop"] * 3:
        await asyncio.sleep(chance.uniform(0.5, 2.0))
        before = sum(len(each) for each in won.values())
        leading = await leader()
        if act == "step down":
            await js.api(f"STREAM.LEADER.STEPDOWN.{subjects.RECORDS}")
        elif act == "kill":
            leading.kill()
        else:
            leading.pause()
        # It goes on without: the others elect one.
        async with asyncio.timeout(90):
            await until(lambda before=before: sum(map(len, won.values())) > before + 40)
        if act == "kill":
            await asyncio.to_thread(leading.start)
        elif act == "stop":
            leading.resume()
    stop.set()
    async with asyncio.timeout(120):
        count = await running
    assert count >= 100
    assert {len(actors) for actors in won.values()} == {1}
    report = await verify(js)
    assert report.findings == []
    assert report.figures.states == {"succeeded": count}
    for connection in connections:
        await connection.close()
