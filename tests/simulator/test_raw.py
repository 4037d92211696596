"""Bodies that are sent as they are given: what gateways make of a stream."""

from __future__ import annotations

import base64
from typing import Any

import httpx2
import pytest

from agentflow.simulator import Simulator
from agentflow.simulator.knobs import KnobError

ASKING: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
}
HEADERS = {"authorization": "Bearer x", "anthropic-version": "2026-10-21"}


async def ask(simulator: Simulator, timeout: float = 30.0) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=timeout) as client:
        return await client.post(f"{simulator.url}/v1/messages", json=ASKING, headers=HEADERS)


async def test_pieces_are_sent_as_they_are(simulator: Simulator) -> None:
    pieces = [
        ": hello\r\n\r\n",
        {"type": "ping", "new": [1]},
        {"base64": base64.b64encode(b"\xff\xfe").decode()},
        "",
        "é\ud83d",
    ]
    raw = {"pieces": pieces, "content_type": "text/odd", "headers": {"x-odd": "1"}}
    simulator.set_mode({"raw": raw})
    response = await ask(simulator)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/odd"
    assert response.headers["x-odd"] == "1"
    assert response.content == (
        b': hello\r\n\r\nevent: ping\ndata: {"type":"ping","new":[1]}\n\n\xff\xfe'
        b"\xc3\xa9\xed\xa0\xbd"
    )
    assert simulator.stats().log[0].fault == "raw"


async def test_with_a_status(simulator: Simulator) -> None:
    simulator.set_mode({"status": 502, "raw": {"pieces": ["{"]}})
    response = await ask(simulator)
    assert (response.status_code, response.text) == (502, "{")


@pytest.mark.parametrize("end", ["close", "reset", "hang"])
async def test_without_an_end(end: str, simulator: Simulator) -> None:
    simulator.set_mode({"raw": {"pieces": ["data: 1\n\n"], "end": end, "hold": 0.05}})
    with pytest.raises(httpx2.HTTPError):
        await ask(simulator, timeout=0.5)


async def test_a_script_may_mix_them_with_answers(simulator: Simulator) -> None:
    simulator.set_mode({"status": 500})
    simulator.add_script([{"raw": {"pieces": ["odd"]}}, {"status": 200}])
    assert (await ask(simulator)).text == "odd"
    assert "message_stop" in (await ask(simulator)).text
    assert (await ask(simulator)).status_code == 500


@pytest.mark.parametrize(
    "raw",
    [{}, {"pieces": [3]}, {"pieces": [{"a": 1}]}, {"pieces": [{"base64": "?"}]}, {"pieces": 3}],
)
def test_what_is_none(raw: dict[str, Any], simulator: Simulator) -> None:
    with pytest.raises(KnobError):
        simulator.set_mode({"raw": raw})
