"""Tasks through the Message Batches API: parked, gathered, sent, settled, each paid once."""

from __future__ import annotations

from agentflow.protocol import batches, subjects
from agentflow.protocol.batches import RowState
from agentflow.protocol.record import State
from tests.integration.batches.conftest import Lane


async def test_tasks_go_through_a_batch_at_half_the_price(lane: Lane) -> None:
    await lane.worker()
    ids = await lane.submit(5)
    live = (await lane.submit(1, prefix="live", batch=False))[0]
    full = await lane.observer.ended(live)
    for task_id in ids:
        ended = await lane.observer.ended(task_id)
        assert ended.state == State.SUCCEEDED
        assert (ended.attempt, ended.failures) == (1, 0)
        assert ended.text is not None
        assert ended.text.startswith("[SIMULATED]")
        assert ended.simulated
        assert ended.usage_told["service_tier"] == "batch"
        assert ended.cost_usd is not None
        assert full.cost_usd is not None
        assert ended.saved_usd == ended.cost_usd
        assert ended.request_id is not None
        assert ended.request_id.startswith("msgbatch_")
        assert ended.timings.started is not None
        assert ended.timings.submitted is not None
        assert ended.timings.started >= ended.timings.submitted
        states = [entry.state for entry in lane.observer.live[task_id]]
        assert states == [State.WAITING, State.SUCCEEDED]
    assert full.saved_usd == 0.0
    assert lane.paid() == {f"question t{number}": 1 for number in range(5)}
    assert len(list(lane.simulator.batches)) == 1
    await lane.at_rest()
    table = await lane.table()
    assert not table.late
    assert not table.twice


async def test_what_waits_has_its_entry_and_no_message(lane: Lane) -> None:
    await lane.worker(None)
    (task_id,) = await lane.submit(1)
    waiting = await lane.observer.state(task_id, State.WAITING)
    assert waiting.record is not None
    assert (waiting.record.reason, waiting.record.pool) == ("batch", "pool")
    entry = batches.entry("pool", "default", task_id, waiting.sequence)

    async def parked() -> bool:
        stored = await lane.observer.js.last(subjects.BATCH, entry)
        queue = await lane.observer.js.stream_info(subjects.TASKS)
        return stored is not None and not queue["state"]["messages"]

    assert await lane.observer.becomes(parked)
    stored = await lane.observer.js.last(subjects.BATCH, entry)
    assert stored is not None
    assert stored.headers[subjects.FOLLOWS] == str(waiting.sequence)
    assert batches.key("pool", "default")
    # Whoever has the credential gathers it, though it came later.
    await lane.worker(queues=["other"])
    assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED


async def test_an_errored_request_waits_for_the_next_batch(lane: Lane) -> None:
    lane.simulator.add_script([{"status": 500}], match="question t0")
    await lane.worker()
    first, second = await lane.submit(2)
    again = await lane.observer.ended(first)
    assert (again.state, again.attempt, again.failures) == (State.SUCCEEDED, 2, 1)
    assert (await lane.observer.ended(second)).attempt == 1
    states = [entry.state for entry in lane.observer.live[first]]
    assert states == [State.WAITING, State.RETRYING, State.WAITING, State.SUCCEEDED]
    await lane.at_rest()
    assert lane.paid() == {"question t0": 1, "question t1": 1}


async def test_once_means_live_after_one_batch_that_was_not_paid(lane: Lane) -> None:
    lane.simulator.set_mode({"batches": {"expired": 1.0}})
    await lane.worker()
    (task_id,) = await lane.submit(1, batch="once")
    ended = await lane.observer.ended(task_id)
    assert (ended.state, ended.attempt) == (State.SUCCEEDED, 2)
    states = [entry.state for entry in lane.observer.live[task_id]]
    assert states == [State.WAITING, State.RETRYING, State.RUNNING, State.SUCCEEDED]
    assert lane.observer.live[task_id][1].record.reason == "batch_expired"  # type: ignore[union-attr]
    assert lane.paid() == {}


async def test_a_request_that_is_refused_fails_with_its_dead_letter(lane: Lane) -> None:
    await lane.worker()
    lane.simulator.add_script([{"status": 400, "error_message": "no"}], match="question t0")
    (task_id,) = await lane.submit(1)
    ended = await lane.observer.ended(task_id)
    assert (ended.state, ended.reason) == (State.FAILED, "invalid_request")
    await lane.at_rest()
    dead = await lane.observer.js.last(subjects.DEAD, subjects.dead("default", task_id))
    assert dead is not None


async def test_a_lost_answer_is_found_by_the_list(lane: Lane) -> None:
    for how in ("drop", "500"):
        lane.simulator.set_mode({"batches": {"lost": 1.0, "lost_by": how, "processing": 0.5}})
        if not lane.handlers:
            await lane.worker()
        for task_id in await lane.submit(3, prefix=how):
            assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED
    await lane.at_rest()
    assert set(lane.paid().values()) == {1}
    assert len(list(lane.simulator.batches)) == 2


async def test_a_create_that_was_not_done_is_done_again(lane: Lane) -> None:
    lane.simulator.set_mode({"fault": "drop"})
    await lane.worker()
    (task_id,) = await lane.submit(1)

    async def tried() -> bool:
        return bool((await lane.table()).rows)

    await lane.observer.becomes(tried)
    lane.simulator.set_mode({"status": 500, "p": 1.0})
    await lane.simulator.wait_for(lambda: lane.simulator.log.outcomes["500"] > 1)
    lane.simulator.set_mode({})
    assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED
    assert lane.paid() == {"question t0": 1}


