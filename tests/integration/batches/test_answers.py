"""What a batch answers to tasks with a schema, and of more than their message holds."""

from __future__ import annotations

import json
from typing import Any

from agentflow.bus.streams.payloads import Payloads
from agentflow.protocol import task as tasks
from agentflow.protocol.record import State
from agentflow.protocol.task import TaskBody
from tests.integration.batches.conftest import Lane

SCHEMA = {
    "type": "object",
    "required": ["n"],
    "properties": {"n": {"type": "integer"}},
    "additionalProperties": False,
}


def requests(lane: Lane) -> list[dict[str, Any]]:
    """What was asked in batches, in their order."""
    return [
        json.loads(bytes(one.params)) for batch in lane.simulator.batches for one in batch.asked
    ]


async def test_an_answer_to_a_schema_has_its_value(lane: Lane) -> None:
    lane.simulator.add_script([{"text": '{"n": 7}'}], match="question t0")
    await lane.worker()
    (task_id,) = await lane.submit(1, schema=SCHEMA)
    ended = await lane.observer.ended(task_id)
    assert (ended.state, ended.value, ended.repair) == (State.SUCCEEDED, {"n": 7}, None)


async def test_a_breaking_answer_is_shown_its_fault_in_the_next_batch(lane: Lane) -> None:
    steps = [{"text": '{"n": "seven"}'}, {"text": '{"n": 7}'}]
    lane.simulator.add_script(steps, match="question t0")
    await lane.worker()
    (task_id,) = await lane.submit(1, schema=SCHEMA)
    ended = await lane.observer.ended(task_id)
    assert (ended.state, ended.value, ended.attempt) == (State.SUCCEEDED, {"n": 7}, 2)
    first, second = requests(lane)
    assert len(first["messages"]) == 1
    assert [said["role"] for said in second["messages"]] == ["user", "assistant", "user"]
    assert "does not fit the JSON schema" in second["messages"][2]["content"]
    assert ended.repair is not None
    assert ended.repair.turns == 1
    assert ended.repair.cost_usd is not None
    assert ended.cost_usd is not None
    assert 0 < ended.repair.cost_usd < ended.cost_usd
    states = [(entry.state, entry.record.reason) for entry in lane.observer.live[task_id]]  # type: ignore[union-attr]
    assert states[1] == (State.RETRYING, "schema")
    assert sum(lane.paid().values()) == 2


async def test_an_answer_that_goes_on_breaking_fails_with_its_text(lane: Lane) -> None:
    lane.simulator.set_mode({"text": "no JSON"})
    await lane.worker()
    (task_id,) = await lane.submit(1, schema=SCHEMA, repair=1)
    ended = await lane.observer.ended(task_id)
    assert (ended.state, ended.reason) == (State.FAILED, "schema")
    assert (ended.attempt, ended.text, ended.partial) == (2, "no JSON", False)
    await lane.at_rest()


async def test_once_asks_a_breaking_answer_again_live(lane: Lane) -> None:
    steps = [{"text": "no JSON"}, {"text": '{"n": 7}'}]
    lane.simulator.add_script(steps, match="question t0")
    await lane.worker()
    (task_id,) = await lane.submit(1, schema=SCHEMA, batch="once")
    ended = await lane.observer.ended(task_id)
    assert (ended.state, ended.value) == (State.SUCCEEDED, {"n": 7})
    states = [entry.state for entry in lane.observer.live[task_id]]
    assert states == [State.WAITING, State.RETRYING, State.RUNNING, State.SUCCEEDED]


async def test_a_schema_that_is_none_fails_before_anything_is_asked(lane: Lane) -> None:
    await lane.worker()
    (task_id,) = await lane.submit(1, schema={"type": "nothing"})
    ended = await lane.observer.ended(task_id)
    assert (ended.state, ended.reason) == (State.FAILED, "invalid")
    assert not requests(lane)


async def test_what_a_task_says_besides_its_message_goes_into_its_batch(lane: Lane) -> None:
    await lane.worker()
    body = TaskBody(prompt="long " * 1_000, batch=True)
    small, data = tasks.split(body)
    await Payloads(lane.observer.js).put("large", data)
    needs = {"Agentflow-Id": "large", "Agentflow-Needs": "batch, payload"}
    await lane.observer.submit(tasks.encode_body(small), needs)
    (lost,) = await lane.submit(1, payload={"digest": "sha256:" + "0" * 64, "size": 9}, prompt=None)
    assert (await lane.observer.ended("large")).state == State.SUCCEEDED
    ended = await lane.observer.ended(lost)
    assert (ended.state, ended.reason) == (State.FAILED, "payload_lost")
    (asked,) = requests(lane)
    assert asked["messages"][0]["content"] == body.prompt
