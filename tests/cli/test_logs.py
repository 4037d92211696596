"""`agentflow logs` over the logs of a stack that was there."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from agentflow.cli import cli
from tests.support.loglines import JSON, SERVER, TEXT
from tests.support.parts import Parts


@pytest.fixture
def store(tmp_path: Path) -> Path:
    logs = tmp_path / "store" / "logs"
    logs.mkdir(parents=True)
    (logs / "worker-1.log").write_text(TEXT + "\n" + JSON.replace("t-1", "t-2") + "\n")
    (logs / "nats-server.log").write_text(SERVER + "\n")
    return logs.parent


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["logs", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_all_parts_are_shown_and_chosen_from(store: Path) -> None:
    place = ("--store", str(store))
    assert "nats-server: Publish Violation" in shown(*place)
    assert shown(*place, "--task", "t-2").count("\n") == 1
    assert shown(*place, "--level", "warning", "--part", "worker-1").count("\n") == 1
    assert '"task":"t-2"' in shown(*place, "--json", "--task", "t-2")
    assert shown(*place, "-n", "0") == ""


async def test_it_follows_what_is_written(store: Path, parts: Parts) -> None:
    part = parts.start("logs", "-f", "--store", str(store), "--task", "t-3", "--json", "-n", "1")
    with (store / "logs" / "master.log").open("a") as file:
        file.write(JSON.replace("t-1", "t-3") + "\n")
    async with asyncio.timeout(30):
        await part.shows('"task":"t-3"')


def test_a_store_without_logs_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["logs", "--store", str(tmp_path)])
    assert result.exit_code != 0
