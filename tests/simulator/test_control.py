"""The endpoints that steer and observe."""

from __future__ import annotations

from typing import Any

import msgspec

from agentflow.simulator import Simulator

from .conftest import AUTH, Wire

PROMPT: dict[str, Any] = {
    "model": "claude-opus-5-5",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "A prompt " * 50}],
}


async def read(wire: Wire, path: str = "/_fake/stats") -> dict[str, Any]:
    answer = await wire.ask("GET", path, headers={})
    assert answer.status == 200
    found: dict[str, Any] = msgspec.json.decode(answer.body)
    return found


async def test_stats_tell_what_happened(wire: Wire) -> None:
    await wire.ask("POST", "/v1/messages", PROMPT)
    await wire.ask("POST", "/v1/messages", {**PROMPT, "stream": True})
    await wire.ask("POST", "/v1/messages", PROMPT, {**AUTH, "x-fake": '{"status":529}'})
    await wire.ask("GET", "/v1/models")
    stats = await read(wire)

    assert stats["requests"] == 4
    assert stats["paths"] == {"POST /v1/messages": 3, "GET /v1/models": 1}
    assert stats["outcomes"] == {"200": 3, "529": 1}
    assert (stats["in_flight"], stats["max_in_flight"]) == (0, 1)
    assert stats["connections"] == 1
    assert stats["cpu_seconds"] > 0
    first, streamed, refused, models = stats["log"]
    assert [row["number"] for row in stats["log"]] == [1, 2, 3, 4]
    assert first["prompt"] == PROMPT["messages"][0]["content"][:200]
    assert (first["model"], first["status"], first["disconnected"]) == (PROMPT["model"], 200, False)
    assert first["output_tokens"] == streamed["output_tokens"] == 50
    assert first["input_tokens"] == 116
    assert streamed["stream"] is True
    assert (refused["status"], refused["output_tokens"]) == (529, 0)
    assert models["path"] == "/v1/models"
    assert len({row["request_id"] for row in stats["log"]}) == 4


async def test_the_log_can_be_left_out(wire: Wire) -> None:
    for _ in range(3):
        await wire.ask("POST", "/v1/messages", PROMPT)

    assert (await read(wire, "/_fake/stats?log=0"))["log"] == []
    assert [row["number"] for row in (await read(wire, "/_fake/stats?log=2"))["log"]] == [2, 3]


async def test_mode_script_and_reset_over_the_wire(wire: Wire, simulator: Simulator) -> None:
    await wire.ask("POST", "/_fake/mode", {"status": 503})
    script = {"match": "prompt", "steps": [{"status": 529}, {"status": 200}]}
    queued = await wire.ask("POST", "/_fake/script", script)
    seen = [(await wire.ask("POST", "/v1/messages", PROMPT)).status for _ in range(3)]
    await wire.ask("POST", "/_fake/script", [script, script])
    mode = await read(wire, "/_fake/mode")
    await wire.ask("POST", "/_fake/reset")
    after = (await wire.ask("POST", "/v1/messages", PROMPT)).status

    assert msgspec.json.decode(queued.body) == {"script_steps": 2}
    assert seen == [529, 200, 503]
    assert mode["mode"] == {"status": 503}
    assert after == 200
    assert simulator.stats().requests == 1
    assert simulator.stats().script_steps == 0


async def test_bad_knobs_are_refused_and_change_nothing(wire: Wire) -> None:
    await wire.ask("POST", "/_fake/mode", {"text": "kept"})
    for path, body in (
        ("/_fake/mode", {"latency": "soon"}),
        ("/_fake/mode", [1]),
        ("/_fake/script", {"steps": [{"p": 2}]}),
        ("/_fake/script", {}),
    ):
        answer = await wire.ask("POST", path, body)
        assert answer.status == 400
        assert msgspec.json.decode(answer.body)["error"]

    assert (await wire.ask("GET", "/_fake/none")).status == 404
    assert b'"kept"' in (await wire.ask("POST", "/v1/messages", PROMPT)).body
