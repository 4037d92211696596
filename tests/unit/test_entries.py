"""What a line of a stack's log is, and which lines belong together."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.local.logs import StackLogs
from agentflow.views import entries
from agentflow.views.entries import parse, wanted
from tests.support.loglines import JSON, SERVER, TEXT


def test_our_lines_are_read_as_text_and_as_json() -> None:
    text, json = parse("worker-1", TEXT), parse("worker-1", JSON)
    assert text is not None and json is not None
    assert text.time == json.time == datetime(2026, 3, 1, 12, 0, 4, 277_000, tzinfo=UTC)
    assert (text.level, json.level, json.task) == ("WARNING", "DEBUG", "t-1")


def test_the_server_s_lines_are_read() -> None:
    found = parse("nats-server", SERVER)
    assert found is not None and (found.level, found.text) == ("ERROR", "Publish Violation")


@pytest.mark.parametrize(
    ("task", "level", "expected"),
    [
        (None, "DEBUG", True),
        (None, "WARNING", True),
        (None, "ERROR", False),
        ("t-1", "DEBUG", True),
        ("t", "DEBUG", False),
        ("t-12", "DEBUG", False),
        ("1", "DEBUG", False),
    ],
)
def test_a_task_is_named_whole(task: str | None, level: str, expected: bool) -> None:
    entry = parse("w", TEXT)
    assert entry is not None and wanted(entry, task, level) is expected


@given(st.text())
def test_no_line_is_too_strange(line: str) -> None:
    parse("w", line)
    parse("w", "{" + line)


def test_a_traceback_belongs_to_its_entry_and_parts_are_merged_by_time(tmp_path: Path) -> None:
    (tmp_path / "worker-1.log").write_text(f"noise\n{TEXT}\n    Traceback\n")
    (tmp_path / "master.log.1").write_text(TEXT.replace("12:00", "11:00") + "\n")
    (tmp_path / "master.log").write_text(JSON.replace("12:00", "12:30") + "\n")
    found = StackLogs(tmp_path).read()
    assert [entry.part for entry in found] == ["master", "worker-1", "master"]
    assert found[1].text.endswith("(state=running)\n    Traceback")


def test_what_is_added_is_read_once_and_a_file_put_aside_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "worker-1.log"
    path.write_text(TEXT + "\n" + TEXT[:20])
    logs = StackLogs(tmp_path)
    assert len(logs.read()) == 1
    with path.open("a") as file:
        file.write(TEXT[20:] + "\n")
    assert [entry.text for entry in logs.read()] == [entries.parse("", TEXT).text]  # type: ignore[union-attr]
    path.replace(tmp_path / "worker-1.log.1")
    path.write_text(JSON + "\n")
    assert [entry.task for entry in logs.read()] == ["t-1"]
    assert logs.read() == []
