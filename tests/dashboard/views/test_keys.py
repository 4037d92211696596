"""Every key in every view: it never fails, and a read-only dashboard changes nothing."""

from __future__ import annotations

import pytest

from agentflow.dashboard.reader import keys
from agentflow.dashboard.reader.effects import Choose, Confirm, Effect, Prompt, Submit
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.dashboard.views import VIEWS
from tests.dashboard.support import hostile, scenery
from tests.dashboard.support.scenery import NOW

NAMES = [make().name for make in VIEWS]
PRESSED = sorted({key.key for key in keys.KEYS})


def opened(dash: Dashboard, view: str) -> Dashboard:
    if view == "task":
        known = sorted(dash.store.rows) or ["unknown"]
        dash.do("open_task", known[0], NOW)
    else:
        dash.open(view, "overview" if view == "help" else "")
    return dash


def followed(dash: Dashboard, effects: list[Effect]) -> list[Effect]:
    """Answer what an effect asks for, so that the command behind it runs too."""
    found = list(effects)
    for effect in effects:
        if isinstance(effect, Prompt):
            for text in ("", "x", "state:failed", "(", "stat:x"):
                found += dash.do(effect.answer, text, NOW)
        elif isinstance(effect, Choose):
            for command, argument, _ in effect.options:
                found += dash.do(command, argument, NOW)
                dash.frame(80, 24, NOW)
    return found


@pytest.mark.parametrize("make", [scenery.empty, scenery.dashboard, hostile.dashboard])
@pytest.mark.parametrize("view", NAMES)
def test_every_key_can_be_pressed(view: str, make: type[Dashboard]) -> None:
    dash = make()
    for key in PRESSED:
        opened(dash, view)
        dash.frame(80, 24, NOW)
        followed(dash, dash.press(key, NOW))
        dash.frame(80, 24, NOW)


@pytest.mark.parametrize("view", NAMES)
def test_read_only_nothing_is_changed(view: str) -> None:
    dash = scenery.dashboard(readonly=True)
    for key in PRESSED:
        opened(dash, view)
        dash.frame(120, 36, NOW)
        effects = followed(dash, dash.press(key, NOW))
        assert not [each for each in effects if isinstance(each, Confirm | Submit)]
        for hit in (hit for line in dash.frame(120, 36, NOW) for hit in line.hits):
            assert hit.command not in ("act", "submit", "acts")


@pytest.mark.parametrize("view", NAMES)
def test_every_hit_can_be_clicked(view: str) -> None:
    dash = opened(scenery.dashboard(), view)
    hits = {hit for line in dash.frame(120, 36, NOW) for hit in line.hits}
    assert hits
    for hit in hits:
        opened(dash, view)
        dash.do(hit.command, hit.argument, NOW)
        dash.frame(120, 36, NOW)


def test_a_key_means_one_thing_in_a_view() -> None:
    for view in NAMES:
        valid = keys.keys_of(view, readonly=False)
        pressed = [key.key for key in valid]
        assert sorted(pressed) == sorted(set(pressed)), view


def test_the_help_knows_every_key_and_the_bar_shows_the_way_to_it() -> None:
    for view in NAMES:
        dash = scenery.dashboard()
        opened(dash, view)
        assert "? help" in dash.frame(60, 20, NOW)[-1].text
        dash.press("?", NOW)
        text = "\n".join(line.text for line in dash.frame(200, 60, NOW))
        shown = text
        for _ in range(4):
            dash.press("pagedown", NOW)
            shown += "\n".join(line.text for line in dash.frame(200, 60, NOW))
        about = "overview" if view == "help" else view
        for key in keys.keys_of(about, readonly=False):
            assert key.title in shown, (view, key.title)


def test_act_keys_stand_out_in_the_bar() -> None:
    dash = opened(scenery.dashboard(), "dead")
    tokens = dict(dash.frame(120, 36, NOW)[-1].runs)
    assert tokens["x"] == "key.act"
    assert tokens["enter"] == "key"


def test_the_bar_names_as_many_keys_as_find_room() -> None:
    dash = opened(scenery.dashboard(), "tasks")
    wide = dash.frame(160, 36, NOW)[-1].text
    for word in ("open", "filter", "sort", "mark", "group", "why", "submit", "cancel", "retry"):
        assert word in wide
