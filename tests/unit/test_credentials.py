"""Keys as people have them."""

from __future__ import annotations

import pytest

from agentflow.errors import UsageError
from agentflow.rules.credentials import usable

KEY = "sk-ant-0123456789"


@pytest.mark.parametrize("given", [KEY, f"{KEY}\r\n", f"\t{KEY} ", f"{KEY}\u00a0"])
def test_blanks_and_line_ends_are_no_part_of_a_key(given: str) -> None:
    assert usable(given, "NAME") == KEY


@pytest.mark.parametrize("given", [None, "", " \r\n"])
def test_nothing_is_no_key(given: str | None) -> None:
    assert usable(given, "NAME") is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (f"“{KEY}”", "its character 1 is U.201C"),
        (f"{KEY}\u200b", "its character 18 is U.200B"),
        (f"\ufeff{KEY}", "its character 1 is U.FEFF"),
        (f"Bearer {KEY}", "its character 7 is U.0020"),
        (f"sk-ant\n{KEY}", "its character 7 is U.000A"),
        (f"'{KEY}'", "NAME stands in quotes"),
        (f'"{KEY}"', "NAME stands in quotes"),
    ],
)
def test_what_cannot_be_a_key_is_said_without_it(given: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        usable(given, "NAME")
    assert "sk-ant" not in str(caught.value)
