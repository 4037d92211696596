"""The dashboard on a real server: fed live, with what it does on the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import agentflow
from agentflow.bus import provision
from tests.integration.conftest import nats_server, observer, quick_retries, start_worker
from tests.support.nats_server import NatsServer
from tests.tui.support.stage import Stage

__all__ = ["nats_server", "observer", "quick_retries", "stage", "start_worker"]


@pytest.fixture
async def stage(nats_server: NatsServer) -> AsyncIterator[Stage]:
    """A dashboard that shows this server."""
    async with agentflow.connect(nats_server.url) as flow:
        assert not await provision.ensure_streams(flow.js)
        found = Stage(flow)
        async with flow.live(found.take) as live:
            found.live = live
            await found.until(lambda: live.loaded.is_set() and live.gates_known.is_set())
            yield found
            await found.close()
