"""docs/guarantees.md names tests; each exists, runs, and every fault test is named."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)))


def functions(file: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse((ROOT / file).read_text())
    return {
        node.name: node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists_and_is_not_skipped(file: str, name: str) -> None:
    found = functions(file)
    assert name in found
    marks = [ast.unparse(mark) for mark in found[name].decorator_list]
    assert not [mark for mark in marks if "skip" in mark or "xfail" in mark]
    assert "pytestmark = pytest.mark.skip" not in (ROOT / file).read_text()


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_what_make_test_leaves_out_is_said_to_be_long(file: str, name: str) -> None:
    marks = [ast.unparse(mark) for mark in functions(file)[name].decorator_list]
    # A whole module may be marked.
    text = (ROOT / file).read_text()
    module = text[text.find("\npytestmark") :].split("\n\n")[0]
    long = any("mark.long" in mark for mark in marks) or "mark.long" in module
    assert (f"{name}` (long)" in PAGE) == long


def test_every_row_of_the_scenarios_names_one() -> None:
    table = PAGE[PAGE.index("| what happens | shown by |") :].split("\n\n")[0]
    rows = table.splitlines()[2:]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []


def test_every_test_of_network_server_and_streams_is_named() -> None:
    files = {file for file, _ in NAMED if file.startswith("tests/faults/")}
    named = {name for _, name in NAMED}
    whole = {
        "tests/faults/test_network.py",
        "tests/faults/test_broker.py",
        "tests/faults/test_streams_changed.py",
        "tests/faults/test_workers.py",
    }
    assert whole <= files
    for file in whole:
        tests = {name for name in functions(file) if name.startswith("test_")}
        assert tests - named == set()
