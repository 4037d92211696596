"""Worker processes on a real server, all of which a test may kill."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.worker_process import WorkerProcess


@pytest.fixture
async def observer(nats_server: NatsServer) -> AsyncIterator[Observer]:
    found = await Observer.open(nats_server.url)
    yield found
    await found.close()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Where the workers note their runs."""
    return tmp_path / "runs"


Launch = Callable[..., WorkerProcess]


@pytest.fixture
def launch(nats_server: NatsServer, runs: Path) -> Any:
    """Call it for a worker process with a lease of 2 s; it ends with the test."""
    launched: list[WorkerProcess] = []

    def start(**options: Any) -> WorkerProcess:
        worker = WorkerProcess(nats_server.url, runs, **{"lease": 2.0, "slots": 10, **options})
        launched.append(worker)
        return worker

    yield start
    for worker in launched:
        if worker.alive:
            worker.process.send_signal(signal.SIGCONT)
            worker.kill()


@pytest.fixture
def ready(observer: Observer) -> Any:
    """Await it for a worker process that has said hello."""

    async def wait(*workers: WorkerProcess) -> None:
        def greeted() -> bool:
            for worker in workers:
                assert worker.alive, worker.log.read_text()
            return all(worker.pid in observer.workers for worker in workers)

        await observer.until(greeted, within=30)
        await asyncio.sleep(0)

    return wait
