"""What single views know: targets, drill-downs, what follows the cursor."""

from __future__ import annotations

import msgspec
import pytest

from agentflow.dashboard.reader.effects import Choose, Confirm, Copy, Export, Fetch, Prompt
from agentflow.dashboard.reader.table import Habit
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.views import feed
from tests.dashboard.support import scenery
from tests.dashboard.support.scenery import CAUSES, NOW


def opened(view: str, argument: str = "") -> Dashboard:
    dash = scenery.dashboard()
    dash.open(view, argument)
    dash.frame(120, 36, NOW)
    return dash


def text(dash: Dashboard, width: int = 120, height: int = 36) -> str:
    return "\n".join(line.text for line in dash.frame(width, height, NOW))


# Tasks.


def test_tasks_show_first_what_runs_the_oldest_on_top() -> None:
    dash = opened("tasks")
    table = dash.here.table
    assert table is not None
    rows = [dash.store.rows[key] for key in table.order]
    states = [row.state for row in rows]
    assert states[:64] == ["running"] * 64
    starts = [row.started or 0 for row in rows[:64]]
    assert starts == sorted(starts)
    ended = [row.updated for row in rows if row.state == "succeeded"]
    assert ended == sorted(ended, reverse=True)


def test_a_filter_that_is_none_is_told_and_changes_nothing() -> None:
    dash = opened("tasks", "state:failed")
    before = text(dash)
    assert dash.do("filter_set", "stat:x", NOW) == []
    assert dash.notice is not None
    assert "there is no field stat" in dash.notice.text
    dash.notice = None
    assert text(dash) == before


def test_esc_undoes_what_was_set_and_then_goes_back() -> None:
    dash = opened("tasks")
    dash.do("filter_set", "state:failed", NOW)
    dash.frame(120, 36, NOW)
    dash.press("space", NOW)
    dash.press("escape", NOW)
    assert dash.here.table is not None
    assert not dash.here.table.marks
    assert "/state:failed" in text(dash)
    dash.press("escape", NOW)
    assert "/state:failed" not in text(dash)
    assert dash.view == "tasks"
    dash.press("escape", NOW)
    assert dash.view == "overview"


def test_a_group_opens_as_the_filter_that_finds_its_tasks() -> None:
    for by, word in (("error", "group:"), ("queue", "queue:"), ("label team", "label:team=")):
        dash = opened("tasks")
        dash.do("group", by, NOW)
        dash.frame(120, 36, NOW)
        table = dash.here.table
        assert table is not None
        number = table.item().tasks
        dash.press("j", NOW)
        dash.press("k", NOW)
        dash.press("enter", NOW)
        assert word in text(dash)
        assert dash.here.table is not None
        assert len(dash.here.table.order) == number


def test_columns_are_chosen_one_after_the_other() -> None:
    dash = opened("tasks")
    (effect,) = dash.press("v", NOW)
    assert isinstance(effect, Choose)
    assert "QUEUE" in text(dash)
    (again,) = dash.do("columns", "queue", NOW)
    assert isinstance(again, Choose)
    assert ("columns", "queue", "[ ] QUEUE") in again.options
    assert "QUEUE" not in text(dash)


def test_how_a_table_is_shown_can_be_kept_and_taken_back() -> None:
    dash = opened("tasks")
    dash.do("sort_by", "cost", NOW)
    dash.do("columns", "queue", NOW)
    kept = msgspec.json.encode(dash.habits())
    other = scenery.dashboard()
    other.adopt(msgspec.json.decode(kept, type=dict[str, Habit]))
    other.open("tasks")
    shown = text(other)
    assert "COST▼" in shown
    assert "QUEUE" not in shown
    assert other.here.table is not None
    other.here.table.adopt(Habit(sort="none", hidden=["id", "nonsense"]))
    assert other.here.table.sort == "cost"
    assert other.here.table.hidden == {"id"}


def test_what_is_marked_is_what_an_act_is_done_to() -> None:
    dash = opened("tasks", "state:running")
    for key in ("space", "space"):
        dash.press(key, NOW)
    (effect,) = dash.press("c", NOW)
    assert isinstance(effect, Confirm)
    assert len(effect.targets) == 2


def test_tasks_are_exported_as_they_are_shown() -> None:
    dash = opened("tasks", "state:failed")
    (effect,) = dash.press("e", NOW)
    assert isinstance(effect, Export)
    assert effect.text.count("\n") == 1 + sum(number for _, _, _, number, _ in CAUSES)


# Workers.


def test_the_lost_worker_is_first_and_its_tasks_stand_below() -> None:
    dash = opened("workers")
    shown = text(dash)
    assert dash.here.table is not None
    assert dash.store.name_of(dash.here.table.cursor) == "w-23"
    assert "w-23  lost for 1m30" in shown
    running = [row.id for row in dash.store.rows.values() if row.actor.startswith("w-23")]
    running = [each for each in running if dash.store.rows[each].state == "running"]
    assert running
    assert all(each in shown for each in running)


