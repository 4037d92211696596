"""A worker with the real SDK, a simulator, a server, and batches as quick as they can be."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.batches.pace import Pace
from agentflow.bus.streams.bucket import value_of
from agentflow.handlers.batching import Answer
from agentflow.handlers.claude.batches import ClaudeBatches
from agentflow.handlers.claude.handler import ClaudeHandler
from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import batches, subjects
from agentflow.protocol.batches import Table
from agentflow.simulator import Simulator
from agentflow.worker.worker import Worker
from tests.integration.conftest import StartWorker
from tests.support.observer import Observer

KEY = "sk-ant-test-0123456789"
POOL = "pool"
PACE = Pace(gather=0.2, look=0.05, poll=0.1, settle=1.0, flush=0.0, commit=5.0, gone=1.0)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Neither credentials nor prices of the machine."""
    for name in ("API_KEY", "AUTH_TOKEN", "PROFILE", "BASE_URL", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("AGENTFLOW_PRICES", raising=False)
    yield
    gc.unfreeze()


@pytest.fixture(name="simulator")
async def _simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


class _UnmarkedBatches(ClaudeBatches):
    def _answer(self, batch_id: str, line: bytes, simulated: bool) -> Answer:
        return super()._answer(batch_id, line, False)


class Unmarked(ClaudeHandler):
    """Its answers pass for real ones: a job that is not simulated takes no other."""

    def batching(self) -> ClaudeBatches:
        assert self._client is not None
        assert self._prices is not None
        return _UnmarkedBatches(self._client, self._prices, self._secrets)

    async def __call__(self, run: Run) -> Outcome:
        try:
            return await super().__call__(run)
        finally:
            run.simulated = False


class Lane:
    """What a test does with batches."""

    def __init__(self, observer: Observer, simulator: Simulator, start_worker: StartWorker) -> None:
        self.observer = observer
        self.simulator = simulator
        self._start_worker = start_worker
        self.handlers: list[ClaudeHandler] = []
        self.kind: type[ClaudeHandler] = ClaudeHandler

    async def worker(self, pace: Pace | None = PACE, *, pool: str = POOL, **options: Any) -> Worker:
        handler = self.kind(api_key=KEY, base_url=self.simulator.url, pool=pool)
        await handler.start()
        self.handlers.append(handler)
        return await self._start_worker({"claude": handler}, batches=pace, **options)

    async def submit(self, count: int, *, prefix: str = "t", **fields: Any) -> list[str]:
        ids = [f"{prefix}{number}" for number in range(count)]
        for number, task_id in enumerate(ids):
            prompt = fields.get("prompt", f"question {prefix}{number}")
            await self.observer.submit({"batch": True, **fields, "id": task_id, "prompt": prompt})
        return ids

    async def table(self) -> Table:
        key = subjects.kv(batches.key(POOL, "default"))
        return batches.read(value_of(await self.observer.js.last(subjects.KV_STREAM, key)))

    async def at_rest(self) -> None:
        """No row, and no entry that anybody waits for."""

        async def empty() -> bool:
            info = await self.observer.js.stream_info(subjects.BATCH)
            return not (await self.table()).rows and not info["state"]["messages"]

        await self.observer.becomes(empty)

    def paid(self) -> dict[str, int]:
        """Bought answers by prompt."""
        list(self.simulator.batches)
        return dict(self.simulator.batches.paid)


@pytest.fixture(name="lane")
async def _lane(
    observer: Observer, simulator: Simulator, start_worker: StartWorker
) -> AsyncIterator[Lane]:
    lane = Lane(observer, simulator, start_worker)
    yield lane
    for handler in lane.handlers:
        await handler.close()
