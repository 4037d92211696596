"""Batches as people see them: commands, why, doctor, verify, heartbeats; and ended by a person."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from agentflow.audit.verify import verify
from agentflow.cli import main
from agentflow.client import Client
from agentflow.config import Connect
from agentflow.master.sweep import SweepRate
from agentflow.protocol import batches, subjects
from agentflow.protocol.batches import RowState, Table, Twice
from agentflow.protocol.record import State
from agentflow.rules.routes import gates
from tests.integration.batches.conftest import PACE, Lane
from tests.support import masters
from tests.support.nats_server import NatsServer

Command = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture(name="cli")
def _cli(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.setenv("AGENTFLOW_NATS", nats_server.url)

    async def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(main, arguments)
        return code, "".join(capsys.readouterr())

    return run


@pytest.fixture(name="client")
async def _client(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with Client(Connect(urls=(nats_server.url,))) as client:
        yield client


async def made(lane: Lane) -> str:
    """The id of the one batch, once it is known."""

    async def found() -> str | None:
        return next((r.id for r in (await lane.table()).rows if r.state is RowState.MADE), None)

    batch = await lane.observer.becomes(found)
    assert batch is not None
    return batch


async def test_a_batch_is_listed_shown_and_cancelled(
    lane: Lane, cli: Command, client: Client, nats_server: NatsServer
) -> None:
    assert await cli("batches") == (0, "no batches; agentflow run FILE --batch\n")
    lane.simulator.set_mode({"batches": {"processing": 600}})
    await lane.worker()
    ids = await lane.submit(3)
    batch = await made(lane)
    async with masters.a_master(nats_server.url) as master:
        await masters.ready(master)

        async def told() -> str | None:
            text = (await client.why(ids[0])).text
            return text if "(in_progress)" in text else None

        why = await lane.observer.becomes(told)
        assert why == f"It is in batch {batch} (in_progress): 0 of 3 done, expires in 24 h."
        code, out = await cli("batches", "list", "--json")
        assert code == 0
        row = json.loads(out)
        assert (row["id"], row["count"], row["status"]) == (batch, 3, "in_progress")
        code, out = await cli("batches", "show", batch)
        assert code == 0
        heading, line = out.splitlines()
        assert heading.split() == [
            *("BATCH", "QUEUE", "STATE", "REQUESTS", "SETTLED", "AGE", "EXPIRES", "COST", "SAVED")
        ]
        assert line.split()[:5] == [batch, "default", "in_progress", "3", "0"]
    assert (await cli("batches", "show", "msgbatch_none"))[0] == 1
    assert (await cli("batches", "cancel"))[0] == 2
    report = await verify(lane.observer.js)
    assert [finding for finding in report.findings if finding.id in ids] == []

    code, out = await cli("batches", "cancel", batch, "--yes")
    assert (code, out) == (0, f"batch {batch} is being cancelled\n")
    for task_id in ids:
        ended = await lane.observer.ended(task_id)
        assert (ended.state, ended.reason) == (State.FAILED, "batch_canceled")
    await lane.at_rest()
    assert lane.paid() == {}


async def test_a_batch_nobody_waits_for_is_cancelled_at_the_api(lane: Lane) -> None:
    lane.simulator.set_mode({"batches": {"processing": 600}})
    await lane.worker()
    ids = await lane.submit(2)
    await made(lane)
    for task_id in ids:
        await lane.observer.log_as("test").cancel(task_id)
    await lane.at_rest()
    assert lane.paid() == {}


async def test_the_doctor_tells_of_batches_nobody_looks_after(
    lane: Lane, cli: Command, nats_server: NatsServer
) -> None:
    async def said() -> list[dict[str, Any]]:
        code, out = await cli("doctor", "--json")
        assert code == 0
        checks = json.loads(out)["checks"]
        return [check for check in checks if check["name"] == "batches"]

    lane.simulator.set_mode({"batches": {"processing": 600}})
    worker = await lane.worker()
    assert [check["text"] for check in await said()] == ["none under way"]
    await lane.submit(2)
    batch = await made(lane)
    (well,) = await said()
    assert (well["status"], well["text"]) == (
        "OK",
        "1 under way, 0 tasks wait for the next ones",
    )
    worker.actor.stop()
    await worker.actor.close()

    async def alone() -> dict[str, Any] | None:
        (check,) = await said()
        return check if check["status"] == "WARN" else None

    check = await lane.observer.becomes(alone)
    assert check is not None
    assert "no worker with credential pool looks after them" in check["text"]
    assert "agentflow worker --kinds claude --queues default" in check["remedy"]

    told = Table(twice=(Twice("af1", batch, 7, lane.observer.js.now()),))
    await lane.observer.js.store(subjects.kv(batches.key("other", "q")), batches.encode(told))
    texts = [check["text"] for check in await said()]
    assert any("paid beside another: " + batch + " (7 requests)" in text for text in texts)
    report = await verify(lane.observer.js)
    assert any("paid beside another" in finding.text for finding in report.findings)


async def test_a_batcher_tells_of_its_batches_with_its_heartbeats(
    lane: Lane, client: Client, nats_server: NatsServer
) -> None:
    lane.simulator.set_mode({"batches": {"processing": 600}})
    worker = await lane.worker()
    async with masters.a_master(nats_server.url) as master:
        await masters.ready(master)
        await lane.submit(2)
        batch = await made(lane)

        async def told() -> bool:
            worker.actor.beat()
            known = [one for each in await client.workers() for one in each.batches]
            return [one.status for one in known] == ["in_progress"]

        assert await lane.observer.becomes(told)
        (known,) = [one for each in await client.workers() for one in each.batches]
        assert (known.id, known.count, known.queue) == (batch, 2, "default")
        assert worker.batches == (1, 0, 0)


async def test_a_create_taken_for_not_done_that_was_is_told_as_paid_twice(
    lane: Lane, cli: Command
) -> None:
    lane.simulator.set_mode({"batches": {"lost": 1.0, "lost_by": "500", "listed_after": 3.0}})
    worker = await lane.worker(PACE)
    (task_id,) = await lane.submit(1)

    async def given_up() -> bool:
        return bool((await lane.table()).late)

    await lane.observer.becomes(given_up)
    lane.simulator.set_mode({})
    assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED

    async def twice() -> Table | None:
        table = await lane.table()
        return table if table.twice else None

    table = await lane.observer.becomes(twice)
    assert table is not None
    assert not table.late
    assert (await lane.observer.log(task_id))[-1].state == State.SUCCEEDED
    assert lane.paid() == {"question t0": 2}, "the simulator has it as it is: paid twice"
    assert worker.batches[2] == 1
    _, out = await cli("batches")
    assert "paid twice" in out


async def test_a_paused_queue_makes_no_batch(lane: Lane, client: Client) -> None:
    await lane.worker(None)
    (task_id,) = await lane.submit(1)
    await lane.observer.state(task_id, State.WAITING)
    await client.pause("default")
    await lane.worker()
    (later,) = await lane.submit(1, prefix="later")

    async def leads() -> bool:
        key = subjects.kv(batches.lease_key("pool", "default"))
        return await lane.observer.js.last(subjects.KV_STREAM, key) is not None

    await lane.observer.becomes(leads)
    assert "paused" in (await client.why(task_id)).text
    await asyncio.sleep(5 * PACE.gather)  # what must not happen has no event
    assert not list(lane.simulator.batches)
    assert not lane.observer.live.get(later)
    await client.resume("default")
    for name in (task_id, later):
        assert (await lane.observer.ended(name)).state == State.SUCCEEDED


async def test_no_credit_closes_batches_and_a_person_opens_them(lane: Lane, client: Client) -> None:
    lane.simulator.set_mode({"status": 403, "error_type": "permission_error"})
    await lane.worker()
    (task_id,) = await lane.submit(1)
    await lane.observer.state(task_id, State.WAITING)

    async def closed() -> str | None:
        why = await client.why(task_id)
        return why.text if why.reason == "closed" else None

    text = await lane.observer.becomes(closed)
    assert text is not None
    assert "pool pool.batch is closed" in text
    lane.simulator.set_mode({})
    await client.resume(pool="pool.batch")
    assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED
    assert await lane.observer.js.last(subjects.KV_STREAM, subjects.kv(gates.CLOSED + "x")) is None


async def test_the_deadline_of_a_waiting_task_ends_it(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentflow.rules.batches.LIVE_WITHIN", 0.0)
    lane.simulator.set_mode({"batches": {"processing": 600}})
    await lane.worker()
    deadline = (lane.observer.js.now() + timedelta(seconds=2)).isoformat()
    (task_id,) = await lane.submit(1, deadline=deadline)
    await lane.observer.state(task_id, State.WAITING)
    ended = await lane.observer.ended(task_id)
    assert (ended.state, ended.reason) == (State.FAILED, "deadline")
    await lane.at_rest()


async def test_a_deadline_within_a_day_runs_live(lane: Lane) -> None:
    await lane.worker()
    soon = (lane.observer.js.now() + timedelta(hours=24)).isoformat()
    (task_id,) = await lane.submit(1, deadline=soon)
    ended = await lane.observer.ended(task_id)
    assert ended.state == State.SUCCEEDED
    assert State.WAITING not in [entry.state for entry in lane.observer.live[task_id]]


async def test_the_sweep_ends_what_no_batch_will_have(lane: Lane, nats_server: NatsServer) -> None:
    await lane.worker(None)
    well, stray, gone = await lane.submit(3)
    for task_id in (well, stray, gone):
        await lane.observer.state(task_id, State.WAITING)

    async def entry(task_id: str) -> Any:
        sequence = (await lane.observer.last(task_id)).sequence
        subject = batches.entry("pool", "default", task_id, sequence)
        return await lane.observer.js.last(subjects.BATCH, subject)

    await lane.observer.becomes(lambda: entry(gone))
    lost = await entry(gone)
    assert await lane.observer.js.delete(subjects.BATCH, lost.sequence)
    # A table that is past an entry, which is in no row: after a restore, say.
    await lane.observer.becomes(lambda: entry(stray))
    first = await entry(stray)
    at = await entry(well)
    assert at.sequence < first.sequence
    row = batches.Row(nonce="af1", first=at.sequence, last=at.sequence, at=lane.observer.js.now())
    table = Table(next=first.sequence + 1, rows=(row,))
    await lane.observer.js.store(subjects.kv(batches.key("pool", "default")), batches.encode(table))
    rate = SweepRate(every=0.2, quiet=0.0, overdue=0.0)
    async with masters.a_master(nats_server.url, rate=rate) as master:
        await masters.ready(master)
        ended = await lane.observer.ended(stray)
        assert (ended.state, ended.reason) == (State.FAILED, "batch_lost")
        ended = await lane.observer.ended(gone)
        assert (ended.state, ended.reason) == (State.FAILED, "message_lost")
        assert (await lane.observer.last(well)).state == State.WAITING


async def test_withdrawing_a_job_leaves_what_a_batch_may_have(lane: Lane, client: Client) -> None:
    """A body that is being built may have it already: taken back and asked again it would be paid
    twice."""
    await lane.worker(None)
    (task_id,) = await lane.submit(1, labels={"job": "one"})
    await lane.observer.state(task_id, State.WAITING)
    assert [one.id async for one in client.operate.withdrawing.job("one")] == []
    assert not await client.operate.withdrawing.one(task_id)
    await lane.worker()
    assert (await lane.observer.ended(task_id)).state == State.SUCCEEDED