def test_enter_on_a_worker_shows_its_tasks_and_esc_leads_back() -> None:
    dash = opened("workers")
    dash.press("enter", NOW)
    assert dash.view == "tasks"
    assert "worker:w-23-5c1e0a" in text(dash)
    dash.press("escape", NOW)
    assert dash.view == "workers"


def test_a_worker_is_drained_by_its_actor() -> None:
    dash = opened("workers")
    dash.press("j", NOW)
    assert dash.here.targets(dash.scene(NOW), "drain") == ["w-16-5c1e0a"]


def test_a_task_of_which_its_worker_does_not_speak_is_shown_as_that() -> None:
    dash = opened("workers")
    row = next(iter(dash.store.rows.values()))
    stray = type(row)(
        id="stray",
        sequence=9_999_999,
        state="running",
        queue="default",
        updated=round((NOW - 40) * 1000),
        started=round((NOW - 40) * 1000),
        actor="w-01-5c1e0a",
    )
    dash.store.apply(feed.Rows(at=NOW, rows=[stray]))
    assert dash.here.table is not None
    dash.here.table.to("w-01-5c1e0a", NOW)
    assert "its worker does not name it" in text(dash)


# Queues.


def test_queues_say_when_they_are_empty() -> None:
    dash = opened("queues")
    found = {line.split()[0]: line for line in text(dash).splitlines() if line[2:9].strip()}
    assert "never" in found["nightly"]
    assert "‖ paused" in found["nightly"]
    assert "▲ unserved" in text(dash)
    assert "agentflow resume nightly" in text(dash)


def test_enter_on_a_queue_shows_its_tasks() -> None:
    dash = opened("queues")
    dash.press("enter", NOW)
    assert "queue:batch" in text(dash)


# Costs.


@pytest.mark.parametrize("by", ["model", "queue", "kind", "label team", "label job"])
@pytest.mark.parametrize("period", ["minute", "hour", "day", "all"])
def test_shares_sum_up_to_the_whole(by: str, period: str) -> None:
    from agentflow.dashboard.rows.costs import shares
    from agentflow.dashboard.views.costs import PERIODS

    dash = opened("costs")
    seconds = PERIODS[period]
    first = (NOW - seconds) * 1000 if seconds else 0
    if by not in ("model", "queue", "kind"):
        wanted = sum(row.cost or 0 for row in dash.store.rows.values() if row.updated >= first)
    else:
        minute = first // 60_000
        wanted = sum(
            row.cost or 0 for row in dash.store.rows.values() if row.updated // 60_000 >= minute
        )
    found = shares(dash.scene(NOW), by, seconds)
    assert sum(share.spend.cost for share in found.values()) == wanted
    assert wanted > 0


def test_the_period_and_what_it_is_summed_by_are_chosen() -> None:
    dash = opened("costs")
    assert "[day]" in text(dash)
    dash.press("P", NOW)
    assert "[all]" in text(dash)
    (effect,) = dash.press("b", NOW)
    assert isinstance(effect, Choose)
    assert ("group", "label team", "label team") in effect.options
    dash.do("group", "label team", NOW)
    assert "research" in text(dash)
    dash.press("enter", NOW)
    assert "label:team=" in text(dash)


def test_what_failed_attempts_cost_is_wasted() -> None:
    dash = opened("costs")
    wanted = sum(
        row.cost or 0 for row in dash.store.rows.values() if row.state in ("failed", "retrying")
    )
    assert dash.store.totals.spent().wasted == wanted > 0


# Dead letters.


def test_letters_are_asked_for_once_and_again_when_they_become_more() -> None:
    dash = opened("dead")
    assert dash.wanted(NOW) == [Fetch("letters")]
    assert dash.wanted(NOW + 60) == []
    dash.store.apply(feed.Depths(at=NOW + 61, queues=[], dead=99))
    assert dash.wanted(NOW + 61) == [Fetch("letters")]
    dash.store.apply(feed.Depths(at=NOW + 61, queues=[], dead=100))
    assert dash.wanted(NOW + 62) == []  # they become more all the time: not at once
    assert dash.wanted(NOW + 64) == [Fetch("letters")]


def test_before_the_letters_are_read_the_failed_tasks_stand_in() -> None:
    dash = opened("dead")
    dash.answers.letters = None
    shown = text(dash)
    assert "reading them" in shown
    assert "invalid_request_error" in shown


