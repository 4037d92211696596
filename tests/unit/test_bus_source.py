"""Two rules that no type checks: who writes records, and who imports nats."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("agentflow", "tui") for path in (ROOT / folder).rglob("*.py"))
WRITERS = {"agentflow/log/task.py"}
OTHERS = {
    # Read a record's copy for display; a direct get names the very subject.
    "agentflow/master/api.py": 2,
    "agentflow/client/operate/deadletters.py": 1,
    # Asks whether it may write, with an expectation that no stream fulfils.
    "agentflow/cli/checks/server.py": 1,
}
"""Uses of a record's subject elsewhere, and how many; a further one needs a reason too."""
BUILDERS = {"agentflow/protocol/subjects.py", "agentflow/protocol/record.py"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def texts(tree: ast.AST) -> Iterator[str]:
    """String constants, without docstrings."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str | bytes)
            and id(node) not in documentation
        ):
            yield node.value if isinstance(node.value, str) else node.value.decode("latin-1")


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_only_the_task_log_writes_records(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if name(path) in WRITERS | BUILDERS:
        return
    uses = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("progress", "result"):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if owner == "subjects":
                uses.append(node.lineno)
        if isinstance(node, ast.ImportFrom) and node.module == "agentflow.protocol.subjects":
            assert not {"progress", "result"} & {alias.name for alias in node.names}
    assert len(uses) <= OTHERS.get(name(path), 0), uses
    for text in texts(tree):
        for prefix in ("agentflow.progress.", "agentflow.results."):
            # `agentflow.progress.>` is what a stream takes or a reader filters by.
            rest = text.replace(prefix + ">", "")
            assert prefix not in rest, text


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_only_the_bus_imports_nats(path: Path) -> None:
    if name(path).startswith("agentflow/bus/"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        assert not [module for module in modules if module.split(".")[0] == "nats"]
