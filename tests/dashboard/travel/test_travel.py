"""Time travel on the records of a real server: at any time what a fold of all before it gives."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from agentflow.bus.streams.pages import sequence_of, stored_ns, subject_of
from agentflow.dashboard.feed import travel
from agentflow.dashboard.feed.travel import Travelling
from agentflow.dashboard.reader.effects import Travel
from agentflow.protocol import subjects
from agentflow.protocol.record import State
from agentflow.rules import records as entries
from agentflow.rules.retry import Signal
from agentflow.views.row import Row, from_record
from tests.dashboard.support.stage import Stage
from tests.support.fold import messages
from tests.support.handlers import failing
from tests.support.masters import append, fill, origin, start

pytestmark = pytest.mark.timeout(60)


async def stored(stage: Stage) -> list[tuple[float, Row]]:
    """All records as rows, with the instant at which each was stored."""
    found = []
    for message in await messages(stage.client.js, subjects.RECORDS):
        ns = stored_ns(message)
        row = from_record(
            subject_of(message), sequence_of(message), ns // 1_000_000, message.data, detailed=True
        )
        found.append((ns / 1e9, row))
    return found


def before(records: list[tuple[float, Row]], to: float) -> dict[str, Row]:
    return {row.id: row for at, row in records if at <= to}


def travelled(stage: Stage) -> dict[str, Row]:
    assert stage.dash.travelled is not None
    return stage.dash.travelled.rows


async def ran(stage: Stage, start_worker: Any, number: int = 20) -> list[tuple[float, Row]]:
    """Tasks that succeeded and failed, and their records."""
    await start_worker({"broken": failing(Signal(status=400))}, slots=5)
    tasks = [
        await stage.client.submit("x", kind="broken" if each % 4 == 0 else "echo")
        for each in range(number)
    ]
    for task in tasks:
        await task.result(20, raise_on_failure=False)
    return await stored(stage)


async def test_at_any_time_it_is_the_fold_of_what_was_stored(
    stage: Stage, start_worker: Any
) -> None:
    records = await ran(stage, start_worker)
    chance = random.Random(1)
    times = [at for at, _ in records]
    # Between two records, where a float of seconds tells them apart.
    between = [(a + b) / 2 for a, b in pairwise(times) if b - a > 1e-5]
    assert len(between) > 20
    for to in chance.sample(between, 12):
        await stage.travelling.go(Travel(to=to))
        assert travelled(stage) == before(records, to)
        assert stage.dash.travelled_to == to
        assert not stage.dash.scene(stage.now()).live
    await stage.travelling.go(Travel(to=stage.now() - 0.001))
    assert travelled(stage) == before(records, times[-1])
    await stage.travelling.go(Travel(live=True))
    assert stage.dash.travelled is None


async def test_steps_go_from_record_to_record_and_back(stage: Stage, start_worker: Any) -> None:
    records = await ran(stage, start_worker)
    rows = [row for _, row in records]
    last = len(rows) - 1
    for back in range(1, 15):
        await stage.press("[")
        assert travelled(stage) == {row.id: row for row in rows[: last + 1 - back]}
    for on in range(1, 6):
        await stage.press("]")
        assert travelled(stage) == {row.id: row for row in rows[: last - 13 + on]}
        assert stage.dash.travelled_to == rows[last - 14 + on].updated / 1000
    here = travelled(stage).copy()
    await stage.press("[", "]", "]", "[")
    assert travelled(stage) == here
    await stage.travelling.go(Travel(step=100))
    assert stage.dash.notice is not None
    assert "the last record" in stage.dash.notice.text
    assert travelled(stage) == {row.id: row for row in rows}
    await stage.press("L")
    assert stage.dash.travelled is None


async def test_before_the_first_record_it_says_so(stage: Stage, start_worker: Any) -> None:
    await stage.press("[")
    assert stage.dash.travelled is None
    assert stage.dash.notice is not None
    assert stage.dash.notice.text == "there are no records"
    records = await ran(stage, start_worker, 4)
    await stage.travelling.go(Travel(to=records[0][0] - 5))
    assert travelled(stage) == {}
    assert stage.dash.notice.text.startswith("before the first record that is kept")
    await stage.press("]")
    assert travelled(stage) == {records[0][1].id: records[0][1]}
    await stage.press("[")
    assert travelled(stage) == {}
    await stage.press("[")
    assert "no record is kept before this" in stage.dash.notice.text


async def test_leaps_add_up_and_end_in_now(stage: Stage, start_worker: Any) -> None:
    await ran(stage, start_worker, 4)
    began = stage.now()
    hurried = [stage.begin(stage.travelling.go(Travel(leap=-0.5))) for _ in range(3)]
    await asyncio.gather(*hurried)
    assert stage.dash.travelled_to == pytest.approx(began - 1.5, abs=0.4)
    await stage.travelling.go(Travel(leap=0.25))
    assert stage.dash.travelled_to == pytest.approx(began - 1.25, abs=0.4)
    (effect,) = stage.dash.press("}", stage.now())
    assert effect == Travel(leap=60)
    await stage.travelling.go(effect)
    assert stage.dash.travelled is None


async def test_what_is_not_recorded_is_not_shown_and_nothing_can_be_done(
    stage: Stage, start_worker: Any
) -> None:
    await ran(stage, start_worker, 4)
    await stage.until(lambda: stage.dash.store.workers())
    await stage.press("[")
    assert "not recorded" in stage.screen()
    assert stage.dash.travelled is not None
    assert stage.dash.travelled.workers() == []
    await stage.press("2", "c")
    assert stage.dash.notice is not None
    assert "another time" in stage.dash.notice.text


async def test_a_long_way_is_told_and_given_up_for_another(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(stage.client.js, 600)
    monkeypatch.setattr(travel, "CHUNK", 50)
    monkeypatch.setattr(travel, "TOLD_EVERY", 0.0)
    reading = asyncio.Event()
    real = stage.client.history.rows
    count = 0

    async def rows(first: int, number: int) -> list[Row]:
        nonlocal count
        count += 1
        if count == 3:
            reading.set()
        return await real(first, number)

    monkeypatch.setattr(stage.client.history, "rows", rows)
    work = stage.begin(stage.travelling.go(Travel(to=stage.now() - 0.001)))
    await reading.wait()
    assert stage.dash.notice is not None
    assert "reading the records" in stage.dash.notice.text
    await stage.travelling.go(Travel(live=True))
    await work
    assert stage.dash.travelled is None
    assert count < 24


async def test_of_a_long_stream_the_newest_are_read(stage: Stage) -> None:
    await fill(stage.client.js, 100)
    records = await stored(stage)
    travelling = Travelling(stage.client, stage.dash, stage.now, newest=50)
    await travelling.go(Travel(to=stage.now() - 0.001))
    rows = travelled(stage)
    assert rows == {row.id: row for _, row in records[-50:]}
    assert stage.dash.travelled is not None
    assert stage.dash.travelled.known.older == 150
    # On the way back the picture begins earlier, too.
    await travelling.go(Travel(to=(records[59][0] + records[60][0]) / 2))
    assert travelled(stage) == {row.id: row for _, row in records[10:60]}


async def test_the_log_of_a_task_ends_where_one_is(stage: Stage) -> None:
    of = origin("t1")
    first = await start(stage.client.js, of)
    await stage.state("t1", "running")
    now = datetime.now(UTC)
    await append(
        stage.client.js,
        entries.follow(of, first, State.SUCCEEDED, actor="w-1", now=now, ended=now, text="blue"),
    )
    await stage.state("t1", "succeeded")
    stage.dash.do("open_task", "t1", stage.now())
    assert "blue" in await stage.look()
    await stage.press("[")
    screen = stage.screen()
    assert "blue" not in screen
    assert "● running" in screen
    assert "not recorded" in screen
    await stage.press("tab")
    assert "succeeded" not in stage.screen()
