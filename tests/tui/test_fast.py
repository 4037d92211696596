"""What a person, or a paste, types faster than a dialog opens; and what must not stop the start."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Input

from agentflow_tui import habits
from agentflow_tui.screens.prompt import Prompt


async def test_keys_of_one_read_after_a_slash_belong_to_the_text(seat) -> None:
    """`c` in it would ask to cancel, `q` would quit."""
    async with seat(view="tasks") as sitting:
        for key in ("/", "c", "q", "space", "x"):
            sitting.app.press(key)
        await sitting.look()
        assert sitting.dialog == "Prompt"
        assert isinstance(sitting.app.screen, Prompt)
        assert sitting.app.screen.query_one(Input).value.endswith("cq x")


async def test_a_whole_line_of_one_read_is_answered(seat) -> None:
    async with seat(view="tasks") as sitting:
        for key in ("/", *"kind:echo", "enter"):
            sitting.app.press(key)
        await sitting.look()
        assert not sitting.dialog
        assert sitting.dash.here.filter.text == "kind:echo"


async def test_keys_behind_one_that_asks_first_do_nothing(seat) -> None:
    async with seat(view="tasks") as sitting:
        sitting.app.press("c")
        for key in ("y", "enter"):
            sitting.app.press(key)
        await sitting.look()
        assert sitting.dialog == "Confirm"


def test_a_broken_settings_file_is_kept_aside_and_said(tmp_path: Path) -> None:
    path = tmp_path / "tui.json"
    assert habits.set_aside(path) == ""
    path.write_text("{broken")
    assert "could not be read" in habits.set_aside(path)
    assert (tmp_path / "tui.json.broken").read_text() == "{broken"
    assert habits.read(path) == {}
