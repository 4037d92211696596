"""The view of one task: followed, scrolled, searched, and what it says of every state."""

from __future__ import annotations

import shlex

import pytest

from agentflow.dashboard.reader.effects import Choose, Copy, Export, Fetch, Page, Prompt
from agentflow.protocol.record import Failure
from agentflow.views import display, feed
from tests.dashboard.task.world import BODY, ID, NOW, World

OVERLOADED = Failure(type="overloaded_error", message="Overloaded", status=529, request_id="req_1")


def press(world: World, *keys: str) -> list[object]:
    effects: list[object] = []
    for key in keys:
        effects = list(world.dash.press(key, NOW))
    return effects


def long_text(lines: int = 200) -> str:
    return "".join(f"line {number}\n" for number in range(lines))


# Output.


def test_a_text_that_grows_is_followed_until_one_scrolls_up() -> None:
    world = World()
    world.run(1)
    world.generate(long_text())
    world.shows("line 199", "f follow on")
    press(world, "k")
    world.generate("the newest\n", offset=len(long_text()))
    assert "the newest" not in "\n".join(world.screen())
    world.shows("f follow off")
    press(world, "j", "j", "j")
    world.shows("f follow off")  # at the end by chance is not followed
    press(world, "g")
    world.shows("line 0 ")
    for key in ("G", "f"):
        press(world, "g", key)
        world.shows("the newest", "f follow on")


def test_a_finished_text_is_read_from_its_beginning() -> None:
    world = World()
    world.run(1)
    world.succeed(5, long_text())
    world.shows("reading ...")
    world.answer()
    world.shows("line 0 ", "line 25", "f follow off", "✓ succeeded", "$0.0042")
    press(world, "pagedown")
    assert "line 0 " not in "\n".join(world.screen())


def test_a_followed_text_stays_at_its_end_when_the_task_ends() -> None:
    world = World()
    world.run(1)
    world.generate(long_text(100))
    world.screen()
    world.succeed(5, long_text(100) + "and the last")
    world.shows("line 99")  # what was generated, until the record has been read
    world.answer()
    world.shows("and the last")


def test_a_later_attempt_begins_anew() -> None:
    world = World()
    world.run(1)
    world.generate("first try")
    world.fail(2, "overloaded", OVERLOADED, retry_at=3)
    world.answer()
    world.shows("retrying (overloaded), tried again at", "status 529, req_1", "first try")
    world.run(4)
    world.generate("second try", attempt=2)
    world.answer()
    world.shows("second try")
    assert "first try" not in "\n".join(world.screen())


def test_what_failed_says_what_to_do() -> None:
    world = World()
    world.run(1)
    error = Failure(type="authentication_error", message="invalid x-api-key", status=401)
    world.fail(2, "authentication", error)
    world.shows("authentication_error: invalid x-api-key")  # from the row, before the log is read
    world.answer(None)
    world.shows("failed (authentication)", "status 401", "mend the credential")


def test_wrapped_or_moved_to_the_side() -> None:
    world = World()
    world.run(1)
    world.succeed(5, "word " * 100 + "\nEND")
    world.answer()
    world.shows("wrap on", "END")
    assert sum("word" in text for text in world.screen()) > 3
    press(world, "|")
    world.shows("wrap off", "2 lines")
    assert sum("word" in text for text in world.screen()) == 1
    press(world, "l")
    assert any(text.startswith("d word word") for text in world.screen())


@pytest.mark.parametrize("width", [60, 79, 80, 99, 100, 140])
def test_hostile_text_disturbs_nothing(width: int) -> None:
    world = World()
    world.run(1)
    hostile = (
        "\x1b]0;title\x07\x1b[2J[b]bold[/b]\tx\r\n" + "日本語" * 50 + " e\u0301" * 70 + "\u202e!"
    )
    world.generate(hostile)
    for tab in range(5):
        for line in world.dash.frame(width, 24, NOW):
            assert display.columns(line.text) == width, (tab, line.text)
            assert line.text.isprintable()
            assert "\u202e" not in line.text
        world.answer(None)
        press(world, "tab")


# Searching.