def test_an_act_on_a_cause_is_done_to_one_or_to_all_of_it() -> None:
    dash = opened("dead")
    scene = dash.scene(NOW)
    dash.press("j", NOW)
    table = dash.here.table
    assert table is not None
    number = len(table.item().letters)
    assert number > 1
    assert len(dash.here.targets(scene, "retry_group")) == number
    assert len(dash.here.targets(scene, "drop_group")) == number
    assert dash.here.targets(scene, "retry") == [table.item().newest.id]
    dash.press("enter", NOW)
    dash.frame(120, 36, NOW)
    dash.press("space", NOW)
    dash.press("space", NOW)
    assert len(dash.here.targets(scene, "drop")) == 2
    assert len(dash.here.targets(scene, "retry_group")) == number


def test_a_letter_leads_to_its_task_and_esc_back_to_its_cause() -> None:
    dash = opened("dead")
    dash.press("enter", NOW)
    dash.frame(120, 36, NOW)
    assert "of cause" in text(dash)
    dash.press("enter", NOW)
    assert dash.view == "task"
    dash.press("escape", NOW)
    assert dash.view == "dead"
    dash.press("escape", NOW)
    assert "4 causes" in text(dash)


def test_what_to_do_depends_on_the_error() -> None:
    dash = opened("dead")
    shown = text(dash, 160, 40)
    assert "split the prompt" in shown
    assert "mend the handler" in shown


# Events.


def test_events_follow_the_end_until_one_looks_back() -> None:
    dash = opened("events")
    last = text(dash).splitlines()[-2]
    dash.press("k", NOW)
    before = text(dash)
    row = next(iter(dash.store.rows.values()))
    fresh = type(row)(id="brand-new", sequence=9_999_999, state="running", queue="q", updated=1)
    dash.store.apply(feed.Rows(at=NOW, rows=[fresh]))
    after = text(dash)
    assert "1 newer" in after
    assert after.splitlines()[4:-1] == before.splitlines()[4:-1]
    dash.press("G", NOW)
    assert "brand-new" in text(dash).splitlines()[-2]
    assert "brand-new" not in last


def test_events_are_filtered_by_text_and_opened() -> None:
    dash = opened("events")
    (effect,) = dash.press("/", NOW)
    assert isinstance(effect, Prompt)
    dash.do(effect.answer, "running", NOW)
    lines = text(dash).splitlines()[3:-1]
    assert all("running" in line for line in lines if line.strip())
    dash.do(effect.answer, "!running", NOW)
    assert "running" not in "\n".join(text(dash).splitlines()[3:-1])
    dash.do(effect.answer, "succeeded", NOW)
    dash.frame(120, 36, NOW)
    dash.press("enter", NOW)
    assert dash.view == "task"


def test_receipts_are_shown_where_they_are_asked_for() -> None:
    dash = opened("overview")
    dash.press("@", NOW)
    assert dash.view == "events"
    assert "agentflow pause nightly" in text(dash)
    dash.press("@", NOW)
    assert "agentflow pause nightly" not in text(dash)


# Overview and help.


def test_the_overview_leads_to_what_needs_a_person() -> None:
    dash = opened("overview")
    dash.press("!", NOW)
    dash.frame(120, 36, NOW)
    dash.press("enter", NOW)
    assert dash.view == "workers"


def test_the_command_that_mends_it_can_be_copied() -> None:
    dash = opened("overview", "attention")
    dash.frame(120, 36, NOW)
    dash.press("j", NOW)
    (effect,) = dash.press("Y", NOW)
    assert effect == Copy("agentflow worker --queues batch", "the command")


def test_the_overview_shows_only_what_runs() -> None:
    dash = opened("overview")
    table = dash.here.table
    assert table is not None
    assert set(table.order) == dash.store.totals.running
    row = dash.store.rows[table.cursor]
    ended = type(row)(
        id=row.id, sequence=9_999_999, state="succeeded", queue=row.queue, updated=row.updated
    )
    dash.store.apply(feed.Rows(at=NOW, rows=[ended]))
    dash.frame(120, 36, NOW + 1.1)
    assert set(table.order) == dash.store.totals.running
    assert row.id not in table.order


def test_help_is_about_the_view_one_came_from_and_is_searched() -> None:
    dash = opened("workers")
    dash.press("?", NOW)
    assert "drain" in text(dash)
    (effect,) = dash.press("/", NOW)
    assert isinstance(effect, Prompt)
    dash.do(effect.answer, "drain", NOW)
    shown = text(dash)
    assert "drain" in shown
    assert "page down" not in shown
    dash.press("escape", NOW)
    dash.press("escape", NOW)
    assert dash.view == "workers"


def test_at_another_time_what_is_not_recorded_says_so() -> None:
    dash = scenery.dashboard()
    dash.travelled, dash.travelled_to = dash.store.copy(), NOW - 60
    assert "not recorded" in text(dash)
    dash.open("workers")
    assert "not recorded" in text(dash)
