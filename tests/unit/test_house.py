"""How we build, where a number can hold it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "agentflow"
LONGEST = 40
"""Lines of a function, its head and docstring too: what is longer has stages that have names."""


@pytest.mark.parametrize("room", ["worker", "client"])
def test_no_function_is_longer_than_one_can_hold_in_mind(room: str) -> None:
    long = {
        f"{path.relative_to(PACKAGE)}: {node.name} has {lines} lines"
        for path in (PACKAGE / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST
    }
    assert long == set()