def test_a_search_goes_from_match_to_match() -> None:
    world = World()
    world.run(1)
    world.succeed(5, long_text(300))
    world.answer()
    world.screen()
    (asked,) = press(world, "/")
    assert isinstance(asked, Prompt)
    world.dash.do(asked.answer, "LINE 1.5", NOW)
    world.shows("line 105", "1/10")
    press(world, "n", "n")
    world.shows("line 125", "3/10")
    press(world, "N")
    world.shows("line 115", "2/10")
    found = [run for line in world.dash.frame(120, 36, NOW) for run in line.runs]
    assert ("line 115", "match") in found
    press(world, "escape")
    assert world.dash.view == "task"
    assert "2/10" not in "\n".join(world.screen())
    press(world, "escape")
    assert world.dash.view == "overview"


def test_a_search_for_what_is_no_expression_or_not_there() -> None:
    world = World()
    world.run(1)
    world.succeed(5, "f(x)\nf[x")
    world.answer()
    world.screen()
    world.dash.do("search", "f[", NOW)
    world.shows("1/1")
    world.dash.do("search", "absent", NOW)
    world.shows("not found")


# History, prompt, raw.


def test_the_history_numbers_attempts_and_says_what_each_step_cost() -> None:
    world = World()
    world.run(1)
    world.fail(4, "overloaded", OVERLOADED, retry_at=9)
    world.run(10)
    world.succeed(20, "blue")
    world.answer()
    press(world, "tab")
    world.shows("attempt 1", "attempt 2", "overloaded, until", "status 529, req_1", "end_turn")
    rows = [text.split("│")[0].split() for text in world.screen() if "w-007" in text]
    steps = [row for row in rows if row[0].isdigit()]
    assert [row[0] for row in steps] == ["10", "20", "30", "40"]
    assert [row[2] for row in steps] == ["1.0s", "3.0s", "6.0s", "10s"]
    assert steps[1][-2:] == ["120", "$0.0010"]
    assert "1.5k" in steps[3]
    assert "$0.0042" in steps[3]  # of this step, not of all


def test_a_trimmed_history_says_so_and_shows_sums() -> None:
    world = World()
    world.run(1)
    world.fail(4, "overloaded", OVERLOADED, retry_at=9)
    world.run(10)
    world.succeed(20, "blue")
    world.log = world.log[2:]
    world.answer()
    press(world, "tab")
    world.shows("earlier records are no longer kept", "Σ120")


def test_the_prompt_and_that_it_is_gone() -> None:
    world = World()
    world.run(1)
    press(world, "tab", "tab")
    world.shows("reading ...")
    world.answer()
    world.shows("Why is the sky blue?", "Be brief", "team=a", "timeout")
    world.answer(None)
    world.shows("the prompt is kept only while the task is queued")
    world.dash.answers.problems["log", ID] = "nobody answered"
    world.shows("cannot be read: nobody answered")


def test_the_last_record_as_it_is() -> None:
    world = World()
    world.run(1)
    world.succeed(5, "blue")
    world.answer()
    press(world, "shift+tab")
    world.shows('"state": "succeeded"', '"follows": 10', height=60)


def test_narrow_screens_have_the_facts_as_a_tab() -> None:
    world = World()
    world.run(1)
    world.shows("known as", width=100)
    assert "facts" not in "\n".join(world.screen(100))
    world.shows("facts", "attempt 1", width=80, height=24)
    press(world, "shift+tab")
    world.shows("submitted", "reports normal", width=80, height=30)
    world.shows("output", width=120)
    assert world.dash.views["task"].tab == "output"  # type: ignore[attr-defined]


# Asking.


def test_the_log_is_read_once_for_each_change() -> None:
    world = World()
    assert world.dash.wanted(NOW) == [Fetch("log", ID)]
    assert world.dash.wanted(NOW + 9) == []
    world.run(1)
    assert world.dash.wanted(NOW + 10) == [Fetch("log", ID)]
    assert world.dash.wanted(NOW + 20) == []
    world.fail(2, "overloaded", OVERLOADED, retry_at=3)
    assert world.dash.wanted(NOW + 10.1) == []  # not more often than twice a second
    world.run(4)
    assert world.dash.wanted(NOW + 11) == [Fetch("log", ID)]
    assert world.dash.wanted(NOW + 12) == []
    link = feed.Link(at=NOW + 13, up=False, detail="broken pipe")
    world.dash.store.apply(link)
    assert world.dash.wanted(NOW + 14) == []
    world.dash.store.apply(feed.Link(at=NOW + 15, up=True))
    assert world.dash.wanted(NOW + 16) == [Fetch("log", ID)]
    assert world.dash.followed() == [ID]
    press(world, "escape")
    assert world.dash.wanted(NOW + 20) == []


