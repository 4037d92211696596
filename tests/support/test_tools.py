"""A test that needs a tool may skip at home and may not where the tool can be had."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import tools

SKIPS = """
import pytest

@pytest.mark.tools("nats")
def test_against_the_cli():
    pytest.skip("for no good reason")

@pytest.mark.tools("nats")
@pytest.mark.xfail(reason="known", strict=True)
def test_known_to_fail():
    raise AssertionError
"""
SETTINGS = "[pytest]\nmarkers =\n    tools: a tool\nasyncio_default_fixture_loop_scope = function\n"


def run(folder: Path, text: str, required: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_inner.py").write_text(text)
    (folder / "pytest.ini").write_text(SETTINGS)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-rs", str(folder)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(tools.ROOT), tools.REQUIRED: required},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_skip_is_allowed_where_the_tool_is_not_required(tmp_path: Path) -> None:
    done = run(tmp_path, SKIPS, required="node,claude")
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout or "2 skipped" in done.stdout


def test_a_skip_is_a_failure_where_the_tool_is_required(tmp_path: Path) -> None:
    done = run(tmp_path, SKIPS, required="nats")
    assert done.returncode == 1, done.stdout
    assert "skipped, but nats must be there" in done.stdout


@pytest.mark.parametrize("mark", ["tools", "tools()", "tools('hammer')"])
def test_a_mark_must_name_a_tool_that_exists(tmp_path: Path, mark: str) -> None:
    text = f"import pytest\n\n@pytest.mark.{mark}\ndef test_x(): pass\n"
    done = run(tmp_path, text, required="")
    assert done.returncode != 0
    names = ", ".join(sorted(tools.FINDERS))
    assert f"a tools mark names one or more of {names}" in done.stdout + done.stderr


@pytest.mark.tools("nats")
def test_the_nats_cli_is_the_pinned_one() -> None:
    done = subprocess.run(
        [tools.path("nats"), "--version"], capture_output=True, text=True, timeout=30
    )
    assert f"NATS_CLI={done.stdout.strip()}\n" in (tools.ROOT / "tools/install").read_text()


@pytest.mark.tools("claude")
def test_the_claude_cli_starts() -> None:
    done = subprocess.run(
        [tools.path("claude"), "--version"], capture_output=True, text=True, timeout=60
    )
    assert "Claude Code" in done.stdout


@pytest.mark.tools("node")
def test_node_finds_its_sdk() -> None:
    script = "console.log(typeof require('@anthropic-ai/sdk').Anthropic)"
    done = subprocess.run(
        [tools.path("node"), "-e", script],
        cwd=tools.TOOLS,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "function", done.stderr
