"""Every act once, on a real server with real workers: its receipt is followed to the effect."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agentflow.dashboard.feed import acting, receipts
from agentflow.dashboard.feed.receipts import Progress
from agentflow.dashboard.reader.effects import Fetch
from agentflow.dashboard.reader.scene import Letter, Receipt
from agentflow.handlers.contract import Run
from agentflow.protocol import subjects
from agentflow.protocol.record import State
from agentflow.rules.retry import Signal
from agentflow.rules.routes.closures import Closed
from tests.dashboard.support.stage import Stage
from tests.support.handlers import Gate, failing
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.timeout(60)

BROKEN = {"broken": failing(Signal(status=400))}


def ended(receipt: Receipt, text: str, token: str = "ok") -> None:
    assert receipt.ended
    assert (receipt.token, bool(re.fullmatch(text, receipt.text))) == (token, True), receipt.text


async def failed(stage: Stage, number: int, **fields: Any) -> list[str]:
    """Ids of tasks that failed, their letters stored."""
    tasks = [await stage.client.submit("x", kind="broken", **fields) for _ in range(number)]
    for task in tasks:
        await stage.state(task.id, State.FAILED)
        while await stage.client.js.last(subjects.DEAD, subjects.dead("*", task.id)) is None:
            await asyncio.sleep(0.01)
    return [task.id for task in tasks]


def letter_ids(stage: Stage) -> set[str]:
    letters = stage.dash.answers.letters
    assert letters is not None
    return {letter.id for letter in letters}


async def test_cancel_of_what_runs_what_waits_and_what_no_worker_has_seen(
    stage: Stage, start_worker: Any
) -> None:
    gate = Gate()
    await start_worker({"gate": gate}, slots=1)
    running = await stage.client.submit("x", kind="gate")
    await stage.state(running.id, State.RUNNING)
    later = datetime.now(UTC) + timedelta(hours=1)
    parked = await stage.client.submit("x", kind="echo", queue="second", not_before=later)
    unseen = await stage.client.submit("x", queue="unserved")  # no master could say where it is
    await stage.state(unseen.id, State.QUEUED)
    await start_worker(queues=["second"])
    await stage.state(parked.id, State.SCHEDULED)
    receipt = await stage.act("cancel", running.id, parked.id, unseen.id)
    ended(receipt, r"3 cancelled after [\d.]+s")
    assert receipt.command.startswith(f"agentflow cancel --yes {running.id} ")
    assert stage.dash.receipts == [receipt]
    stream = (await stage.client.js.stream_info(subjects.TASKS))["state"]
    assert stream["messages"] == 0


async def test_a_task_that_has_ended_meanwhile_is_named(stage: Stage, start_worker: Any) -> None:
    await start_worker()
    task = await stage.client.submit("x", kind="echo")
    await stage.state(task.id, State.SUCCEEDED)
    receipt = await stage.acting.perform("cancel", [task.id])
    ended(receipt, "not done: it had ended before: succeeded", "crit")
    gone = await stage.acting.perform("retry", [task.id, "nobody"])
    ended(gone, r"2 not done \(.*nobody: there is no task nobody.*\)", "crit")


async def test_retry_is_followed_until_it_runs_again(stage: Stage, start_worker: Any) -> None:
    await start_worker({"broken": failing(Signal(status=400), times=2)})
    first, second = await failed(stage, 2)
    await stage.answering.fetch(Fetch("letters"))
    assert letter_ids(stage) == {first, second}
    ended(await stage.act("retry", first), r"started again after [\d.]+s")
    await stage.state(first, State.SUCCEEDED)
    assert letter_ids(stage) == {second}


async def test_a_retry_that_no_worker_takes_says_so(
    stage: Stage, start_worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "NO_EFFECT", 0.2)
    monkeypatch.setattr(acting, "GIVE_UP", 0.6)
    await start_worker(BROKEN)
    (task_id,) = await failed(stage, 1)
    await stage.client.pause("default")
    work = stage.begin(stage.acting.perform("retry", [task_id]))
    await stage.until(lambda: stage.dash.receipts and "no effect" in stage.dash.receipts[-1].text)
    (receipt,) = stage.dash.receipts
    assert (receipt.ended, receipt.token) == (False, "warn")
    assert re.fullmatch(
        r"accepted after [\d.]+s; no effect for [\d.]+s: it waits in its queue", receipt.text
    )
    ended(await work, r"accepted after .*; no effect for .*", "crit")


async def test_groups_of_dead_letters_are_retried_and_dropped(
    stage: Stage, start_worker: Any
) -> None:
    await start_worker({**BROKEN, "other": failing(Signal(status=404))}, queues=["default", "q"])
    mine = await failed(stage, 3)
    other = await failed(stage, 2, queue="q")
    await stage.answering.fetch(Fetch("letters"))
    assert letter_ids(stage) == {*mine, *other}
    letters: list[Letter] = stage.dash.answers.letters or []
    assert {letter.error for letter in letters} == {"scripted 400: as the test wants"}
    assert {letter.attempts for letter in letters} == {1}
    before = (await stage.client.read(mine[0])).sequence
    receipt = await stage.act("retry_group", *mine)
    ended(receipt, r"3 started again after [\d.]+s")
    assert (await stage.client.read(mine[0])).sequence > before
    ended(await stage.act("drop_group", *other), r"2 dropped after [\d.]+s")
    ended(await stage.acting.perform("drop", other[:1]), "not done: .* has no dead letter", "crit")
    assert letter_ids(stage) == set()
    assert not [each async for each in stage.client.dead.letters() if each.queue == "q"]


async def test_pause_and_resume_of_queues_pools_and_kinds(stage: Stage) -> None:
    ended(await stage.act("pause", "one", "two"), r"2 paused after [\d.]+s")
    assert {gate.name for gate in await stage.client.pauses()} == {"one", "two"}
    ended(await stage.act("resume", "one"), r"resumed after [\d.]+s")
    await stage.client.pause(kind="my.kind")
    closed = Closed(since=datetime.now(UTC), until=None, reason="auth", actor="w1")
    await stage.client.operate.pauses._board.change(
        "closed.main.opus", lambda _: msgspec.json.encode(closed)
    )
    await stage.until(lambda: len(stage.dash.store.gates) == 3)
    receipt = await stage.act("resume", "closed.main.opus", "pause.kind.my_kind", "two")
    ended(receipt, r"3 resumed after [\d.]+s")
    assert receipt.command == "agentflow resume --all"
    assert await stage.client.pauses() == []
    assert stage.dash.store.gates == []


async def test_drain_is_followed_to_the_heartbeat_that_says_so(
    stage: Stage, start_worker: Any
) -> None:
    gate = Gate()
    worker = await start_worker({"gate": gate}, name="one", grace=30.0)
    task = await stage.client.submit("x", kind="gate")
    await gate.started.wait()
    await stage.until(lambda: stage.dash.store.workers())
    actor = worker.actor.name
    ended(await stage.act("drain", actor), r"draining after [\d.]+s")
    known = stage.dash.store.actors.get(actor)
    assert known is None or known.beat.stopping
    gate.opened.set()
    await stage.state(task.id, State.SUCCEEDED)


async def test_submit_is_followed_until_the_feed_knows_it(stage: Stage) -> None:
    stored: list[str] = []
    arguments = {"prompt": "x", "queue": "later", "labels": {"a": "b"}}
    receipt = await stage.acting.submit(arguments, "agentflow submit x", stored.append)
    (task_id,) = stored
    ended(receipt, rf"{task_id} is known after [\d.]+s")
    assert stage.dash.store.rows[task_id].queue == "later"
    refused = await stage.acting.submit({**arguments, "queue": "Not A Queue"})
    ended(refused, "not done: queue 'Not A Queue' is not allowed.*", "crit")
    assert [each.ended for each in stage.dash.receipts] == [True, True]


async def test_what_is_not_answered_is_found_out_from_the_feed(
    stage: Stage, start_worker: Any, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentflow.client import Client
    from agentflow.errors import NoAnswer

    async def unanswered(client: Client, queue: str, **_: Any) -> None:
        await client.operate.pauses.pause(queue)
        raise NoAnswer("no answer came")

    monkeypatch.setattr(Client, "pause", unanswered)
    ended(await stage.act("pause", "one"), r"paused after [\d.]+s")


async def test_many_are_done_at_once_and_their_receipt_counts(
    stage: Stage, start_worker: Any
) -> None:
    tasks = [await stage.client.submit("x", queue="unserved") for _ in range(300)]
    ids = [task.id for task in tasks]
    await stage.until(lambda: len(stage.dash.store.rows) == 300)
    texts: set[str] = set()
    work = stage.begin(stage.act("cancel", *ids))
    while not work.done():
        stage.changed.clear()
        await asyncio.wait({work, stage.begin(stage.changed.wait())}, return_when="FIRST_COMPLETED")
        texts |= {receipt.text for receipt in stage.dash.receipts}
    ended(await work, r"300 cancelled after [\d.]+s")
    assert "sent" in texts


async def test_a_long_run_hangs_up_when_cancelled(stage: Stage, start_worker: Any) -> None:
    hung_up = asyncio.Event()

    async def long(run: Run) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            hung_up.set()

    await start_worker({"long": long})
    task = await stage.client.submit("x", kind="long")
    await stage.state(task.id, State.RUNNING)
    ended(await stage.act("cancel", task.id), r"cancelled after [\d.]+s")
    await hung_up.wait()


def test_a_receipt_in_words() -> None:
    progress = Progress(5, "cancelled")
    assert (progress.text(), progress.token(), progress.ended) == ("sent", "dim", False)
    progress.accepted, progress.accepted_after = 3, progress.passed
    progress.seen = 2
    assert progress.text().startswith("3 of 5 accepted after 0.0s, 2 cancelled")
    for name in "ab":
        progress.failed[name] = "it had ended"
    progress.seen = 3
    progress.seen_after = 1.25
    expected = "3 cancelled after 1.2s; 2 not done (a: it had ended; b: it had ended)"
    assert (progress.text(), progress.token()) == (expected, "warn")
    many = Progress(9, "dropped", failed={str(number): "gone" for number in range(9)})
    assert many.text() == "9 not done (0: gone; 1: gone; 2: gone; 6 more)"
    assert many.token() == "crit"