def test_why_is_asked_and_shown_until_the_task_goes_on() -> None:
    world = World()
    world.run(1)
    assert press(world, "w") == [Fetch("why", ID)]
    world.shows("asking why ...")
    world.dash.answers.whys[ID] = "running: It runs on w-007 since noon, attempt 1."
    world.shows("why  running: It runs on w-007")
    world.fail(2, "overloaded", OVERLOADED, retry_at=3)
    assert "since noon" not in "\n".join(world.screen())


# At another time.


def test_at_another_time_the_log_ends_there() -> None:
    world = World()
    world.run(1)
    early = world.dash.store.copy()
    world.generate("some text")
    world.succeed(9, "blue")
    world.answer()
    world.shows("blue")
    world.dash.travelled, world.dash.travelled_to = early, NOW - 95
    world.shows("● running", "not recorded")
    assert world.dash.followed() == []
    press(world, "tab")
    assert not any("succeeded" in text for text in world.screen())
    early.rows.clear()
    world.dash.travelled_to = NOW - 101
    press(world, "shift+tab")
    world.shows("no record of it at that time")


# Taking away.


def test_what_can_be_copied_and_exported() -> None:
    world = World()
    world.run(1)
    world.fail(2, "overloaded", OVERLOADED)
    world.answer()
    world.screen()
    (choice,) = press(world, "y")
    assert isinstance(choice, Choose)
    names = [argument for _, argument, _ in choice.options]
    assert names == ["id", "prompt", "error", "request id", "record", "error group"]
    for name, value in (("id", ID), ("prompt", BODY.prompt), ("request id", "req_1")):
        assert world.dash.do("copy_value", name, NOW) == [Copy(value, f"the {name}")]
    (choice,) = press(world, "Y")
    assert isinstance(choice, Choose)
    assert choice.options[0][1] == f"agentflow get {ID}"
    (copied,) = world.dash.do(*choice.options[3][:2], NOW)
    assert isinstance(copied, Copy)
    assert shlex.split(copied.text) == [
        *("nats", "req", "$JS.API.STREAM.MSG.GET.AGENTFLOW_RECORDS"),
        *('{"last_by_subj": "agentflow.*.t-1"}', "--raw"),
    ]


def test_text_and_record_leave_as_they_are_uncut() -> None:
    world = World()
    world.run(1)
    world.succeed(5, "word " * 100_000)
    world.answer()
    world.screen()
    (exported,) = press(world, "e")
    assert exported == Export(ID, "txt", "word " * 100_000 + "\n")
    assert press(world, "O") == [Page("word " * 100_000)]
    press(world, "shift+tab")
    world.screen()
    (exported,) = press(world, "e")
    assert isinstance(exported, Export)
    assert exported.suffix == "json"


def test_acts_are_about_the_task_its_queue_and_its_worker() -> None:
    world = World()
    world.run(1)
    here, scene = world.dash.here, world.dash.scene(NOW)
    assert here.targets(scene, "cancel") == [ID]
    assert here.targets(scene, "pause") == ["reports"]
    assert here.targets(scene, "drain") == ["w-007-abc"]


def test_a_task_that_is_not_there() -> None:
    world = World("nobody")
    world.shows("reading ...", "nobody")
    world.dash.answers.logs["nobody"] = []
    world.shows("there is no task nobody in the records")


def test_a_task_that_the_feed_does_not_know_is_shown_from_its_log() -> None:
    world = World()
    world.run(1)
    world.succeed(5, "long ago")
    world.dash.store.rows.clear()
    world.answer(None)
    world.shows("long ago", "✓ succeeded", "$0.0042")
