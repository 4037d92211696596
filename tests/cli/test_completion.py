"""Completion in a shell, answered by the program itself."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentflow.cli import COMMANDS
from tests.cli.conftest import ROOT, Here, environment

PROGRAM = "import sys, json; from agentflow.cli import main; code = main(); "
PROGRAM += "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)"


def complete(folder: Path, *words: str) -> tuple[list[str], set[str]]:
    """What a shell is offered for the last word, and what was imported for it."""
    env = environment(
        folder,
        _AGENTFLOW_COMPLETE="bash_complete",
        COMP_WORDS=" ".join(["agentflow", *words]),
        COMP_CWORD=str(len(words)),
    )
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=60
    )
    code, modules = json.loads(done.stderr)
    assert code == 0
    return [line.partition(",")[2] for line in done.stdout.split()], set(modules)


def test_commands_are_completed_without_importing_any(tmp_path: Path) -> None:
    found, modules = complete(tmp_path, "")
    assert found == list(COMMANDS)
    assert not modules & {"asyncio", "nats", "anthropic", "rich", "prometheus_client"}
    assert not modules & {f"agentflow.cli.commands.{module}" for module, _ in COMMANDS.values()} - {
        "agentflow.cli.commands.completion"
    }
    assert complete(tmp_path, "wor")[0] == [name for name in COMMANDS if name.startswith("wor")]


def test_options_and_choices_are_completed(tmp_path: Path) -> None:
    found, modules = complete(tmp_path, "worker", "--log-f")
    assert found == ["--log-format", "--log-file"]
    assert not modules & {"nats", "anthropic", "prometheus_client"}
    assert complete(tmp_path, "worker", "--log-format", "j")[0] == ["json"]


def test_what_cannot_be_completed_is_silence(tmp_path: Path) -> None:
    assert complete(tmp_path, "get", "a")[0] == []
    assert complete(tmp_path, "nonsense", "a")[0] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_calls_back(shell: str, cli: Here) -> None:
    done = cli("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert f"_AGENTFLOW_COMPLETE={shell}_complete" in done.out


def test_a_real_bash_takes_the_script(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    program = tmp_path / "agentflow"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agentflow "$@"\n')
    program.chmod(0o755)
    script = (
        f'PATH="{tmp_path}:$PATH"; eval "$(agentflow completion bash)"; '
        "COMP_WORDS=(agentflow comp); COMP_CWORD=1; _agentflow_completion agentflow; "
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        env=environment(tmp_path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "completion\n", done.stderr


def test_another_shell_is_a_usage_error(cli: Here) -> None:
    assert cli("completion", "tcsh").code == 2
