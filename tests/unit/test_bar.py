"""The bar of a job as a terminal is given it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agentflow.cli.bar import Bar

WAITS = "40 wait: key closed for 58:12 (rate limit)"


def drawn(monkeypatch: pytest.MonkeyPatch, width: int, line: str = "", total: int = 60_000) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    fields = {
        "succeeded": f"{total // 2:,}",
        "failed": "123",
        "running": "40",
        "tokens": "45,678,901",
        "cost": "$1,234.5678",
    }
    bar = Bar(total, "SIMULATED ", fields)
    bar.line = line
    bar.show(total // 2, fields)
    console = Console(width=width, file=io.StringIO())
    for each in bar.get_renderables():
        console.print(each)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_bar_is_one_line_with_room_for_what_is_typed(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    bar, waits = drawn(monkeypatch, width, WAITS).splitlines()
    assert waits == WAITS
    assert len(bar) <= width - 3, "^C stands behind it"
    for figure in ("30,000/60,000", "30,000 ok", "123 failed", "40 running", "$1,234.5678"):
        assert figure in bar
    assert ("45,678,901 tok" in bar) == (width >= 100)


def test_a_long_reason_goes_on_in_the_next_line(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "45 wait: key refused (invalid x-api-key): " + "mend it, " * 9
    _, *lines = drawn(monkeypatch, 80, reason).splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 77
    assert "".join(lines).replace(" ", "") == reason.replace(" ", "")
