"""Handlers that wait for other tasks, with all slots, in the queue that they serve themselves."""

import asyncio
import time
from typing import Any

import pytest

import agentflow
from agentflow.protocol.record import State
from agentflow.worker import starved
from tests.integration.conftest import StartWorker
from tests.integration.test_app import at_work
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starved, "EVERY", 0.1)
    monkeypatch.setattr(starved, "AFTER", 0.5)


def app_on(url: str) -> agentflow.App:
    app = agentflow.App()

    @app.task(retries=0)
    async def parent(queue: str, how: str) -> str:
        async with agentflow.connect(url) as client:
            if how == "map":
                return (await client.gather(["x"], queue=queue, kind="echo"))[0].text or ""
            task = await client.submit("x", queue=queue, kind="echo")
            if how == "as_completed":
                (done,) = [one async for one in client.as_completed([task])]
                return done.text or ""
            if how == "by id":
                task = client.task(task.id)
            return (await task.result()).text or ""

    @app.task(retries=0)
    def plain(queue: str, how: str) -> str:
        with agentflow.sync.connect(url) as client:
            return client.submit("x", queue=queue, kind="echo").result().text or ""

    return app


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("parent", "result"),
        ("parent", "map"),
        ("parent", "as_completed"),
        ("parent", "by id"),
        ("plain", "result"),
    ],
)
async def test_who_waits_for_its_own_queue_with_all_slots_is_told(
    kind: str,
    how: str,
    observer: Observer,
    start_worker: StartWorker,
    nats_server: NatsServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    params = {"queue": "default", "how": how}
    async with at_work(app_on(nats_server.url), start_worker, slots=2):
        for name in ("one", "two"):
            await observer.submit({"kind": kind, "id": name, "params": params})

        def told() -> bool:
            return any(
                "all 2 slots wait for other tasks of queue default" in note
                for worker in observer.workers.values()
                for note in worker.notes
            )

        await observer.until(told, within=15)
        async with agentflow.connect(nats_server.url) as client:
            waiting = await client.submit("y", kind="echo")
            await start_worker(slots=4)
            assert (await waiting.result(20)).ok, "another worker runs them"
            for name in ("one", "two"):
                assert (await observer.ended(name, within=20)).state == State.SUCCEEDED
        await observer.until(lambda: not told(), within=15)
    assert caplog.text.count("docs/handlers.md, Waiting for other tasks") == 1


async def test_who_waits_for_another_queue_is_not(
    observer: Observer,
    start_worker: StartWorker,
    nats_server: NatsServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    params: dict[str, Any] = {"queue": "parts", "how": "result"}
    async with at_work(app_on(nats_server.url), start_worker, slots=1):
        await observer.submit({"kind": "parent", "id": "one", "params": params})
        await observer.state("one", State.RUNNING)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            await asyncio.sleep(0.1)
        await start_worker(queues=["parts"])
        assert (await observer.ended("one", within=20)).state == State.SUCCEEDED
    assert "wait for other tasks" not in caplog.text
