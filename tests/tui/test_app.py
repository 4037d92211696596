"""The app round the canvas: what it leaves behind, and how it takes what goes wrong."""

import asyncio
import base64
import json
import stat

import pytest

from agentflow.dashboard.once import render
from agentflow.dashboard.reader.effects import Copy, Export, Page
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.errors import UsageError
from agentflow_tui import files
from agentflow_tui.frame import FrameRate
from agentflow_tui.theme import THEMES
from tests.dashboard.support.seat import Seated
from tests.dashboard.support.source import LifelikeSource


async def test_what_is_copied_is_in_the_clipboard_and_in_a_file_of_ones_own(seat, home):
    async with seat() as sitting:
        assert sitting.sent
        sitting.app.outside.carry_out([Copy("agentflow get t-1\x1b[31m", "the command")])
        await sitting.look()
        coded = base64.b64encode(b"agentflow get t-1").decode()
        assert f"\x1b]52;c;{coded}\x07" in sitting.sent
        path = home / "cache" / "agentflow" / "copied.txt"
        assert path.read_text() == "agentflow get t-1"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "copied.txt" in sitting.notice


async def test_an_export_never_writes_over_a_file(seat, home):
    async with seat(view="tasks") as sitting:
        await sitting.press("e", "e")
        sitting.app.outside.carry_out([Export("tasks", "csv", "a,b\r\n")])
        found = sorted(home.glob("tasks-*.csv"))
        assert len(found) == 3
        assert found[0].read_text().count("\n") > 100
        assert "exported to tasks-" in sitting.notice


async def test_a_folder_that_cannot_be_written_is_told(seat, monkeypatch):
    async with seat() as sitting:

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(files, "export", refuse)
        monkeypatch.setattr(files, "keep_copy", refuse)
        sitting.app.outside.carry_out([Export("tasks", "csv", "x")])
        assert "nothing was exported: Permission denied" in sitting.notice
        sitting.app.outside.carry_out([Copy("x", "the id")])
        assert "could not be kept in a file: Permission denied" in sitting.notice


async def test_the_pager_gets_the_text_without_control(seat, home, monkeypatch):
    pager = home / "pager"
    pager.write_text(f'#!/bin/sh\ncat "$1" > {home}/paged\n')
    pager.chmod(0o700)
    monkeypatch.setenv("PAGER", str(pager))
    async with seat() as sitting:
        monkeypatch.setattr(sitting.app, "suspended", lambda work: work())
        sitting.app.outside.carry_out([Page("one\x1b[2J\ntwo")])
        assert (home / "paged").read_text() == "one\ntwo"
        monkeypatch.setenv("PAGER", "/nowhere/pager")
        sitting.app.outside.carry_out([Page("x")])
        assert "no pager" in sitting.notice


async def test_an_error_in_a_frame_is_a_sentence_and_the_dashboard_goes_on(seat, monkeypatch):
    async with seat() as sitting:
        broken = True

        def body(*_: object) -> list[object]:
            if broken:
                raise ZeroDivisionError("by hand [red]")
            return []

        monkeypatch.setattr(type(sitting.dash.here), "body", body)
        await sitting.look()
        assert sitting.dash.notice.token == "crit"
        assert "could not be drawn: by hand [red]" in sitting.notice
        assert sitting.app.is_running
        broken = False
        await sitting.look()
        assert "Traceback" not in sitting.screen
        assert "by hand [red]" in sitting.screen


async def test_an_error_of_a_key_is_a_sentence_too(seat, monkeypatch):
    async with seat() as sitting:

        def press(*_: object) -> None:
            raise KeyError("x")

        monkeypatch.setattr(type(sitting.dash), "press", press)
        await sitting.press("j")
        assert "j failed" in sitting.notice
        assert sitting.app.is_running


class Refused(LifelikeSource):
    """A feed that no server can help."""

    async def run(self, apply: object) -> None:
        """Say so."""
        raise UsageError("there is no such context")


async def test_a_mistake_of_the_person_ends_it_and_is_said_afterwards():
    app = Seated(Dashboard(), Refused(), theme=THEMES["dark"], rate=FrameRate(10))
    async with app.run_test(headless=False) as pilot, asyncio.timeout(20):
        while app.is_running and not app.problem:
            await pilot.pause()
    assert app.problem == "there is no such context"
    assert app.return_value == 2


class Flaky(LifelikeSource):
    """A feed that fails, then works."""

    failures = 0

    async def run(self, apply: object) -> None:
        """Fail the first time."""
        self.failures += 1
        if self.failures == 1:
            raise RuntimeError("a bug of ours")
        await super().run(apply)  # type: ignore[arg-type]


async def test_a_feed_that_fails_is_begun_again(monkeypatch):
    monkeypatch.setattr("agentflow_tui.app.AGAIN", 0.01)
    app = Seated(Dashboard(), Flaky(tasks=20), theme=THEMES["dark"], rate=FrameRate(10))
    async with app.run_test(headless=False) as pilot, asyncio.timeout(20):
        while not app.dash.store.rows:
            await pilot.pause()
    assert "a bug of ours" in app.dash.notice.text


async def test_text_is_heard_only_for_tasks_on_the_screen(seat):
    async with seat(view="tasks") as sitting:
        assert sitting.source.followed == set()
        task = sitting.dash.here.table.order[0]
        await sitting.press("enter")
        assert sitting.dash.view == "task"
        assert sitting.source.followed == {task}
        await sitting.press("1")
        assert sitting.source.followed == set()


async def test_the_meter_tells_what_the_dashboard_costs(seat):
    async with seat() as sitting:
        await sitting.press("f12")
        assert "frames," in sitting.screen
        assert "lines drawn" in sitting.screen


def known():
    source = LifelikeSource(tasks=120)
    dash = Dashboard()
    for item in source.life.begin():
        dash.store.apply(item)
    return dash.store, source.life.at


def test_one_picture_is_the_screen_without_tabs_and_keys():
    store, now = known()
    text = render(store, view="overview", width=100, height=30, now=now)
    lines = text.split("\n")
    assert lines[0].startswith(" AgentFlow ")
    assert "● live" in lines[0]
    assert "? help" not in text
    assert "1 Overview" not in text
    assert len(lines) <= 30
    assert max(len(line) for line in lines) <= 100
    assert "▌" not in text


@pytest.mark.parametrize(
    "view", ["overview", "tasks", "workers", "queues", "costs", "dead", "events"]
)
def test_every_view_is_data_too(view: str):
    store, now = known()
    found = json.loads(render(store, view=view, format="json", now=now))
    assert found["v"] == 1
    assert found["view"] == view
    assert found["connected"] is True
    assert found["states"]["succeeded"] == store.totals.state("succeeded")
    named = {
        "overview": "attention",
        "tasks": "tasks",
        "workers": "workers",
        "queues": "queues",
        "costs": "accounts",
        "dead": "groups",
        "events": "events",
    }[view]
    assert isinstance(found[named], list)
    if view != "overview":
        assert found[named]


def test_money_and_counts_agree_with_the_rows():
    store, now = known()
    found = json.loads(render(store, view="costs", format="json", now=now))
    whole = sum(row.cost or 0 for row in store.rows.values()) / 1e6
    assert sum(account["cost_usd"] for account in found["accounts"]) == pytest.approx(whole)
    assert found["cost_usd"]["today"] == pytest.approx(whole)
