"""`agentflow tui`: what is asked of it on the command line, and the demonstration."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from agentflow.cli.commands import tui
from agentflow.client import Client
from agentflow.config import Connect
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.local.demo import Demo
from agentflow.views import feed
from agentflow_tui.theme import THEMES
from tests.cli.conftest import Here, environment
from tests.support.fold import Fold
from tests.support.until import until

pytestmark = pytest.mark.timeout(90)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--replay x --demo", "give one of them"),
        ("--replay x --record y", "a recording is there already"),
        ("--speed 2", "--speed belongs to --replay"),
        ("--once --record x", "without --record"),
        ("--format json", "belong to --once"),
        ("--demo --nats x", "a server of its own"),
        ("--view nonsense", "nonsense"),
        ("--once --theme nord", "nord"),
        ("", "no terminal"),
    ],
)
def test_what_does_not_go_together_is_said(cli: Here, arguments: str, text: str) -> None:
    done = cli("tui", *arguments.split())
    assert done.code == 2
    assert text in done.err
    assert done.out == ""


def test_the_command_line_knows_the_themes_and_views_that_there_are() -> None:
    assert set(tui.THEMES) == {"auto", *THEMES}
    assert set(tui.VIEWS) <= Dashboard().views.keys()


def test_a_list_of_options_needs_neither_a_terminal_library_nor_nats(tmp_path: Path) -> None:
    code = (
        "import sys; from agentflow.cli import main; main(['tui', '--help']); "
        "print([name for name in ('textual', 'rich', 'nats') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
async def test_a_demonstration_is_lifelike_and_leaves_nothing_behind() -> None:
    demo = Demo(workers=1)
    await asyncio.to_thread(demo.__enter__)
    try:
        folder, process = demo._folder, demo._process
        assert process is not None
        fold = Fold()
        async with Client(Connect(urls=(demo.url,))) as client, client.live(fold):
            await fold.until(lambda: any(row.simulated for row in fold.rows.values()))
            await fold.until(lambda: {"running", "succeeded"} <= fold.counts().keys())
            await fold.until(lambda: len({row.queue for row in fold.rows.values()}) >= 3)
            await fold.until(
                lambda: len({item.beat.name for item in fold.all(feed.Beat)}) == 2,
            )
        assert all("team" in row.labels for row in fold.rows.values())
    finally:
        await asyncio.to_thread(demo.__exit__)
    assert process.returncode == 0
    assert not folder.exists()
    assert members(folder) == []


async def test_a_demonstration_ends_with_whoever_is_killed(tmp_path: Path) -> None:
    code = (
        "import time; from agentflow.local.demo import Demo; demo = Demo(workers=1); "
        "demo.__enter__(); print(demo._folder, flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(tmp_path, TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    try:
        folder = Path((await asyncio.to_thread(owner.stdout.readline)).strip())
        assert folder.exists()
        assert members(folder)
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    await until(lambda: not members(folder))
    await until(lambda: not folder.exists())


def members(folder: Path) -> list[str]:
    """Processes whose command line names the folder."""
    listed = subprocess.run(
        ["ps", "-eww", "-o", "pid,args"], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if str(folder) in line]
