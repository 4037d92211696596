"""The dialogs: what is asked, what is answered, and what comes of it."""

import pytest
from textual.widgets import Input, Label, OptionList, Select, TextArea

from agentflow.dashboard.reader.effects import Confirm
from agentflow_tui.outside import Outside


@pytest.fixture
def acted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """What was to be done over the bus."""
    found: list[tuple[str, tuple[str, ...]]] = []

    def act(self: Outside, effect: Confirm, command: str) -> None:
        found.append((effect.act, effect.targets))

    monkeypatch.setattr(Outside, "_act", act)
    return found


async def test_a_filter_is_typed_remembered_and_taken_away(seat):
    async with seat(view="tasks") as sitting:
        await sitting.press("/")
        assert sitting.dialog == "Prompt"
        await sitting.type("state:failed", "enter")
        assert sitting.dialog == ""
        assert sitting.dash.here.filter.text == "state:failed"
        await sitting.press("/")
        await sitting.type("x", "escape")
        assert sitting.dash.here.filter.text == "state:failed"
        await sitting.press("/", "ctrl+u", "enter")
        assert sitting.dash.here.filter.text == ""
        await sitting.press("/", "up")
        assert sitting.app.screen.query_one(Input).value == "state:failed"
        await sitting.press("down")
        assert sitting.app.screen.query_one(Input).value == ""
        await sitting.press("enter")
        assert sitting.dialog == ""


async def test_a_filter_that_is_none_is_explained(seat):
    async with seat(view="tasks") as sitting:
        await sitting.press("/")
        await sitting.type("nofield:x", "enter")
        assert "there is no field nofield" in sitting.notice


async def test_what_is_typed_into_a_dialog_is_no_key_of_the_dashboard(seat):
    async with seat(view="tasks") as sitting:
        await sitting.press(":")
        await sitting.type("q1?")
        assert sitting.dialog == "Prompt"
        assert sitting.dash.view == "tasks"


async def test_the_picture_goes_on_below_a_dialog(seat):
    async with seat() as sitting:
        await sitting.press(":")
        before = sitting.screen
        await sitting.tell(*sitting.life.pass_time(5.0, 40))
        assert sitting.screen.splitlines()[0] != before.splitlines()[0]
        assert sitting.screen.splitlines()[-1] == before.splitlines()[-1]


async def test_a_choice_is_made_with_arrows_letters_or_not_at_all(seat):
    async with seat(view="tasks") as sitting:
        await sitting.press("b")
        assert sitting.dialog == "Choose"
        await sitting.press("e")
        options = sitting.app.screen.query_one(OptionList)
        assert options.highlighted == 1
        await sitting.press("j", "k", "enter")
        assert sitting.dash.here.group == "error"
        await sitting.press("b", "escape")
        await sitting.press("b", "q")
        assert sitting.dialog == ""
        assert sitting.dash.here.group == "error"


async def test_yes_does_it_and_no_does_not(seat, acted):
    async with seat(view="tasks") as sitting:
        await sitting.press("/")
        await sitting.type("state:running", "enter")
        for key, done in (("n", 0), ("escape", 0), ("x", None), ("y", 1), ("enter", 2)):
            if sitting.dialog == "":
                await sitting.press("c")
            assert sitting.dialog == "Confirm"
            await sitting.press(key)
            if done is None:
                assert sitting.dialog == "Confirm"
            else:
                assert sitting.dialog == ""
                assert len(acted) == done
        assert acted[0][0] == "cancel"


async def test_a_confirmation_says_what_how_many_and_the_command(seat, acted):
    async with seat(view="tasks") as sitting:
        await sitting.press("/")
        await sitting.type("state:running", "enter")
        await sitting.press("space", "space", "c")
        assert "cancel 2 tasks" in sitting.screen
        assert "agentflow cancel --yes t-" in sitting.screen
        assert sitting.app.screen.query(".danger")


@pytest.mark.parametrize(
    ("key", "begins"), [("f2", "agentflow pause "), ("f3", "nats kv put agentflow pause.")]
)
async def test_a_confirmation_gives_the_command_that_does_the_same(
    seat, acted, home, key: str, begins: str
):
    async with seat(view="queues") as sitting:
        await sitting.press("P", key)
        assert sitting.dialog == "Confirm"
        copied = (home / "cache" / "agentflow" / "copied.txt").read_text()
        assert copied.startswith(begins)
        assert acted == []


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("f2", "agentflow submit 'Say hello'"),
        ("f3", """nats pub agentflow.tasks.default '{"prompt":"Say hello","kind":"claude"}'"""),
    ],
)
async def test_the_form_gives_the_command_that_does_the_same(seat, home, key: str, wanted: str):
    async with seat() as sitting:
        await sitting.press("n")
        sitting.app.screen.query_one("#field-prompt", TextArea).text = "Say hello"
        await sitting.press(key)
        assert sitting.dialog == "Submit"
        assert (home / "cache" / "agentflow" / "copied.txt").read_text().strip() == wanted


