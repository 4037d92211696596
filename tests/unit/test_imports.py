"""No circle of imports between our modules; those in functions and for type checkers count too.

A circle holds as long as nobody imports its other end first. The layers (pyproject.toml) do not see
one within a layer, and `if TYPE_CHECKING` or an import in a function only hides it.
"""

from __future__ import annotations

import ast
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGES = (REPOSITORY / "agentflow", REPOSITORY / "tui" / "agentflow_tui")


def _modules() -> dict[str, Path]:
    """Each of our modules by its dotted name."""
    modules = {}
    for package in PACKAGES:
        for path in package.rglob("*.py"):
            parts = path.relative_to(package.parent).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def _imported(path: Path, modules: dict[str, Path]) -> set[str]:
    """Our modules that a file imports, anywhere in it; a package only where it is meant itself."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}: a relative import"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                names.add(module if module in modules else node.module)
    return names & modules.keys()


def graph() -> dict[str, set[str]]:
    """What imports what. What `agentflow` itself offers its users it imports lazily."""
    modules = _modules()
    edges = {name: _imported(path, modules) - {name} for name, path in modules.items()}
    edges["agentflow"] = set()
    return edges


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Modules that reach each other, a list a circle (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in edges[name]:
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            at = stack.index(name)
            component = sorted(stack[at:])
            del stack[at:]
            if len(component) > 1:
                components.append(component)

    for name in sorted(edges):
        if name not in index:
            visit(name)
    return sorted(components)


def test_no_modules_import_each_other_in_a_circle() -> None:
    mutual = [" <-> ".join(circle) for circle in circles(graph())]
    assert not mutual, "circles of imports:\n" + "\n".join(mutual)


def test_a_circle_is_seen_over_any_number_of_modules() -> None:
    edges = {
        "a": {"b"},
        "b": {"c"},
        "c": {"a"},
        "d": {"a", "e"},
        "e": {"f"},
        "f": {"e"},
        "g": {"d"},
    }
    assert circles(edges) == [["a", "b", "c"], ["e", "f"]]
