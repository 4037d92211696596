"""Every key of the table, on every view, with and without the right to change anything."""

import pytest

from agentflow.dashboard.reader import keys
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow_tui.widgets.canvas import named

VIEWS = sorted(Dashboard().views)


@pytest.mark.parametrize("readonly", [False, True], ids=["rw", "ro"])
@pytest.mark.parametrize("view", VIEWS)
async def test_every_key_does_something_sane_everywhere(seat, view: str, readonly: bool):
    async with seat(size=(100, 30), tasks=80, readonly=readonly) as sitting:
        task = next(iter(sitting.dash.store.totals.running))
        for key in keys.KEYS:
            if key.key in ("O", "q"):
                continue  # the pager and the end have tests of their own
            while sitting.dialog:
                await sitting.press("escape")
            sitting.dash.travelled = sitting.dash.frozen = sitting.dash.notice = None
            sitting.dash.open(view, task if view == "task" else "")
            sitting.app.press(key.key)
            sitting.app.draw()
            if sitting.dialog:
                await sitting.look()
            assert sitting.dash.notice is None or sitting.dash.notice.token != "crit", (
                f"{key.key} in {view}: {sitting.notice}"
            )
            if readonly:
                assert sitting.dialog not in ("Confirm", "Submit"), key.key
        await sitting.look()
        assert sitting.screen.strip()


async def test_the_terminal_names_every_key_as_the_table_does(seat):
    async with seat(view="tasks") as sitting:
        heard: list[str] = []
        sitting.app.canvas._press = heard.append
        wanted = list(dict.fromkeys(key.key for key in keys.KEYS))
        await sitting.pilot.press(*wanted)
        assert heard == wanted


@pytest.mark.parametrize(
    ("key", "character", "name"),
    [
        ("question_mark", "?", "?"),
        ("upper_g", "G", "G"),
        ("G", "G", "G"),
        ("space", " ", "space"),
        ("enter", "\r", "enter"),
        ("ctrl+d", "\x04", "ctrl+d"),
        ("shift+tab", None, "shift+tab"),
        ("f12", None, "f12"),
        ("tab", "\t", "tab"),
        ("escape", "\x1b", "escape"),
    ],
)
def test_a_key_is_named_by_what_it_types(key: str, character: str | None, name: str):
    assert named(key, character) == name


async def test_read_only_has_no_key_that_changes_anything(seat):
    async with seat(readonly=True, view="tasks") as sitting:
        assert "submit" not in sitting.screen
        await sitting.press("c", "r", "n", "a", "Z")
        assert sitting.dialog == ""
        await sitting.press(":")
        await sitting.type("cancel t-000001", "enter")
        assert sitting.dialog == ""


async def test_q_goes_back_and_at_the_root_ends(seat):
    async with seat() as sitting:
        await sitting.press("2")
        await sitting.press("q")
        assert sitting.dash.view == "overview"
        await sitting.pilot.press("q")
        await sitting.pilot.pause()
        assert sitting.app.return_value == 0
        assert not sitting.app.is_running


async def test_ctrl_c_says_how_to_quit_and_ends_the_second_time(seat):
    async with seat() as sitting:
        await sitting.press("ctrl+c")
        assert "q quits" in sitting.notice
        assert sitting.app.is_running
        sitting.app._interrupted = -100.0  # long ago
        await sitting.press("ctrl+c")
        assert sitting.app.is_running
        await sitting.pilot.press("ctrl+c")
        await sitting.pilot.pause()
        assert sitting.app.return_value == 130
