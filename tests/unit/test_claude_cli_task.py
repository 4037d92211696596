"""What a task of kind claude-cli may say, and what becomes of its folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agentflow.errors import InvalidTask
from agentflow.handlers.claude.request import DEFAULT_MODEL
from agentflow.handlers.claude_cli.arguments import ALLOWED, Binary, Request, build, family_of
from agentflow.handlers.claude_cli.workspace import Workspace, Workspaces
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task, decode_body

SESSION = "11111111-2222-4333-8444-555555555555"


def built(**fields: Any) -> Request:
    given = {"prompt": "Hi", **fields}
    task = Task(id="t", queue="default", priority=Priority.NORMAL, kind="claude-cli", **given)
    return build(task, "/h")


def test_a_prompt_alone() -> None:
    request = built()
    assert request.arguments == (f"--model={DEFAULT_MODEL}",)
    assert request.private == {"prompt.txt": "Hi"}
    assert request.session is None


def test_all_that_a_task_may_say() -> None:
    params = {
        "tools": ["Bash", "Read"],
        "allowed_tools": ["Bash(git log:*)", "Read"],
        "disallowed_tools": ["WebFetch"],
        "permission_mode": "acceptEdits",
        "max_turns": 3,
        "max_budget_usd": 1.5,
        "effort": "low",
        "fallback_model": "haiku",
        "add_dirs": ["/data"],
        "json_schema": {"type": "object"},
        "agents": None,
        "mcp_config": {"mcpServers": {}},
        "bare": True,
        "session_id": SESSION,
        "workspace": "w.1",
        "files": {"a/b": "c"},
        "collect": ["**/*"],
        "keep": True,
        "system_mode": "replace",
    }
    assert {*params, "resume"} == set(ALLOWED)
    request = built(model="opus", system="Be brief", params=params)
    assert request.arguments == (
        "--model=opus",
        *("--tools", "Bash,Read"),
        "--allowed-tools=Bash(git log:*)",
        "--allowed-tools=Read",
        "--disallowed-tools=WebFetch",
        "--permission-mode=acceptEdits",
        "--max-turns=3",
        "--max-budget-usd=1.5",
        "--effort=low",
        "--fallback-model=haiku",
        "--add-dir=/data",
        '--json-schema={"type":"object"}',
        "--mcp-config=/h/mcp.json",
        "--strict-mcp-config",
        "--system-prompt-file=/h/system.txt",
        "--bare",
    )
    assert request.private == {
        "prompt.txt": "Hi",
        "system.txt": "Be brief",
        "mcp.json": '{"mcpServers":{}}',
    }


def test_agents_are_files_and_no_arguments() -> None:
    agent = {"description": 'Reviews: "code"', "prompt": "You are\n---\none.", "tools": ["Read"]}
    request = built(params={"agents": {"reviewer": agent}})
    assert request.arguments == (f"--model={DEFAULT_MODEL}",)
    text = request.private["config/agents/reviewer.md"]
    assert text == (
        '---\nname: "reviewer"\ndescription: "Reviews: \\"code\\""\ntools: ["Read"]\n---\n'
        "You are\n---\none.\n"
    )


def test_a_system_prompt_is_added_to_its_own_unless_told() -> None:
    assert "--append-system-prompt-file=/h/system.txt" in built(system="x").arguments


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"extra_args": ["--x"]}, r"no params.extra_args; it has tools, allowed_tools,"),
        ({"max_turns": 0}, r"params: .*max_turns"),
        ({"max_turns": "3"}, r"params: .*max_turns"),
        ({"allowed_tools": "Read"}, r"params: .*allowed_tools"),
        ({"allowed_tools": ["--dangerously-skip-permissions"]}, r"params: .*allowed_tools"),
        ({"permission_mode": "all"}, r"params: .*permission_mode"),
        ({"session_id": "../../x"}, r"params: .*session_id"),
        ({"session_id": SESSION, "resume": SESSION}, "both params.session_id and params.resume"),
        ({"resume": SESSION}, "params.resume needs params.workspace"),
        ({"workspace": "../w"}, r"params: .*workspace"),
        ({"workspace": ".."}, r"params: .*workspace"),
        ({"files": {"/etc/x": ""}}, "params.files: '/etc/x' is not a path in the workspace"),
        ({"files": {"a/../../x": ""}}, "params.files: .* is not a path"),
        ({"files": {".": ""}}, "params.files: .* is not a path"),
        ({"files": {"a": {"base64": "?"}}}, r"params: .*files"),
        ({"collect": ["../*"]}, "params.collect: .* is not a path"),
        ({"collect": [""]}, r"params: .*collect"),
        ({"collect": ["/etc/*"]}, "params.collect: .* is not a path"),
        ({"json_schema": {"x": "y" * 200_000}}, "params.json_schema is larger"),
        ({"tools": ["Read\0"]}, r"params: .*tools"),
        ({"fallback_model": "a\nb"}, r"params: .*fallback_model"),
        ({"add_dirs": ["-x"]}, r"params: .*add_dirs"),
        ({"files": {"-rf": ""}}, r"params: .*files"),
        ({"files": {"a\0b": ""}}, r"params: .*files"),
        ({"agents": {"../x": {}}}, r"params: .*agents"),
        ({"agents": {"x": {"prompt": "p"}}}, "x needs a description and a prompt"),
        (
            {"agents": {"x": {"prompt": "p", "description": "d"}}, "bare": True},
            "with params.bare none are read",
        ),
    ],
)
def test_what_a_task_cannot_say(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTask, match=rf"task t: .*{message}"):
        built(params=params)


def test_it_needs_a_prompt_and_a_model_that_is_no_option() -> None:
    with pytest.raises(InvalidTask, match="task t: kind claude-cli needs a prompt"):
        built(prompt=None)
    with pytest.raises(InvalidTask, match="is not the name of a model"):
        built(model="--x")


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("claude-sonnet-5-5", "sonnet"),
        ("claude-opus-4-8[1m]", "opus"),
        ("sonnet", "sonnet"),
        ("opus[1m]", "opus"),
        ("gpt", "other"),
    ],
)
def test_its_names_of_models_have_families(model: str, family: str) -> None:
    assert family_of(model) == family


def test_the_page_tells_all_params_and_its_example_is_a_task() -> None:
    page = (Path(__file__).parents[2] / "docs" / "claude-cli.md").read_text()
    table = page.partition("| param | meaning |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(ALLOWED)
    example = page.partition("```json\n")[2].partition("```")[0]
    body = decode_body(example.encode())
    assert body.params is not None
    assert built(prompt=body.prompt, params=body.params).params.max_turns == 30


# The folder.


@pytest.fixture(name="workspaces")
def _workspaces(tmp_path: Path) -> Workspaces:
    workspaces = Workspaces(tmp_path / "root")
    workspaces.open()
    return workspaces


@pytest.fixture(name="workspace")
def _workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "workspace", "t")
    workspace.folder.mkdir()
    workspace.prepare({}, {})
    return workspace


def test_files_go_in_and_come_out(workspace: Workspace) -> None:
    files = {"a/b.txt": "Grüße\n", "c": Binary(b"\0\xff")}
    workspace.prepare({"prompt.txt": "x"}, files)
    collected = {"a/b.txt": "Grüße\n", "c": {"base64": "AP8="}}
    assert workspace.collect(["**/*", "a/*", "none", "**x", "**"]) == (collected, [])
    # An attempt begins with what the task says, whatever an earlier one made of it.
    (workspace.work / "a/b.txt").write_text("changed")
    workspace.prepare({}, files)
    assert workspace.collect(["a/*"])[0] == {"a/b.txt": "Grüße\n"}


def test_links_lead_nowhere(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (workspace.work / "folder").symlink_to(outside)
    (workspace.work / "file").symlink_to(outside / "secret")
    os.link(outside / "secret", workspace.work / "hard")  # only with its owner's rights
    os.mkfifo(workspace.work / "pipe")
    assert workspace.collect(["*", "**/*", "folder/*", "folder/secret", "file"])[0] == {
        "hard": "secret"
    }
    workspace.prepare({}, {"folder/new": "x", "file": "y"})
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert (workspace.work / "folder/new").read_text() == "x"


def test_a_folder_in_the_way_is_named(workspace: Workspace) -> None:
    workspace.prepare({}, {"a/b": ""})
    with pytest.raises(InvalidTask, match=r"task t: params.files: 'a' cannot be written"):
        workspace.prepare({}, {"a": ""})


def test_what_is_too_much_is_left_out_and_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{Workspace.__module__}.COLLECTED_BYTES", 10)
    workspace.prepare({}, {"a": "12345678", "b": "123", "c": "1"})
    assert workspace.collect(["*"]) == ({"a": "12345678", "c": "1"}, ["b"])
    monkeypatch.setattr(f"{Workspace.__module__}.COLLECTED_FILES", 1)
    assert workspace.collect(["*"]) == ({"a": "12345678"}, ["b", "c"])


async def test_thrown_away_it_is_gone_at_once(workspaces: Workspaces) -> None:
    async with workspaces.use("t") as workspace:
        workspace.prepare({}, {"deep/down": "x"})
        (workspace.work / "deep").chmod(0)
        delete = workspaces.throw_away(workspace)
        assert not workspace.folder.exists()
        async with workspaces.use("t") as again:
            assert again.folder == workspace.folder
            delete()
            assert again.folder.exists()
    assert list((workspaces.root / "trash").iterdir()) == []


async def test_old_folders_of_tasks_are_removed_named_ones_stay(workspaces: Workspaces) -> None:
    long_ago = time.time() - 8 * 86_400
    for task_id, name in (("old", None), ("young", None), ("any", "named")):
        async with workspaces.use(task_id, name) as workspace:
            workspace.prepare({}, {})
        if task_id != "young":
            os.utime(workspace.folder, (long_ago, long_ago))
    async with workspaces.use("held") as held:
        os.utime(held.folder, (long_ago, long_ago))
        workspaces.tidy()
        assert held.folder.exists()
    assert {path.name for path in (workspaces.root / "tasks").iterdir()} == {"young", "held"}
    assert [path.name for path in (workspaces.root / "named").iterdir()] == ["named"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows it")
def test_a_process_that_holds_secrets_is_read_by_nobody_else() -> None:
    code = (
        "import ctypes; from agentflow import hidden; hidden.hide();"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "0\n", done.stderr
