"""Async handlers that swallow their cancellation: fenced, named, and their slot told as lost."""

import asyncio
import logging
from typing import Any

import pytest

import agentflow
from agentflow.errors import ResultTimeout
from agentflow.protocol.record import State
from tests.integration.conftest import StartWorker
from tests.integration.test_app import at_work
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.until import until

pytestmark = pytest.mark.timeout(60)


class Deaf:
    """A function that goes on until it is released, whatever it is told."""

    def __init__(self) -> None:
        self.app = agentflow.App()
        self.released = asyncio.Event()
        self.heard = 0
        self.after: list[str] = []
        self.began = asyncio.Event()
        self.app.task(kind="deaf", retries=0)(self.deaf)
        self.app.task(kind="fine")(self.fine)

    async def deaf(self, ctx: agentflow.Context) -> str:
        self.began.set()
        while not self.released.is_set():
            try:
                await self.released.wait()
            except BaseException:
                self.heard += 1
        ctx.progress(1.0, "after all")
        try:
            await ctx.claude("hi")
        except asyncio.CancelledError:
            self.after.append("asked in vain")
        return "late"

    async def fine(self) -> str:
        return "fine"


async def test_a_deaf_handler_is_left_behind_and_its_slot_is_told_as_lost(
    observer: Observer,
    start_worker: StartWorker,
    nats_server: NatsServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    deaf = Deaf()
    async with (
        at_work(deaf.app, start_worker, slots=1),
        agentflow.connect(nats_server.url) as client,
    ):
        task = await client.submit(kind="deaf", params={}, id="it", timeout=0.3)
        result = await task.result(20, raise_on_failure=False)
        assert (result.state, result.reason, result.attempts) == (State.FAILED, "timeout", 1)
        assert result.error is not None
        assert "its handler does not hear its cancellation" in result.error.message
        assert "does not hear its cancellation" in (await client.why("it")).text
        assert "task it: its handler (kind deaf) does not hear" in caplog.text

        def lost() -> bool:
            (worker,) = observer.workers.values()
            return worker.slots == 0 and "1 slot is lost" in " ".join(worker.notes)

        await observer.until(lost)
        (worker,) = observer.workers.values()
        assert "it (deaf)" in " ".join(worker.notes)
        fine = await client.submit(kind="fine", params={}, id="next")
        with pytest.raises(ResultTimeout):
            await fine.result(1)
        last = (await observer.last("it")).sequence
        deaf.released.set()
        assert (await fine.result(20)).text == "fine", "the slot is free again"
        await until(lambda: bool(deaf.after))
        assert (await observer.last("it")).sequence == last, "what it said was not written"
    assert [one for one in caplog.messages if "has ended" in one and "late" in one]
    assert deaf.after == ["asked in vain"]
    assert deaf.heard >= 2


async def test_a_deaf_handler_can_be_cancelled(
    observer: Observer, start_worker: StartWorker, nats_server: NatsServer
) -> None:
    deaf = Deaf()
    async with (
        at_work(deaf.app, start_worker, slots=2),
        agentflow.connect(nats_server.url) as client,
    ):
        await client.submit(kind="deaf", params={}, id="it")
        await deaf.began.wait()
        await client.cancel("it")
        assert (await observer.ended("it")).state == State.CANCELLED
        deaf.released.set()


async def test_a_worker_that_stops_hands_a_deaf_task_back(
    observer: Observer, start_worker: StartWorker
) -> None:
    deaf = Deaf()
    async with deaf.app.open() as handlers:
        worker: Any = await start_worker(handlers, grace=0.1)
        await observer.submit({"kind": "deaf", "id": "it", "params": {}})
        await deaf.began.wait()
        await worker.actor.close()
        assert (await observer.last("it")).state == State.QUEUED
        assert worker.stuck == 1
        deaf.released.set()


async def test_a_handler_that_cleans_up_is_not_deaf(
    observer: Observer, start_worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    app = agentflow.App()
    tidied: list[str] = []

    @app.task(retries=0, timeout=0.2)
    async def careful() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(1)
            tidied.append("yes")

    with caplog.at_level(logging.WARNING):
        async with at_work(app, start_worker):
            await observer.submit({"kind": "careful", "id": "it", "params": {}})
            ended = await observer.ended("it")
    assert (ended.reason, tidied) == ("timeout", ["yes"])
    assert not [one for one in caplog.messages if "hear" in one]