async def test_above_fifty_the_number_must_be_typed(seat, acted):
    async with seat(view="tasks", tasks=3000) as sitting:
        await sitting.press("/")
        await sitting.type("state:failed", "enter", "*")
        count = len(sitting.dash.here.table.marks)
        assert count > 50
        await sitting.press("r")
        assert f"type {count} to go on" in sitting.screen
        await sitting.press("y", "enter")
        assert acted == []
        await sitting.press(*str(count - 1), "enter")
        assert acted == []
        assert f"{count - 1} is not {count}" in str(
            sitting.app.screen.query_one("#ask", Label).content
        )
        await sitting.press(*str(count), "enter")
        assert sitting.dialog == ""
        assert [(name, len(targets)) for name, targets in acted] == [("retry", count)]


async def test_nothing_is_done_when_the_connection_was_lost_meanwhile(seat, acted):
    async with seat(view="tasks") as sitting:
        await sitting.press("/")
        await sitting.type("state:running", "enter", "c")
        await sitting.tell(sitting.life.lose())
        await sitting.press("y")
        assert acted == []
        assert "nothing was done: there is no connection" in sitting.notice


async def test_the_form_says_what_is_wrong_beside_its_field(seat, monkeypatch):
    sent = []
    monkeypatch.setattr(Outside, "_send", lambda self, draft: sent.append(draft))
    async with seat() as sitting:
        await sitting.press("n")
        assert sitting.dialog == "Submit"
        form = sitting.app.screen
        assert not form.query_one("#wrong-prompt").display
        await sitting.press("ctrl+s")
        assert sitting.dialog == "Submit"
        assert form.query_one("#wrong-prompt").display
        form.query_one("#field-prompt", TextArea).text = "Say hello [b]loud[/b]"
        form.query_one("#field-max_tokens", Input).value = "many"
        await sitting.press("ctrl+s")
        assert sitting.dialog == "Submit"
        assert not form.query_one("#wrong-prompt").display
        assert "whole number" in str(form.query_one("#wrong-max_tokens", Label).content)
        assert form.focused is form.query_one("#field-max_tokens")
        form.query_one("#field-max_tokens", Input).value = "100"
        form.query_one("#field-priority", Select).value = "high"
        await sitting.press("ctrl+s")
        assert sitting.dialog == ""
        (draft,) = sent
        assert draft.arguments["prompt"] == "Say hello [b]loud[/b]"
        assert draft.arguments["max_tokens"] == 100
        assert draft.arguments["priority"] == "high"
        assert not draft.follow


async def test_the_form_reads_a_file_and_can_open_the_task(seat, monkeypatch, home):
    sent = []
    monkeypatch.setattr(Outside, "_send", lambda self, draft: sent.append(draft))
    (home / "prompt.txt").write_text("from a file")
    async with seat() as sitting:
        await sitting.press("n")
        form = sitting.app.screen
        form.query_one("#field-file", Input).value = "nothing.txt"
        await sitting.press("ctrl+f")
        assert "No such file" in str(form.query_one("#wrong-file", Label).content)
        form.query_one("#field-file", Input).value = "prompt.txt"
        await sitting.press("ctrl+f")
        assert sent[0].arguments["prompt"] == "from a file"
        assert sent[0].follow


async def test_the_editor_edits_the_prompt(seat, monkeypatch, home):
    editor = home / "editor"
    editor.write_text('#!/bin/sh\necho " and more" >> "$1"\n')
    editor.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(editor))
    async with seat() as sitting:
        monkeypatch.setattr(type(sitting.app), "suspend", _stays)
        await sitting.press("n")
        await sitting.type("abc", "ctrl+e")
        area = sitting.app.screen.query_one(TextArea)
        assert area.text == "abc and more\n"


async def test_a_command_is_found_by_its_words_and_run(seat):
    async with seat() as sitting:
        await sitting.press("ctrl+p")
        assert sitting.dialog == "CommandPalette"
        await sitting.type("freeze")
        await sitting.app.screen.workers.wait_for_complete()
        await sitting.pilot.pause()
        await sitting.press("down", "enter")
        await sitting.pilot.pause()
        assert sitting.dialog == ""
        assert sitting.dash.frozen is not None


@pytest.mark.parametrize("key", [":", "n", "c", "b", "ctrl+p"])
async def test_a_dialog_survives_every_size(seat, key: str):
    async with seat(view="tasks") as sitting:
        await sitting.press("/")
        await sitting.type("state:running", "enter")
        await sitting.press(key)
        opened = sitting.dialog
        assert opened
        for width, height in ((80, 24), (60, 20), (40, 10), (20, 5), (160, 50)):
            await sitting.resize(width, height)
            assert sitting.dialog == opened
            assert len(sitting.screen.split("\n")) == height
        await sitting.press("escape")
        assert sitting.dialog == ""
        assert "Tasks" in sitting.screen


async def test_ctrl_c_closes_a_dialog(seat):
    async with seat(view="tasks") as sitting:
        for key in (":", "n", "b"):
            await sitting.press(key)
            assert sitting.dialog
            await sitting.press("ctrl+c")
            assert sitting.dialog == ""
        assert sitting.app.is_running


def _stays(self):
    import contextlib

    return contextlib.nullcontext()
