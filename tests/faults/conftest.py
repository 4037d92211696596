"""Worker processes on a real server, all of which a test may kill."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow.protocol import limits
from tests.support.ledger import Ledger
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.proxy import Proxy
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
def launch(nats_server: NatsServer, runs: Path, lease: float) -> Any:
    """Call it for a worker process with a short lease; it ends with the test."""
    launched: list[WorkerProcess] = []

    def start(url: str = "", **options: Any) -> WorkerProcess:
        options = {"lease": lease, "slots": 10, **options}
        worker = WorkerProcess(url or nats_server.url, runs, **options)
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


@pytest.fixture
def ledger(observer: Observer) -> Ledger:
    """Submits, and knows what was acknowledged."""
    return Ledger(observer.js)


@pytest.fixture
async def proxy(nats_server: NatsServer) -> AsyncIterator[Proxy]:
    """A network between a worker and the server that a test can break."""
    found = await Proxy(nats_server.port).start()
    yield found
    await found.stop()


@pytest.fixture
def lease(request: pytest.FixtureRequest) -> float:
    """Seconds: short, and with --long the default, so that what is tested is what is shipped."""
    return limits.LEASE if request.config.getoption("--long") else 2.0


Scale = Callable[[int, int], int]


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> Scale:
    """How many: the first number, with --long the second."""
    return lambda quick, full: full if request.config.getoption("--long") else quick
