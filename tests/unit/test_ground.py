"""What a clone must bring so that it works on a machine other than its author's."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = [
    "requirements.txt",
    "requirements-runtime.txt",
    "requirements-bench.txt",
    "requirements-build.txt",
    "requirements-web.txt",
    "bench/workers/agent-sdk.txt",
]
# Written in pieces, so that this file does not find itself.
FOREIGN = {
    "a path of one machine": r"/(?:wor[k]/|roo[t]/|farm/|hom[e]/(?!agentflow\b)|User[s]/)",
    "a registry's host": (
        r"pypi\.or[g]|pythonhosted\.or[g]|registry\.npmj[s]|proxy\.golan[g]\.org|artifactor[y]"
    ),
    "a lock file's source": r'"resolve[d]"\s*:|--(?:extra-)?index-ur[l]|--find-link[s] ',
}


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git clone")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


@pytest.mark.parametrize("what", FOREIGN)
def test_no_tracked_file_names(what: str) -> None:
    pattern = re.compile(FOREIGN[what])
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()[:100]}"
        for path in tracked()
        if path.is_file()
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if pattern.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = text.replace("\\\n", " ").splitlines()
    assert len(entries) > 5
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9-]*==[0-9][^ ]* ", entry), entry[:100]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:100]
    assert not re.search(r"://|^\s*-|@ ", re.sub(r"--hash=\S+", "", text), re.MULTILINE)


def test_the_image_runs_the_versions_that_the_tests_ran_on() -> None:
    pins = [
        set(re.findall(r"^\S+==\S+", (ROOT / name).read_text(), re.MULTILINE))
        for name in REQUIREMENTS[:3]
    ]
    assert pins[1] < pins[0]
    drawn_with = {pin.partition("=")[0] for pin in pins[2]}
    assert {pin for pin in pins[0] if pin.partition("=")[0] in drawn_with} <= pins[2]


@pytest.mark.parametrize("name", ["tools/package.json", "bench/workers/node/package.json"])
def test_node_clients_are_pinned_exactly(name: str) -> None:
    package = json.loads((ROOT / name).read_text())
    for name, version in package["dependencies"].items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name


def test_ci_runs_the_tests_as_a_contributor_does() -> None:
    """A command that only CI knows lets `make test` rot."""
    commands = [
        line.strip()
        for line in (ROOT / ".ci/run").read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert commands[-2:] == ["make test", "exec make test-web"]
    assert not any("pytest" in command for command in commands)
    assert "\n\t$(BIN)/python -m pytest -n auto" in (ROOT / "Makefile").read_text()
    assert "make test" in (ROOT / "CONTRIBUTING.md").read_text()


def examples() -> list[dict[str, Any]]:
    lines = (ROOT / "examples/prompts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_examples_are_tasks() -> None:
    allowed = {"id", "kind", "labels", "max_attempts", "max_tokens", "model", "not_before"} | {
        "params",
        "prompt",
        "system",
        "timeout",
    }
    tasks = examples()
    assert len(tasks) >= 60
    for task in tasks:
        assert task.keys() <= allowed
        assert task["prompt"].strip()
    prompts = [task["prompt"] for task in tasks]
    assert len(set(prompts)) == len(prompts)


def test_the_examples_show_what_a_task_can_do() -> None:
    tasks = examples()
    prompts = [task["prompt"] for task in tasks]
    assert sum("system" in task for task in tasks) >= 8
    assert sum(task.get("max_tokens", 1024) <= 16 for task in tasks) >= 2
    assert sum("labels" in task for task in tasks) >= 8
    assert sum("[meets-529]" in prompt for prompt in prompts) == 1
    assert any(not prompt.isascii() for prompt in prompts)
    assert min(len(prompt.split()) for prompt in prompts) <= 6
    assert max(len(prompt.split()) for prompt in prompts) >= 200


def test_the_text_examples_are_a_prompt_a_line() -> None:
    lines = (ROOT / "examples/prompts.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 10
    assert all(line.strip() for line in lines)
