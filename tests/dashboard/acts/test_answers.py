"""What a view asks for besides the feed, from a real server: logs, prompts, why, dead letters."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentflow.dashboard.feed import answers
from agentflow.dashboard.reader.effects import Fetch
from agentflow.errors import NoAnswer
from agentflow.protocol.record import State
from agentflow.rules.retry import Signal
from tests.dashboard.support.stage import Stage
from tests.support.handlers import Gate, failing
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.timeout(60)


async def test_an_open_task_is_read_anew_when_it_goes_on(stage: Stage, start_worker: Any) -> None:
    gate = Gate()
    task = await stage.client.submit("why is the sky blue", kind="gate", system="be brief")
    await stage.state(task.id, State.QUEUED)
    stage.dash.do("open_task", task.id, stage.now())
    assert "it has not started" in await stage.look()
    await stage.press("tab", "tab")  # no master is there, and still its message is found
    assert "why is the sky blue" in stage.screen()
    await start_worker({"gate": gate})
    await stage.state(task.id, State.RUNNING)
    gate.opened.set()
    await stage.state(task.id, State.SUCCEEDED)
    row = stage.dash.store.rows[task.id]

    def known() -> bool:
        log = stage.dash.answers.logs[task.id]
        return bool(log) and log[-1][0] == row.sequence

    while not known():
        await stage.look()
        await asyncio.sleep(0.05)
    await stage.press("shift+tab")
    screen = stage.screen()
    assert "attempt 1" in screen
    assert "✓ succeeded" in screen
    await stage.press("shift+tab")
    assert "released" in stage.screen()


async def test_text_is_followed_as_it_is_generated(stage: Stage, start_worker: Any) -> None:
    written, opened = asyncio.Event(), asyncio.Event()

    async def speaks(run: Any) -> Any:
        run.emit("so far")
        written.set()
        await opened.wait()
        run.emit(", and on")
        await asyncio.Event().wait()

    await start_worker({"speaks": speaks})
    task = await stage.client.submit("x", kind="speaks")
    stage.dash.do("open_task", task.id, stage.now())
    assert stage.live is not None
    stage.dash.wanted(stage.now())
    stage.live.follow_tokens(stage.dash.followed())
    await written.wait()
    await stage.client.connection.flush()
    opened.set()
    await stage.until(lambda: stage.dash.texts[task.id].text.endswith(", and on"))
    await stage.state(task.id, State.RUNNING)
    assert ", and on" in stage.screen()


async def test_why_is_what_the_command_says(stage: Stage, start_worker: Any) -> None:
    await start_worker()
    later = datetime.now(UTC) + timedelta(hours=1)
    task = await stage.client.submit("x", kind="echo", not_before=later)
    await stage.state(task.id, State.SCHEDULED)
    stage.dash.do("open_task", task.id, stage.now())
    await stage.press("w")
    said = (await stage.client.why(task.id)).text
    assert stage.dash.answers.whys[task.id] == f"scheduled: {said}"
    assert "It was submitted to start not before" in stage.screen()
    await stage.answering.fetch(Fetch("why", "nobody"))
    assert "nobody" in stage.dash.answers.problems["why", "nobody"]
    assert stage.dash.notice is not None
    assert "nobody" in stage.dash.notice.text


async def test_many_letters_are_shown_as_they_come_and_the_newest_kept(
    stage: Stage, start_worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start_worker({"broken": failing(Signal(status=400))}, slots=50)
    tasks = [
        await stage.client.submit("x", kind="broken", labels={"n": str(number)})
        for number in range(60)
    ]
    for task in tasks:
        await stage.state(task.id, State.FAILED)

    async def read() -> int:
        await stage.answering.fetch(Fetch("letters"))
        return len(stage.dash.answers.letters or [])

    async with asyncio.timeout(20):
        while await read() < 60:
            await asyncio.sleep(0.02)
    letters = stage.dash.answers.letters or []
    assert {letter.labels["n"] for letter in letters} == {str(number) for number in range(60)}
    assert {letter.fingerprint for letter in letters} == {
        row.fingerprint for row in stage.dash.store.rows.values()
    }
    assert not any(letter.truncated for letter in letters)
    stage.dash.answers.letters = None
    seen: list[int] = []
    monkeypatch.setattr(stage.answering, "_touch", lambda: seen.append(shown(stage)))
    monkeypatch.setattr(answers, "TOLD_EVERY", 20)
    monkeypatch.setattr(answers, "LETTERS", 25)
    assert await read() == 25
    assert seen == [20, 25, 25, 25]


def shown(stage: Stage) -> int:
    return len(stage.dash.answers.letters or [])


async def test_an_error_stands_where_the_answer_would(
    stage: Stage, start_worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.dash.do("open_task", "t1", stage.now())
    assert "there is no task t1" in await stage.look()

    async def silent(task_id: str) -> None:
        raise NoAnswer("nobody answered in time")

    monkeypatch.setattr(stage.client.history, "log", silent)
    await stage.answering.fetch(Fetch("log", "t2"))
    stage.dash.do("open_task", "t2", stage.now())
    assert "it cannot be read: nobody answered in time" in stage.screen()
    monkeypatch.undo()
    await stage.answering.fetch(Fetch("log", "t2"))
    assert stage.dash.answers.problems == {}


async def test_logs_of_the_last_few_tasks_are_kept(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, nats_server: NatsServer
) -> None:
    monkeypatch.setattr(answers, "LOGS", 3)
    for number in range(5):
        await stage.answering.fetch(Fetch("log", f"t{number}"))
    await stage.answering.fetch(Fetch("log", "t2"))
    assert list(stage.dash.answers.logs) == ["t3", "t4", "t2"]
    assert list(stage.dash.answers.prompts) == ["t3", "t4", "t2"]
