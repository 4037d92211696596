"""What a person chose is there again the next time."""

from pathlib import Path

import pytest

from agentflow.dashboard.reader.table import Habit
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow_tui import habits


def test_sort_and_columns_come_back(tmp_path: Path) -> None:
    place = habits.place({"XDG_CONFIG_HOME": str(tmp_path)})
    before = Dashboard()
    table = before.views["tasks"].table
    assert table is not None
    table.adopt(Habit(sort="cost", reverse=True, hidden=["kind"]))
    habits.keep(before.habits(), place)

    after = Dashboard()
    after.adopt(habits.read(place))
    assert after.habits() == before.habits()
    assert after.habits()["tasks"] == Habit(sort="cost", reverse=True, hidden=["kind"])


@pytest.mark.parametrize("content", [b"", b"[]", b'{"tasks": 1}', b"\xff"])
def test_a_file_that_cannot_be_read_is_left_aside(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "tui.json"
    assert habits.read(place) == {}
    place.write_bytes(content)
    assert habits.read(place) == {}


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "agentflow").write_text("a file")
    habits.keep(Dashboard().habits(), habits.place({"XDG_CONFIG_HOME": str(tmp_path)}))
