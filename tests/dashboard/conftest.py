"""The dashboard on a real server: fed live, with what it does on the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import agentflow
from agentflow.bus.streams import provision
from tests.dashboard.support.stage import Stage
from tests.integration.conftest import nats_server, observer, start_worker
from tests.support.nats_server import NatsServer

__all__ = ["nats_server", "observer", "stage", "start_worker"]


@pytest.fixture
async def stage(nats_server: NatsServer) -> AsyncIterator[Stage]:
    """A dashboard that shows this server."""
    async with agentflow.connect(nats_server.url) as client:
        assert not await provision.ensure_streams(client.js)
        found = Stage(client)
        async with client.live(found.take) as live:
            found.live = live
            await found.until(lambda: live.loaded.is_set() and live.gates_known.is_set())
            yield found
            await found.close()
