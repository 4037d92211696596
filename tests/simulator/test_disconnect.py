"""A client that leaves is noticed at once, whatever it was waiting for."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from agentflow.simulator import Simulator

from .conftest import AUTH, Wire

PROMPT: dict[str, Any] = {
    "model": "claude-opus-5-5",
    "max_tokens": 500,
    "messages": [{"role": "user", "content": "Count to a thousand"}],
}


@pytest.mark.parametrize(
    ("stream", "knobs"),
    [
        (True, '{"stall": 60, "stall_after": 2}'),
        (True, '{"tokens_per_s": 1}'),
        (False, '{"latency": 60}'),
        (False, '{"fault": "hang"}'),
    ],
    ids=["stalled stream", "slow stream", "waiting for json", "hanging"],
)
@pytest.mark.parametrize("manner", ["close", "reset", "half-close"])
async def test_a_lost_client_is_logged(
    simulator: Simulator, wire: Wire, stream: bool, knobs: str, manner: str
) -> None:
    wire.send("POST", "/v1/messages", {**PROMPT, "stream": stream}, {**AUTH, "x-fake": knobs})
    await simulator.wait_for(lambda: simulator.log.in_flight == 1)
    if manner == "half-close":
        wire.writer.write_eof()
    elif manner == "reset":
        client: socket.socket = wire.writer.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.writer.transport.abort()
    else:
        await wire.close()
    await simulator.wait_for(lambda: simulator.log.in_flight == 0)

    entry = simulator.stats().log[0]
    assert entry.disconnected
    assert entry.seconds is not None
    assert simulator.stats().disconnects == 1
    await simulator.wait_for(lambda: simulator.log.connections == 0)


async def test_a_cancelled_call_of_the_sdk_is_noticed(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    simulator.set_mode({"latency": 60})
    call = asyncio.create_task(client.messages.create(**PROMPT))
    await simulator.wait_for(lambda: simulator.log.in_flight == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await simulator.wait_for(lambda: simulator.log.disconnects == 1)


async def test_a_client_that_leaves_behind_a_pipeline_is_noticed(
    simulator: Simulator, wire: Wire
) -> None:
    slow = {**AUTH, "x-fake": '{"latency": 60}'}
    for _ in range(50):
        wire.send("POST", "/v1/messages", PROMPT, slow)
    await simulator.wait_for(lambda: simulator.log.in_flight == 1)
    await wire.close()
    await simulator.wait_for(lambda: simulator.log.disconnects == 1)

    assert simulator.stats().requests == 1


async def test_a_client_that_does_not_read_gets_it_all_when_it_does(
    simulator: Simulator, wire: Wire
) -> None:
    """8 MB do not fit into socket buffers, so the server has to stop and go on."""
    text = "x" * 8_000_000
    simulator.set_mode({"text": text, "chunks": 100})
    body = {**PROMPT, "max_tokens": 10_000_000, "stream": True}
    wire.send("POST", "/v1/messages", body)
    await simulator.wait_for(lambda: simulator.log.in_flight == 1)
    answer = await wire.answer()

    assert answer.body.count(b'"text_delta"') == 100
    assert answer.body.count(b"x" * 80_000) == 100
    assert not simulator.stats().log[0].disconnected


async def test_closing_the_simulator_ends_what_is_in_flight() -> None:
    async with Simulator() as simulator:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", simulator.port))
        wire.send("POST", "/v1/messages", PROMPT, {**AUTH, "x-fake": '{"fault": "hang"}'})
        await simulator.wait_for(lambda: simulator.log.in_flight == 1)

    assert await wire.reader.read() == b""
    assert simulator.log.connections == 0
    await simulator.close()
    with pytest.raises(RuntimeError):
        _ = simulator.url
    await wire.close()
