"""docs/answers.md names tests that are there and run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(
    r"^\| (\d+) \| .+? \| .+? \| `([^`]+)` \|$",
    (ROOT / "docs/answers.md").read_text(),
    re.MULTILINE,
)
SKIPPING = frozenset({"skip", "skipif", "xfail", "importorskip"})


def test_every_complaint_has_its_answer() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, 38))


@pytest.mark.parametrize(("number", "test"), ROWS)
def test_the_test_exists_and_is_not_skipped(number: str, test: str) -> None:
    file, _, name = test.partition("::")
    functions = {
        node.name: node
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in functions, f"row {number}: {test}"
    used = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(functions[name])
        if isinstance(node, ast.Attribute | ast.Name)
    }
    assert not used & SKIPPING, f"row {number}: {test}"
