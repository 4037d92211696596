"""docs/settings.md and docs/claude.md: every variable that is read, and examples that are taken."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from anthropic.resources.messages import AsyncMessages

from agentflow.handlers.claude import request
from agentflow.protocol import streams, task
from agentflow.protocol.subjects import Priority
from agentflow.rules.routes import prices

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/settings.md").read_text()
CLAUDE = (ROOT / "docs/claude.md").read_text()
SOURCES = [*(ROOT / "agentflow").rglob("*.py"), *(ROOT / "tui").rglob("*.py")]
NAME = re.compile(r"_?AGENTFLOW_[A-Z_]*[A-Z]")
STREAMS = {definition["name"] for definition in streams.streams()}
CONFIGURED = [
    *(f"deploy/nats-{part}.conf" for part in ("roles", "operator", "gateway")),
    *("docker-compose.yml", "deploy/env.example", "nats.conf"),
]


def read_by_the_code() -> set[str]:
    """Names of ours, and of others where the code asks the environment for them literally."""
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Constant) and NAME.fullmatch(str(node.value)):
                found.add(str(node.value))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                asked = ast.unparse(node.func)
                if re.search(r"environ(ment)?\.get$", asked) and node.args:
                    name = node.args[0]
                    if isinstance(name, ast.Constant):
                        found.add(str(name.value))
    return found - STREAMS


def test_every_variable_stands_on_the_page() -> None:
    documented = set(re.findall(r"`(_?[A-Z][A-Z0-9_]+)`", PAGE))
    read = read_by_the_code() - {"PATH", "PYTHONPATH"}
    assert len(read) > 30
    assert read - documented == set()
    configured = {
        name for file in CONFIGURED for name in NAME.findall((ROOT / file).read_text())
    } - STREAMS
    assert configured - documented == set()


def test_the_page_names_nothing_that_nobody_reads() -> None:
    named = set(re.findall(r"`(_?AGENTFLOW_[A-Z_]+)`", PAGE))
    texts = [path.read_text() for path in [*SOURCES, *(ROOT / "tests/support").glob("*.py")]]
    texts += [(ROOT / file).read_text() for file in CONFIGURED]
    texts.append((ROOT / "docs/deploy.md").read_text())
    everything = "\n".join(texts)
    assert [name for name in sorted(named) if name not in everything] == []


def test_its_price_file_is_taken_and_its_fields_are_all() -> None:
    [example] = re.findall(r"^```json prices\n(.*?)^```", PAGE, re.M | re.S)
    table = prices.parse(example.encode(), "the page")
    assert table.models.keys() == {"claude-sonnet-5-5", "our-gateway/tuned-haiku"}
    fields = {
        field
        for part in (prices._File, prices._FileModel, prices._FileLong)
        for field in part.__struct_fields__
    }
    quoted = set(re.findall(r"`([a-z_0-9]+)`", PAGE))
    assert fields - quoted == set()


@pytest.mark.parametrize("example", re.findall(r"^```json task\n(.*?)^```", CLAUDE, re.M | re.S))
def test_its_tasks_become_requests(example: str) -> None:
    body = task.parse_body(example.encode(), {})
    known = inspect.signature(AsyncMessages.create).parameters
    built = task.build(body, {}, "default", Priority.NORMAL, "t")
    arguments = request.build(built, known)
    assert arguments["messages"]
    assert "extra_body" not in arguments, "the SDK knows each of its parameters"
