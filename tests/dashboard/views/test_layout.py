"""Every line of every frame has exactly its width, whatever is shown and however large."""

from __future__ import annotations

import copy
import unicodedata
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from agentflow.dashboard.render.lines import Line, size_of
from agentflow.dashboard.screen.dashboard import Dashboard
from tests.dashboard.support import hostile, scenery
from tests.dashboard.support.scenery import NOW

VIEWS = ("overview", "tasks", "workers", "queues", "costs", "dead", "events", "task", "help")
WORLDS = ("full", "empty", "hostile")


@cache
def made(name: str) -> Dashboard:
    make = {"full": scenery.dashboard, "empty": scenery.empty, "hostile": hostile.dashboard}[name]
    return make()


def world(name: str, ascii: bool = False) -> Dashboard:
    """A dashboard of its own: what is pressed in one example must not be there in the next."""
    known = made(name)
    return Dashboard(
        store=known.store.copy(),
        zone=known.zone,
        ascii=ascii,
        answers=copy.deepcopy(known.answers),
        receipts=list(known.receipts),
    )


def exact(frame: list[Line], width: int, height: int) -> None:
    assert len(frame) == height
    for number, line in enumerate(frame):
        assert size_of(line) == width, (number, line.text)
        assert cell_len(line.text) == width, (number, line.text)
        for char in line.text:
            category = unicodedata.category(char)
            assert category not in ("Cc", "Cf", "Cs", "Zl", "Zp"), (number, line.text)
        for hit in line.hits:
            assert 0 <= hit.begin < hit.end <= width


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("view", VIEWS)
@given(
    width=st.integers(60, 200),
    height=st.integers(20, 60),
    keys=st.lists(st.sampled_from(["j", "j", "G", "space", "b", "+", "P", "tab", "@", "s"])),
)
@settings(max_examples=25, deadline=None)
def test_a_frame_fills_the_screen(
    view: str, name: str, width: int, height: int, keys: list[str]
) -> None:
    dash = world(name)
    dash.view = view
    if view == "help":
        dash.here.show("tasks")
    elif view == "task":
        dash.here.show(next(iter(dash.store.rows), "unknown"))
    for key in keys:
        dash.press(key, NOW)
    exact(dash.frame(width, height, NOW), width, height)


@pytest.mark.parametrize("view", VIEWS)
def test_every_width_is_filled(view: str) -> None:
    for name in ("full", "hostile"):
        dash = world(name)
        dash.view = view
        for width in range(60, 201):
            exact(dash.frame(width, 24, NOW), width, 24)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", WORLDS)
def test_in_ascii_there_is_nothing_else(view: str, name: str) -> None:
    dash = world(name, True)
    dash.view = view
    for width, height in ((120, 36), (80, 24), (60, 20)):
        frame = dash.frame(width, height, NOW)
        exact(frame, width, height)
        assert all(line.text.isascii() for line in frame)


@pytest.mark.parametrize(("width", "height"), [(59, 24), (80, 19), (20, 5), (1, 1), (40, 10)])
def test_where_there_is_no_room_a_notice_says_so(width: int, height: int) -> None:
    frame = world("full").frame(width, height, NOW)
    assert len(frame) == height
    assert {size_of(line) for line in frame} == {width}
    if width >= 40 and height > 1:
        assert "too small" in frame[1].text


def test_markup_is_text_here() -> None:
    dash = hostile.dashboard()
    dash.view = "tasks"
    text = "\n".join(line.text for line in dash.frame(200, 60, NOW))
    assert "[bold red]markup[/]" in text


def test_no_state_is_told_by_its_colour_alone() -> None:
    dash = scenery.dashboard()
    for view, words in {
        "tasks": ("● running",),
        "workers": ("× lost", "▨ draining", "■ busy", "□ idle"),
        "queues": ("▲ unserved", "‖ paused", "● open"),
        "overview": ("▲ CRIT", "● WARN"),
    }.items():
        dash.view = view
        text = "\n".join(line.text for line in dash.frame(120, 60, NOW))
        for word in words:
            assert word in text, (view, word)
