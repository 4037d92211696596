"""Message Batches through the Python SDK: made, listed, ended, read, cancelled, deleted."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import pytest

from agentflow.simulator import KnobError, Simulator
from tests.simulator.conftest import Clock, Wire, packed

MODEL = "claude-sonnet-5-5"


def requests(count: int, prefix: str = "r") -> list[Any]:
    return [
        {
            "custom_id": f"{prefix}-{number}",
            "params": {
                "model": MODEL,
                "max_tokens": 100,
                "messages": [{"role": "user", "content": f"question {number}"}],
            },
        }
        for number in range(count)
    ]


def set_batches(simulator: Simulator, **knobs: Any) -> None:
    simulator.set_mode({"batches": knobs})


async def test_a_batch_runs_ends_and_gives_each_result_once(
    simulator: Simulator, client: anthropic.AsyncAnthropic, clock: Clock
) -> None:
    set_batches(simulator, processing=60)
    made = await client.messages.batches.create(requests=requests(3))
    assert made.processing_status == "in_progress"
    assert made.request_counts.processing == 3
    assert made.results_url is None
    assert (made.expires_at - made.created_at).total_seconds() == 86_400
    with pytest.raises(anthropic.AnthropicError, match="results"):
        await client.messages.batches.results(made.id)

    clock.now += 61
    ended = await client.messages.batches.retrieve(made.id)
    assert ended.processing_status == "ended"
    assert ended.request_counts.succeeded == 3
    assert ended.results_url is not None
    found = {
        line.custom_id: line.result async for line in await client.messages.batches.results(made.id)
    }
    assert found.keys() == {"r-0", "r-1", "r-2"}
    for result in found.values():
        assert result.type == "succeeded"
        assert result.message.usage.service_tier == "batch"
    assert simulator.batches.paid == {f"question {number}": 1 for number in range(3)}
    assert simulator.batches.calls == [f"{made.id}:r-{number}" for number in range(3)]


async def test_results_are_the_same_each_time(
    simulator: Simulator, client: anthropic.AsyncAnthropic
) -> None:
    made = await client.messages.batches.create(requests=requests(200))
    reads = []
    for _ in range(2):
        results = await client.messages.batches.results(made.id)
        reads.append([line.model_dump() async for line in results])
    assert reads[0] == reads[1]
    assert len(reads[0]) == 200


async def test_what_ends_otherwise_is_told_and_not_paid(
    simulator: Simulator, client: anthropic.AsyncAnthropic
) -> None:
    set_batches(simulator, errored=0.3, expired=0.3)
    wrong: Any = {"custom_id": "wrong", "params": {"model": MODEL, "messages": []}}
    made = await client.messages.batches.create(requests=[*requests(60), wrong])
    counts = (await client.messages.batches.retrieve(made.id)).request_counts
    assert counts.succeeded + counts.errored + counts.expired == 61
    assert min(counts.succeeded, counts.errored, counts.expired) > 5
    kinds = {
        line.custom_id: line.result async for line in await client.messages.batches.results(made.id)
    }
    assert sum(result.type == "expired" for result in kinds.values()) == counts.expired
    refused = kinds["wrong"]
    assert refused.type == "errored"
    assert refused.error.error.type == "invalid_request_error"
    assert simulator.batches.paid.total() == counts.succeeded


async def test_a_script_decides_what_becomes_of_one_request(
    simulator: Simulator, client: anthropic.AsyncAnthropic
) -> None:
    simulator.add_script([{"status": 500}], match="question 1")
    simulator.add_script([{"text": "word by word"}], match="question 2")
    made = await client.messages.batches.create(requests=requests(3))
    found = {
        line.custom_id: line.result async for line in await client.messages.batches.results(made.id)
    }
    assert found["r-1"].type == "errored"
    assert found["r-1"].error.error.type == "api_error"
    second = found["r-2"]
    assert second.type == "succeeded"
    block = second.message.content[0]
    assert block.type == "text"
    assert block.text == "word by word"


async def test_pages_are_walked_newest_first(
    simulator: Simulator, client: anthropic.AsyncAnthropic
) -> None:
    made = [(await client.messages.batches.create(requests=requests(1))).id for _ in range(7)]
    seen = [batch.id async for batch in client.messages.batches.list(limit=3)]
    assert seen == made[::-1]
    page = await client.messages.batches.list(limit=2, before_id=made[0])
    assert [batch.id for batch in page.data] == [made[2], made[1]]
    raw = await client.messages.batches.with_raw_response.list()
    assert raw.headers["anthropic-workspace-id"]
    assert raw.headers["date"]
    with pytest.raises(anthropic.BadRequestError, match="after_id"):
        await client.messages.batches.list(after_id="msgbatch_other")


async def test_a_cancelled_batch_ends_and_says_so(
    simulator: Simulator, client: anthropic.AsyncAnthropic, clock: Clock
) -> None:
    set_batches(simulator, processing=600, canceling=5)
    made = await client.messages.batches.create(requests=requests(4))
    with pytest.raises(anthropic.BadRequestError, match="cancel it"):
        await client.messages.batches.delete(made.id)
    told = await client.messages.batches.cancel(made.id)
    assert told.processing_status == "canceling"
    clock.now += 6
    ended = await client.messages.batches.retrieve(made.id)
    assert (ended.processing_status, ended.request_counts.canceled) == ("ended", 4)
    assert not simulator.batches.paid
    with pytest.raises(anthropic.BadRequestError, match="has ended"):
        await client.messages.batches.cancel(made.id)
    assert (await client.messages.batches.delete(made.id)).id == made.id
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.batches.retrieve(made.id)
    assert not [batch async for batch in client.messages.batches.list()]


async def test_what_is_not_done_after_a_day_has_expired(
    simulator: Simulator, client: anthropic.AsyncAnthropic, clock: Clock
) -> None:
    set_batches(simulator, processing=2 * 86_400)
    made = await client.messages.batches.create(requests=requests(10))
    clock.now += 86_401
    counts = (await client.messages.batches.retrieve(made.id)).request_counts
    assert (counts.succeeded, counts.expired) == (5, 5)


@pytest.mark.parametrize("how", ["drop", "reset", "500"])
async def test_a_create_may_be_done_and_not_answered(
    simulator: Simulator, client: anthropic.AsyncAnthropic, how: str
) -> None:
    set_batches(simulator, lost=1.0, lost_by=how)
    with pytest.raises(anthropic.APIError):
        await client.messages.batches.create(requests=requests(2))
    assert len([batch async for batch in client.messages.batches.list()]) == 1


async def test_a_batch_may_be_listed_late(
    simulator: Simulator, client: anthropic.AsyncAnthropic, clock: Clock
) -> None:
    set_batches(simulator, listed_after=30)
    made = await client.messages.batches.create(requests=requests(1))
    assert not (await client.messages.batches.list()).data
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.batches.retrieve(made.id)
    clock.now += 31
    assert (await client.messages.batches.list()).data[0].id == made.id


async def test_results_may_be_cut_or_short(
    simulator: Simulator, client: anthropic.AsyncAnthropic
) -> None:
    made = await client.messages.batches.create(requests=requests(300))
    set_batches(simulator, short=1.0)
    lines = [line async for line in await client.messages.batches.results(made.id)]
    assert len(lines) == 299
    set_batches(simulator, cut=1.0)
    with pytest.raises(httpx2.RemoteProtocolError):
        [line async for line in await client.messages.batches.results(made.id)]


async def test_limits_refuse_a_create(
    simulator: Simulator, client: anthropic.AsyncAnthropic, clock: Clock
) -> None:
    set_batches(simulator, processing=60, queued_most=5, bytes_most=2_000)
    await client.messages.batches.create(requests=requests(4))
    with pytest.raises(anthropic.RateLimitError) as refused:
        await client.messages.batches.create(requests=requests(2))
    assert refused.value.response.headers["retry-after"] == "1"
    with pytest.raises(anthropic.RequestTooLargeError):
        await client.messages.batches.create(requests=requests(20))
    clock.now += 61
    await client.messages.batches.create(requests=requests(2))


async def test_a_wrong_create_names_its_request(
    simulator: Simulator, client: anthropic.AsyncAnthropic
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"requests\.1\.custom_id"):
        await client.messages.batches.create(requests=[*requests(1), *requests(1)])
    with pytest.raises(anthropic.BadRequestError, match="requests"):
        await client.messages.batches.create(requests=[])
    set_batches(simulator, strict=True)
    wrong: Any = {"custom_id": "wrong", "params": {"model": MODEL, "max_tokens": 1}}
    with pytest.raises(anthropic.BadRequestError, match=r"requests\.2\.params\.messages"):
        await client.messages.batches.create(requests=[*requests(2), wrong])
    assert not list(simulator.batches)


async def test_a_body_without_its_last_byte_makes_nothing(simulator: Simulator, wire: Wire) -> None:
    data = packed("POST", "/v1/messages/batches", {"requests": requests(3)})
    wire.writer.write(data[:-1])
    await wire.writer.drain()
    await wire.close()
    assert not list(simulator.batches)


async def test_control_tells_what_was_bought(simulator: Simulator, wire: Wire) -> None:
    await wire.ask("POST", "/v1/messages/batches", {"requests": requests(2)})
    told = (await wire.ask("GET", "/_fake/batches")).body
    assert b'"paid":{"question 0":1,"question 1":1}' in told


async def test_the_beta_client_is_answered_too(
    simulator: Simulator, client: anthropic.AsyncAnthropic
) -> None:
    made = await client.beta.messages.batches.create(requests=requests(1))
    lines = [line async for line in await client.beta.messages.batches.results(made.id)]
    assert lines[0].result.type == "succeeded"


def test_knobs_of_batches_belong_into_the_mode() -> None:
    simulator = Simulator()
    simulator.set_mode({"batches": {"processing": {"kind": "uniform", "low": 1, "high": 2}}})
    with pytest.raises(KnobError, match="outlives"):
        simulator.add_script([{"batches": {}}])
