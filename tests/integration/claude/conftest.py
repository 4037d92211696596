"""The Claude handler with the real SDK in front of a simulator, both in the test's own process."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agentflow.handlers.claude.handler import ClaudeHandler
from agentflow.handlers.contract import AttemptFailed, Run
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task
from agentflow.simulator import Simulator

KEY = "sk-ant-test-0123456789"


def run_of(shown: list[str] | None = None, **fields: Any) -> Run:
    given = {"prompt": "Write a haiku about queues", **fields}
    task = Task(id="t", queue="default", priority=Priority.NORMAL, **given)
    return Run(task, emit=(lambda _: None) if shown is None else shown.append)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Neither credentials nor prices of the machine."""
    for name in ("API_KEY", "AUTH_TOKEN", "PROFILE", "BASE_URL", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.delenv("ANTHROPIC_CONFIG_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("AGENTFLOW_PRICES", raising=False)
    yield
    gc.unfreeze()


@pytest.fixture(name="simulator")
async def _simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@asynccontextmanager
async def started(**options: Any) -> AsyncIterator[ClaudeHandler]:
    handler = ClaudeHandler(**{"api_key": KEY, **options})
    await handler.start()
    try:
        yield handler
    finally:
        await handler.close()


@pytest.fixture(name="handler")
async def _handler(simulator: Simulator) -> AsyncIterator[ClaudeHandler]:
    async with started(base_url=simulator.url, stall=30.0) as handler:
        yield handler


async def failure_of(handler: ClaudeHandler, run: Run) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        await handler(run)
    return caught.value
