"""Many requests in flight: pools are small, used again, and closed when nobody needs them."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from agentflow.handlers.claude import transport
from agentflow.handlers.claude.transport import SIZE, Pools
from agentflow.simulator import Simulator

from .conftest import run_of, started


async def _get(client: httpx2.AsyncClient, simulator: Simulator) -> int:
    return (await client.get(simulator.url + "/api/hello")).status_code


def _sizes(pools: Pools) -> list[int]:
    return [pool.in_flight for pool in pools._pools]


async def test_a_burst_takes_as_many_pools_as_it_needs(simulator: Simulator) -> None:
    simulator.set_mode({"fault": "hang"})
    async with started(base_url=simulator.url) as handler:
        assert handler._client is not None
        pools = handler._client._client._transport
        assert isinstance(pools, Pools)
        calls = [asyncio.ensure_future(handler(run_of())) for _ in range(2 * SIZE + 1)]
        await simulator.wait_for(lambda: simulator.log.in_flight == 2 * SIZE + 1)
        assert _sizes(pools) == [SIZE, SIZE, 1]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert _sizes(pools) == [0, 0, 0]


async def test_an_answer_that_is_read_makes_room(simulator: Simulator) -> None:
    async with started(base_url=simulator.url) as handler:
        for _ in range(2):
            await asyncio.gather(*(handler(run_of()) for _ in range(SIZE)))
        assert handler._client is not None
        pools = handler._client._client._transport
        assert isinstance(pools, Pools)
        assert _sizes(pools) == [0]
        assert simulator.log.connections <= SIZE


async def test_what_a_burst_leaves_behind_is_closed(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "KEPT", 0.0)
    pools = Pools()
    async with httpx2.AsyncClient(transport=pools) as client:
        await asyncio.gather(*(_get(client, simulator) for _ in range(3 * SIZE)))
        for _ in range(3):
            assert await _get(client, simulator) == 200
        assert _sizes(pools) == [0]
    assert not pools._pools
    await simulator.wait_for(lambda: simulator.log.connections == 0)


async def test_a_request_that_fails_gives_its_place_back() -> None:
    pools = Pools()
    async with httpx2.AsyncClient(transport=pools) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get("http://127.0.0.1:1/")
        assert _sizes(pools) == [0]


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_behind_a_proxy_the_sdk_has_its_own_client(
    name: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with started(base_url=simulator.url) as handler:
        assert handler._client is not None
        assert not isinstance(handler._client._client._transport, Pools)
        assert (await handler(run_of())).stop_reason == "end_turn"