async def test_a_full_queue_is_waited_for(lane: Lane) -> None:
    lane.simulator.set_mode({"batches": {"refused": 1.0, "retry_after": 1}})
    await lane.worker()
    (task_id,) = await lane.submit(1)
    await lane.simulator.wait_for(lambda: lane.simulator.log.outcomes["429"] == 1)
    key = subjects.kv("closed.pool.batch")

    async def closed() -> bool:
        return await lane.observer.js.last(subjects.KV_STREAM, key) is not None

    assert await lane.observer.becomes(closed)
    lane.simulator.set_mode({})
    assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED
    assert lane.simulator.log.outcomes["429"] == 1
    await lane.at_rest()


async def test_a_body_too_large_is_halved(lane: Lane) -> None:
    lane.simulator.set_mode({"batches": {"bytes_most": 500}})
    await lane.worker()
    for task_id in await lane.submit(8):
        assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED
    await lane.at_rest()
    assert lane.simulator.log.outcomes["413"] > 0
    assert set(lane.paid().values()) == {1}


async def test_one_request_too_large_fails_alone(lane: Lane) -> None:
    lane.simulator.set_mode({"batches": {"bytes_most": 400}})
    await lane.worker()
    (large,) = await lane.submit(1, prefix="large", prompt="x" * 600)
    small = (await lane.submit(1, prefix="small"))[0]
    ended = await lane.observer.ended(large)
    assert (ended.state, ended.reason) == (State.FAILED, "too_large")
    assert (await lane.observer.ended(small)).state == State.SUCCEEDED
    await lane.at_rest()


async def test_a_request_that_the_create_names_fails_alone(lane: Lane) -> None:
    lane.simulator.set_mode({"batches": {"strict": True}})
    await lane.worker()
    wrong = await lane.submit(1, prefix="wrong", params={"stop_sequences": 5})
    right = await lane.submit(2)
    ended = await lane.observer.ended(wrong[0])
    assert (ended.state, ended.reason) == (State.FAILED, "invalid_request")
    for task_id in right:
        assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED
    await lane.at_rest()


async def test_results_that_break_off_are_read_again(lane: Lane) -> None:
    lane.simulator.set_mode({"batches": {"cut": 0.5, "short": 0.3}})
    await lane.worker()
    for task_id in await lane.submit(40):
        assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED
    await lane.at_rest()
    assert set(lane.paid().values()) == {1}
    doubled = [task for task, told in lane.observer.live.items() if len(told) != 2]
    assert not doubled


async def test_a_cancelled_task_stays_cancelled_whatever_its_batch_says(lane: Lane) -> None:
    lane.simulator.set_mode({"batches": {"processing": 1.0}})
    await lane.worker()
    first, second = await lane.submit(2)

    async def made() -> bool:
        return any(row.state is RowState.MADE for row in (await lane.table()).rows)

    await lane.observer.becomes(made)
    await lane.observer.log_as("test").cancel(first)
    assert (await lane.observer.ended(second)).state == State.SUCCEEDED
    await lane.at_rest()
    assert [entry.state for entry in lane.observer.live[first]] == [State.WAITING, State.CANCELLED]


async def test_a_deleted_batch_fails_its_tasks_openly(lane: Lane) -> None:
    lane.simulator.set_mode({"batches": {"processing": 600}})
    await lane.worker()
    (task_id,) = await lane.submit(1)

    async def made() -> bool:
        return any(row.state is RowState.MADE for row in (await lane.table()).rows)

    await lane.observer.becomes(made)
    for batch in lane.simulator.batches:
        batch.deleted = True
    ended = await lane.observer.ended(task_id)
    assert (ended.state, ended.reason) == (State.FAILED, "batch_gone")
    await lane.at_rest()


async def test_a_batch_that_is_not_found_for_a_while_is_waited_for(lane: Lane) -> None:
    lane.simulator.set_mode({"batches": {"listed_after": 0.6}})
    await lane.worker()
    (task_id,) = await lane.submit(1)
    assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED


async def test_what_cannot_go_into_a_batch_is_refused(lane: Lane) -> None:
    await lane.worker()
    (headers,) = await lane.submit(1, prefix="h", params={"extra_headers": {"x-a": "b"}})
    (echo,) = await lane.submit(1, prefix="e", kind="echo")
    for task_id in (headers, echo):
        ended = await lane.observer.ended(task_id)
        assert (ended.state, ended.reason) == (State.FAILED, "invalid")


async def test_two_batchers_make_one_batch(lane: Lane) -> None:
    await lane.worker()
    await lane.worker()
    for task_id in await lane.submit(20):
        assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED
    await lane.at_rest()
    assert set(lane.paid().values()) == {1}


async def test_a_route_that_is_closed_for_long_sends_its_tasks_into_a_batch(lane: Lane) -> None:
    lane.simulator.set_mode({"status": 429, "retry_after": 60, "p": 1.0})
    await lane.worker()
    await lane.submit(1, prefix="first", batch=False)
    await lane.observer.state("first0", State.RETRYING)
    (task_id,) = await lane.submit(1, batch=None, batch_after=0.5)
    await lane.observer.state(task_id, State.WAITING)
    lane.simulator.set_mode({})
    ended = await lane.observer.ended(task_id)
    assert ended.state == State.SUCCEEDED
    assert lane.paid() == {"question t0": 1}
