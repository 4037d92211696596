"""Every block of the README and of docs/ does what it says, as it is pasted.

The shell's blocks of a page run in order in a folder of their own, which has the examples; jobs and
stacks get `--simulate`, so nothing is paid. What cannot run so stands in NOT_RUN, with the reason,
and nowhere else. docs/protocol.md has tests of its own, and so has the Python of three pages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from tests.support import tools
from tests.support.nats_server import free_port
from tests.support.pages import PAGES, Block, blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

INSTALLS = "installs for minutes, from an index"

NOT_RUN = {
    "make demo": INSTALLS,
    "make test": INSTALLS + ", and runs this very test",
    "pip install 'agentflow-nats": INSTALLS,
    "pip install .": INSTALLS + "; tests/integration/test_wheel.py installs the wheel",
    ". .venv/bin/activate": "is the environment of the clone, in which this test runs",
    "export ANTHROPIC_API_KEY=...": "a real key",
    "agentflow cache": "a server that runs on; tests/cli/test_cache.py has one",
    "agentflow tui": "needs a terminal; tests/tui runs it in one",
    "agentflow verify --simulator": "a simulator on that port; tests/cli/test_verify.py has one",
}
"""The beginning of a line, and why it is not run here."""

PAGES_NOT_RUN = {
    "batches.md": "a batch takes minutes, and its id is the API's; tests/integration/batches",
    "claude-cli.md": "needs Claude Code; tests/integration/test_claude_cli.py",
    "deploy.md": "Docker, users, several hosts; test_compose_commands.py, test_roles.py, "
    "test_cluster.py",
    "kubernetes.md": "needs a cluster; tests/deploy",
}
"""Of these pages no line is run here, and why."""

SIMULATED = {
    "agentflow run ": "agentflow run --simulate ",
    "agentflow up": "agentflow up --simulate",
}

STAYS = {"agentflow up": "AgentFlow runs at", "agentflow worker": "slots on"}
"""What goes on until it is told to stop, and what it says when it is ready."""

BEFORE = {
    "guarantees.md": """
        agentflow run examples/prompts.jsonl
        agentflow submit 'Write a haiku' --id haiku-1 --wait
        echo '{"id": "haiku-1"}' >ids.txt""",
    "steering.md": """
        agentflow submit x --id haiku-1 --queue slow --label run=tuesday
        agentflow submit x --id haiku-2 --queue slow
        agentflow submit x --id haiku-3 --queue slow
        agentflow submit x --id broken-1 --kind sleep --param seconds=nonsense --wait || true""",
}
"""What the reader of a page has done by then."""

LONG = {"job.md", "steering.md"}
"""Pages that `make faults` runs."""

STACKED = {"api.md", "guarantees.md", "handlers.md", "limits.md", "steering.md"}
"""Pages that speak of a stack which runs; the README starts its own."""

IN_A_CALM_STATE = {"cancel --label", "cancel --queue", "dead retry --fingerprint", "resume --pool"}
"""Commands that may find nothing to do: 1 is an answer, too."""

PYTHON = {
    "client.md": "tests/integration/test_testing_kit.py",
    "handlers.md": "tests/integration/test_app.py",
    "protocol.md": "tests/integration/test_docs_protocol.py",
    "testing.md": "tests/integration/test_testing_kit.py",
}
"""Pages whose Python goes on from block to block, and the test that runs it."""

LANGUAGES = {"", "ini", "json", "mermaid", "python", "sh", "text", "yaml"}


class Line(NamedTuple):
    """A line to be typed, and where it stands."""

    text: str
    where: str


def lines(block: Block, page: Path) -> Iterator[Line]:
    text = re.sub(r"\\\n\s*", " ", block.text)
    for offset, line in enumerate(text.splitlines(), 1):
        command = re.sub(r"\s+#\s.*$", "", line).strip()
        if command and not command.startswith("#"):
            yield Line(command, f"{page.name}, line {block.line + offset}")


def reason(line: str) -> str | None:
    """Why a line is not run."""
    return next((why for begin, why in NOT_RUN.items() if line.startswith(begin)), None)


SHELL = {
    page: [line for block in blocks(page) if block.language == "sh" for line in lines(block, page)]
    for page in PAGES
    if page.name not in {"protocol.md", *PAGES_NOT_RUN}
}


def typed(page: Path, found: list[Line]) -> Any:
    """A page whose lines are run; some need the nats CLI."""
    marks = (
        [pytest.mark.tools("nats")] if any(line.text.startswith("nats ") for line in found) else []
    )
    if page.name in LONG:
        marks.append(pytest.mark.long("many jobs, one after the other"))
    return pytest.param(page, marks=marks, id=page.name)


def simulated(line: str) -> str:
    for begin, instead in SIMULATED.items():
        line = line.replace(begin, instead)
    return line


class Shell:
    """A folder, an environment without anything of this machine's user, and what stays in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port, self._gateway = free_port(), free_port()
        bin_, tools_ = Path(sys.executable).parent, tools.TOOLS / "bin"
        kept = {name: text for name, text in os.environ.items() if name.split("_")[0] not in HIDDEN}
        self.environment = kept | {
            "HOME": str(folder),
            "PATH": f"{bin_}:{tools_}:{os.environ['PATH']}",
            "NATS_URL": f"nats://127.0.0.1:{self._port}",
        }
        self._staying: list[subprocess.Popen[bytes]] = []

    def run(self, line: Line) -> None:
        """Run a line as bash does; 1 is success where there may be nothing to do."""
        text = simulated(line.text).replace(":8849", f":{self._gateway}")
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, timeout=120
        )
        calm = any(f"agentflow {words}" in line.text for words in IN_A_CALM_STATE)
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == 0 or (calm and done.returncode == 1), f"{line}\n{said}"

    def stay(self, line: Line, ready: str) -> None:
        """Start what goes on, and return when it is ready."""
        log = self.folder / f"{len(self._staying)}.log"
        ports = f"--port {self._port} --gateway-port {self._gateway}"
        words = simulated(line.text).replace("agentflow up", f"agentflow up {ports}")
        with log.open("wb") as out:
            self._staying.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec {words}"],
                    cwd=self.folder,
                    env=self.environment,
                    stdout=out,
                    stderr=out,
                )
            )
        while ready not in log.read_text():
            assert self._staying[-1].poll() is None, f"{line}\n{log.read_text()}"
            time.sleep(0.02)

    def end(self) -> None:
        """Stop what stays; each ends in order."""
        for process in reversed(self._staying):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


