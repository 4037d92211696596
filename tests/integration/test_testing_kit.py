"""The test kit, and the code of docs/client.md and docs/testing.md."""

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest

import agentflow
from agentflow.errors import MasterAbsent
from agentflow.testing import Stack
from agentflow.testing.plugin import agentflow_stack

__all__ = ["agentflow_stack"]

ROOT = Path(__file__).parents[2]


def code_of(page: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def test_parts_come_and_go(agentflow_stack: Stack) -> None:
    client = agentflow_stack.client
    with pytest.raises(MasterAbsent):
        client.list()
    agentflow_stack.master()
    assert len(client.workers()) == 1
    app = agentflow.App()

    @app.task
    def where() -> int:
        return os.getpid()

    with agentflow_stack.worker(app, queues=["own"]):
        task = client.submit(kind="where", queue="own", params={})
        assert task.result(20, type=int) == os.getpid()
    agentflow_stack.run(app)
    assert client.submit(kind="where", params={}).result(20, type=int) == os.getpid()
    assert client.submit("x", kind="echo").result(20).text == "x", (
        "what it ran before it still runs"
    )


def test_the_environment_is_the_stacks_and_then_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-real")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "real")
    monkeypatch.setenv("AGENTFLOW_NATS", "nats://elsewhere")
    before = dict(os.environ)
    with Stack() as stack:
        assert "real" not in " ".join(os.environ.values())
        assert os.environ["AGENTFLOW_NATS"] == stack.url
        assert os.environ["ANTHROPIC_BASE_URL"] == stack.simulator.url
        os.environ["OF_THE_TEST"] = "stays"
    assert os.environ.pop("OF_THE_TEST") == "stays"
    assert dict(os.environ) == before


def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(threading.enumerate())  # other tests' functions may still run in theirs
    with Stack() as stack:
        assert stack.client.submit("x", kind="echo").result(20).ok
        stack.client.submit(kind="sleep", params={"seconds": 60})
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    left = set(threading.enumerate()) - before
    assert not [thread.name for thread in left if thread.name.startswith("agentflow")]


@pytest.mark.timeout(300)
def test_pytest_has_the_fixture_and_pays_nothing_for_it(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [plugin] = project["entry-points"]["pytest11"].values()
    (tmp_path / "test_docs.py").write_text(code_of("testing.md"))
    (tmp_path / "conftest.py").write_text(
        "import json, pathlib, sys\n"
        "def pytest_sessionstart():\n"
        "    pathlib.Path('modules.json').write_text(json.dumps(sorted(sys.modules)))\n"
    )
    # No setting that the page does not name; the warning ignored asks for one of fixtures.
    options = "-W error -W ignore::pytest.PytestDeprecationWarning ."
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", plugin, *options.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    loaded = set(json.loads((tmp_path / "modules.json").read_text()))
    assert plugin in loaded
    assert not loaded & {"nats", "anthropic", "msgspec", "agentflow.client", "agentflow.sync"}


async def test_the_code_of_the_client_page(agentflow_stack: Stack, tmp_path: Path) -> None:
    docs: dict[str, Any] = {"__name__": "docs_client"}
    exec(compile(code_of("client.md"), "docs/client.md", "exec"), docs)
    app = agentflow.App()

    @app.task
    def summarise() -> dict[str, Any]:
        return {"text": "short", "words": 1}

    agentflow_stack.run(app)
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"{number}\n" for number in range(20)))
    assert await docs["main"]()
    async with agentflow_stack.connect() as client:
        assert await docs["translate"](client, str(file)) == 20
        assert all(await docs["a_few"](client))
        assert len(await docs["as_they_end"](client)) == 3
        task = await client.submit(kind="summarise", params={})
        assert await docs["summary"](client, task.id) == docs["Summary"]("short", 1)
        assert await docs["told"](client, 0)
    assert docs["script"]()[1:] == ["one", "two"]
