"""Many viewers look at one store: what one of them follows or chooses is nothing to the others."""

from __future__ import annotations

from datetime import UTC

from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.dashboard.store.store import Store
from agentflow.views import feed
from agentflow.views.row import Row
from tests.dashboard.support.scenery import NOW, Scenery


def two() -> tuple[Dashboard, Dashboard]:
    store = Store()
    for item in Scenery().items():
        store.apply(item)
    return Dashboard(store=store, zone=UTC), Dashboard(store=store, zone=UTC)


def text(dash: Dashboard) -> str:
    return "\n".join(line.text for line in dash.frame(120, 36, NOW))


def running(dash: Dashboard) -> list[str]:
    return sorted(dash.store.totals.running)


def test_each_viewer_has_its_own_selection() -> None:
    one, other = two()
    for dash in (one, other):
        dash.open("tasks")
        dash.frame(120, 36, NOW)
    before = text(other)
    one.do("filter_set", "state:failed", NOW)
    one.frame(120, 36, NOW)
    one.press("j", NOW)
    one.press("space", NOW)
    assert one.here.table is not None
    assert other.here.table is not None
    assert one.here.table.marks
    assert not other.here.table.marks
    assert text(other) == before
    one.open("costs")
    assert other.view == "tasks"


def test_each_viewer_gets_the_texts_that_it_follows() -> None:
    one, other = two()
    first, second, *_ = running(one)
    one.open("task", first)
    other.open("task", second)
    for dash in (one, other):
        dash.wanted(NOW)
    one.store.apply(feed.Tokens(at=NOW, id=first, attempt=1, offset=0, text="for one"))
    one.store.apply(feed.Tokens(at=NOW, id=second, attempt=1, offset=0, text="for the other"))
    assert {name: kept.text for name, kept in one.texts.items()} == {first: "for one"}
    assert {name: kept.text for name, kept in other.texts.items()} == {second: "for the other"}
    assert "for the other" not in text(one)
    assert "for the other" in text(other)


def test_one_text_is_wrapped_for_the_width_of_each() -> None:
    one, other = two()
    task_id = running(one)[0]
    for dash in (one, other):
        dash.open("task", task_id)
        dash.wanted(NOW)
    said = "word " * 40
    one.store.apply(feed.Tokens(at=NOW, id=task_id, attempt=1, offset=0, text=said))
    assert len(one.texts[task_id].lines(20)) == 10
    assert len(other.texts[task_id].lines(100)) == 2
    assert len(one.texts[task_id].lines(20)) == 10


def test_what_one_has_seen_of_the_changes_the_other_has_still_to_see() -> None:
    one, other = two()
    for dash in (one, other):
        dash.open("tasks")
        dash.frame(120, 36, NOW)
    fresh = Row(id="brand-new", sequence=9_999_999, state="running", queue="q", updated=1)
    one.store.apply(feed.Rows(at=NOW, rows=[fresh]))
    one.frame(120, 36, NOW + 2)
    for dash in (one, other):
        dash.frame(120, 36, NOW + 3)
        assert dash.here.table is not None
        assert "brand-new" in dash.here.table.order


def test_answers_notices_and_other_times_are_one_viewers_own() -> None:
    one, other = two()
    one.answers.whys["t"] = "because"
    one.tell("done", NOW)
    one.freeze(NOW)
    assert not other.answers.whys
    assert other.notice is None
    assert other.scene(NOW).store is other.store
    one.travelled, one.travelled_to = Store(), NOW - 60
    assert other.scene(NOW).live


def test_recent_answers_are_about_the_store_that_is_looked_at() -> None:
    one, other = two()
    scene = one.scene(NOW)
    assert scene.lately("x", lambda: 1) == 1
    assert other.scene(NOW).lately("x", lambda: 2) == 2
    assert one.scene(NOW).lately("x", lambda: 3) == 1
    one.travelled = Store()
    assert one.scene(NOW).lately("x", lambda: 4) == 4


def test_a_frozen_picture_keeps_its_text() -> None:
    one, _ = two()
    task_id = running(one)[0]
    one.open("task", task_id)
    one.wanted(NOW)
    one.store.apply(feed.Tokens(at=NOW, id=task_id, attempt=1, offset=0, text="before "))
    one.press("p", NOW)
    one.store.apply(feed.Tokens(at=NOW, id=task_id, attempt=1, offset=7, text="and after"))
    assert "before" in text(one)
    assert "and after" not in text(one)
    one.press("p", NOW)
    assert "before and after" in text(one)


def test_a_viewer_that_is_closed_is_told_nothing_any_more() -> None:
    one, other = two()
    task_id = running(one)[0]
    for dash in (one, other):
        for view in ("overview", "tasks", "task"):
            dash.open(view, task_id if view == "task" else "")
            dash.frame(120, 36, NOW)
        dash.wanted(NOW)
    store = one.store
    watched = len(store._watchers)
    one.close()
    assert len(store._watchers) == watched // 2
    store.apply(feed.Tokens(at=NOW, id=task_id, attempt=1, offset=0, text="text"))
    assert not one.texts
    assert other.texts[task_id].text == "text"
