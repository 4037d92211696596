"""docs/nats-py.md names tests that are there and run."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(
    r"^\| (\d+) \| .+? \| .+? \| (.+?) \|$", (ROOT / "docs/nats-py.md").read_text(), re.MULTILINE
)
SKIPPING = {"skip", "skipif", "xfail", "importorskip"}


def test_every_trap_has_a_row() -> None:
    numbers = [int(number) for number, _ in ROWS]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 18


@pytest.mark.parametrize(("number", "cell"), ROWS)
def test_the_tests_of_a_trap_exist_and_are_not_skipped(number: str, cell: str) -> None:
    ids = re.findall(r"`([^`]+)`", cell)
    assert ids
    for test in ids:
        file, _, name = test.partition("::")
        functions = {
            node.name: node
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in functions, test
        used = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(functions[name])
            if isinstance(node, ast.Attribute | ast.Name)
        }
        assert not used & SKIPPING, test
