"""Messages that were acknowledged and that a killed server still has."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentflow.bus.streams import provision
from agentflow.master import Master
from agentflow.protocol import subjects
from agentflow.protocol.record import State
from tests.integration.conftest import StartWorker
from tests.support import masters
from tests.support.bus import Station
from tests.support.handlers import Gate
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

UNSERVED = "agentflow.tasks.unserved"
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def master(nats_server: NatsServer, observer: Observer) -> AsyncIterator[Master]:
    async with masters.a_master(nats_server.url) as found:
        await masters.ready(found)
        yield found


def messages_of(server: NatsServer) -> Path:
    """The folder with the messages of AGENTFLOW_TASKS; the consumers' state is beside it."""
    return next(server.store.glob(f"**/streams/{subjects.TASKS}/msgs"))


async def reconnected(observer: Observer, server: NatsServer) -> None:
    back = asyncio.Event()
    remove = observer.connection.on_connect(back.set)
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(20):
        await back.wait()
    remove()


async def put_back(observer: Observer, server: NatsServer, kept: Path) -> None:
    """Let the server find the messages as they were, with the consumers' state as it is: what a
    kill between two writes leaves. In order it writes that state when it stops."""
    await asyncio.to_thread(server.stop)
    folder = messages_of(server)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    await reconnected(observer, server)


async def test_an_acknowledged_message_that_is_still_there_is_removed(
    nats_server: NatsServer,
    observer: Observer,
    start_worker: StartWorker,
    master: Master,
    tmp_path: Path,
) -> None:
    for number in range(3):
        await observer.submit("x", {"Agentflow-Id": f"t{number}", "Agentflow-Kind": "echo"})
    # Another request with a known id: it ends under the id of its place.
    await observer.submit("y", {"Agentflow-Id": "t0", "Agentflow-Kind": "echo"})
    nats_server.kill()
    kept = shutil.copytree(messages_of(nats_server), tmp_path / "kept")
    await reconnected(observer, nats_server)
    await start_worker()
    for number in range(3):
        await observer.ended(f"t{number}")
    await observer.at_rest()
    await put_back(observer, nats_server, kept)
    assert await observer.messages(subjects.TASKS) == 4
    master.leftovers._age = 0.0
    assert await master.leftovers.round() == 4
    assert await observer.messages(subjects.TASKS) == 0
    # Each has run once, and its result is there.
    for number in range(3):
        states = [entry.state for entry in await observer.log(f"t{number}")]
        assert states == [State.RUNNING, State.SUCCEEDED]
    assert await master.leftovers.round() == 0


async def test_what_is_acknowledged_and_not_done_is_told_and_left(
    nats_server: NatsServer,
    observer: Observer,
    master: Master,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Somebody acknowledged it without a record: nobody gets it again, and it must not vanish."""
    await provision.ensure_consumers(observer.js, "default")
    await observer.submit("x", {"Agentflow-Id": "it", "Agentflow-Kind": "echo"})
    nats_server.kill()
    kept = shutil.copytree(messages_of(nats_server), tmp_path / "kept")
    await reconnected(observer, nats_server)
    async with Station(observer.connection, slots=1) as station:
        await station.got(1)
        station.finish()
    await observer.at_rest()
    await put_back(observer, nats_server, kept)
    master.leftovers._age = 0.0
    for _ in range(2):
        assert await master.leftovers.round() == 0
    assert await observer.messages(subjects.TASKS) == 1
    told = [line for line in caplog.messages if "nothing brings the task on" in line]
    assert len(told) == 1
    assert told[0].startswith("task it: message 1-")


async def test_a_backlog_and_what_runs_is_left_alone(
    observer: Observer, master: Master, start_worker: StartWorker
) -> None:
    gate = Gate()
    await start_worker({"gate": gate}, slots=2)
    for number in range(5):
        await observer.submit("x", {"Agentflow-Id": f"t{number}", "Agentflow-Kind": "gate"})
    await observer.submit("x", {"Agentflow-Id": "nobody"}, subject=UNSERVED)
    await observer.state("t1", State.RUNNING)
    master.leftovers._age = 0.0
    assert await master.leftovers.round() == 0
    assert await observer.messages(subjects.TASKS) == 6
    gate.opened.set()