HIDDEN = {"AGENTFLOW", "ANTHROPIC", "NATS", "XDG"}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "examples").symlink_to(tools.ROOT / "examples")
    found = Shell(tmp_path)
    try:
        yield found
    finally:
        found.end()


@pytest.mark.parametrize("page", [typed(page, found) for page, found in SHELL.items() if found])
def test_the_blocks_of_a_page_run_in_order(page: Path, shell: Shell) -> None:
    if page.name in PYTHON:
        code = [block.text for block in blocks(page) if block.language == "python"]
        (shell.folder / "tasks.py").write_text("\n".join(code))
        shutil.copy(tools.ROOT / "README.md", shell.folder)
    if page.name in STACKED:
        shell.stay(Line("agentflow up --workers 1", "before"), STAYS["agentflow up"])
    for text in BEFORE.get(page.name, "").splitlines():
        if text.strip():
            shell.run(Line(text.strip(), f"before {page.name}"))
    for line in SHELL[page]:
        if reason(line.text) is not None:
            continue
        ready = next((ready for begin, ready in STAYS.items() if line.text.startswith(begin)), None)
        if ready is None:
            shell.run(line)
        else:
            shell.stay(line, ready)


def test_nothing_is_excused_that_is_not_there() -> None:
    everything = [line.text for found in SHELL.values() for line in found]
    for begin in NOT_RUN:
        assert any(line.startswith(begin) for line in everything), begin
    for name in {*PYTHON, *STACKED, *BEFORE, *PAGES_NOT_RUN}:
        assert name in {page.name for page in PAGES}


def test_the_python_of_the_readme_is_a_program(shell: Shell) -> None:
    shell.stay(Line("agentflow up --workers 1", "before"), STAYS["agentflow up"])
    for page, index in ((tools.ROOT / "README.md", 0), (tools.ROOT / "docs/client.md", 0)):
        code = [block.text for block in blocks(page) if block.language == "python"][index]
        (shell.folder / "pasted.py").write_text(code)
        shell.run(Line("python pasted.py", page.name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_of_a_language_that_is_looked_at(page: Path) -> None:
    for block in blocks(page):
        where = f"{page.name}, line {block.line}"
        assert block.language in LANGUAGES, where
        if block.language == "json" and page.name != "protocol.md":
            json.loads(block.text)
        if block.language == "yaml":
            YAML(typ="safe").load(block.text)
        if block.language == "python":
            compile(block.text, where, "exec")
            assert page.name in {*PYTHON, "README.md"}, where
