"""Frames of every view, kept as text in golden/: `AGENTFLOW_UPDATE_GOLDEN=1` writes them anew.

A changed frame is a change that a person looks at: the difference reads as the screen does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.dashboard.store.store import Store
from agentflow.views import feed
from tests.dashboard.support import scenery
from tests.dashboard.support.scenery import NOW, SIZES

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
UPDATE = bool(os.environ.get("AGENTFLOW_UPDATE_GOLDEN"))


def opened(view: str, *keys: str, argument: str = "") -> Callable[[], Dashboard]:
    def make() -> Dashboard:
        dash = scenery.dashboard()
        dash.open(view, argument)
        dash.frame(120, 36, NOW)
        for key in keys:
            dash.press(key, NOW)
        return dash

    return make


def grouped(by: str) -> Callable[[], Dashboard]:
    def make() -> Dashboard:
        dash = opened("tasks")()
        dash.do("group", by, NOW)
        return dash

    return make


def disconnected() -> Dashboard:
    dash = scenery.dashboard()
    dash.store.apply(feed.Link(at=NOW - 12, up=False, url="nats://127.0.0.1:4222", detail="EOF"))
    return dash


def travelled() -> Dashboard:
    dash = scenery.dashboard()
    dash.travelled, dash.travelled_to = Store(), NOW - 784
    rows = [row for row in scenery.Scenery().rows if row.updated / 1000 <= NOW - 784]
    dash.travelled.apply(feed.Rows(at=NOW - 784, rows=rows))
    return dash


def frozen() -> Dashboard:
    dash = scenery.dashboard()
    dash.frozen, dash.frozen_at = dash.store.copy(), NOW - 12
    dash.store.items += 3_480
    return dash


SCENES: dict[str, Callable[[], Dashboard]] = {
    "overview": opened("overview"),
    "overview-attention": opened("overview", argument="attention"),
    "tasks": opened("tasks"),
    "tasks-filtered": opened("tasks", "space", "space", "+", argument="state:failed kind:claude"),
    "tasks-by-error": grouped("error"),
    "tasks-by-label": grouped("label team"),
    "workers": opened("workers"),
    "queues": opened("queues", "j", "j"),
    "costs": opened("costs"),
    "dead": opened("dead", "j"),
    "dead-letters": opened("dead", "j", "enter", "j"),
    "events": opened("events"),
    "events-receipts": opened("events", "k", "k", "@"),
    "help": opened("help", argument="queues"),
    "disconnected": disconnected,
    "travelled": travelled,
    "frozen": frozen,
    "empty": lambda: scenery.empty(),
    "ascii": lambda: scenery.dashboard(ascii=True),
    "readonly": lambda: scenery.dashboard(readonly=True),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SCENES)
def test_a_frame_looks_as_it_did(name: str, size: tuple[int, int]) -> None:
    width, height = size
    frame = SCENES[name]().frame(width, height, NOW)
    text = "\n".join(line.text.rstrip() for line in frame) + "\n"
    path = GOLDEN / f"{name}-{width}x{height}.txt"
    if UPDATE:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_no_golden_frame_is_left_over() -> None:
    wanted = {f"{name}-{width}x{height}.txt" for name in SCENES for width, height in SIZES}
    assert {path.name for path in GOLDEN.glob("*.txt")} == wanted


def test_a_frame_is_the_same_in_every_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    before = [line.text for line in scenery.dashboard().frame(120, 36, NOW)]
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert [line.text for line in scenery.dashboard().frame(120, 36, NOW)] == before
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_rows_of_a_frame_are_the_same_whatever_came_first() -> None:
    dash, other = scenery.dashboard(), scenery.dashboard()
    other.store = Store()
    for item in reversed(scenery.Scenery().items()):
        other.store.apply(item)
    for each in (dash, other):
        each.open("tasks")
    first, second = (each.frame(120, 36, NOW)[3:-1] for each in (dash, other))
    assert [line.text for line in first] == [line.text for line in second]
