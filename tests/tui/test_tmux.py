"""The program in a real terminal, on a real server: what a person sees from start to end."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from agentflow.client import Client
from agentflow.config import Connect
from tests.dashboard.support.tmux import Tmux
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.tools("tmux"), pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = f"{sys.executable} -m agentflow"
Opened = Callable[..., Tmux]


@pytest.fixture
def terminal(home) -> Iterator[Opened]:
    """Open a terminal in which a line runs."""
    opened: list[Tmux] = []

    def start(line: str, **size: int) -> Tmux:
        tmux = Tmux(line, **size)
        opened.append(tmux)
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return tmux.start(
            kept
            | {
                "XDG_CACHE_HOME": str(home / "cache"),
                "PYTHONPATH": str(ROOT),
                "TERM": "screen-256color",
                "LANG": "C.UTF-8",
                "TZ": "UTC",
            }
        )

    yield start
    for tmux in opened:
        tmux.end()


@pytest.fixture
def worker(nats_server: NatsServer) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that sleeps and echoes."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "agentflow", "worker", "--nats", nats_server.url),
            *("--kinds", "echo,sleep", "-c", "4", "--name", "w-tmux"),
        ],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    yield process
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def line(server: NatsServer, *more: str) -> str:
    return " ".join((PROGRAM, "tui", "--nats", server.url, *more))


async def test_from_start_to_quit(terminal: Opened, nats_server: NatsServer, worker) -> None:
    tmux = terminal(line(nats_server))
    await tmux.until("live")
    await tmux.until("workers 1 up")
    async with Client(Connect(urls=(nats_server.url,))) as client:
        await client.submit("x", kind="sleep", params={"seconds": 60}, id="a-long-sleep")
        await tmux.until(lambda screen: "a-long-sleep" in screen and "slots 1/4" in screen)
    tmux.press("2")
    await tmux.until("─ tasks")
    tmux.press("Enter")
    await tmux.until("› Task")
    tmux.press("c")
    await tmux.until("cancel 1 task")
    tmux.press("y")
    await tmux.until("cancelled")
    tmux.press("q", "q", "q")
    await tmux.restored(0)


async def test_a_server_that_dies_is_told_and_its_return_leaves_no_gap(
    terminal: Opened, nats_server: NatsServer, worker
) -> None:
    tmux = terminal(line(nats_server, "--view", "tasks"))
    await tmux.until("live")
    async with Client(Connect(urls=(nats_server.url,))) as client:
        for number in range(5):
            await client.submit("x", kind="echo", id=f"before-{number}")
        await tmux.until(lambda screen: screen.count("succeeded") >= 5)
    nats_server.kill()
    seen = await tmux.until("disconnected for")
    assert "Acts are off" in seen
    tmux.press("n")
    await tmux.until("there is no connection")
    nats_server.start()
    await tmux.until(lambda screen: "live" in screen and "disconnected" not in screen)
    async with Client(Connect(urls=(nats_server.url,))) as client:
        for number in range(5):
            await client.submit("x", kind="echo", id=f"after-{number}")
    names = [f"{when}-{number}" for when in ("before", "after") for number in range(5)]
    await tmux.until(
        lambda screen: (
            all(name in screen for name in names)
            and sum("succeeded" in row for row in screen.splitlines()) == len(names)
        ),
        60,
    )
    tmux.press("q", "q")
    await tmux.restored(0)


async def test_the_terminal_may_have_any_size(terminal: Opened, nats_server: NatsServer) -> None:
    tmux = terminal(line(nats_server))
    await tmux.until("live")
    for width, height in ((80, 24), (60, 20), (200, 50)):
        tmux.resize(width, height)
        await tmux.until(
            lambda screen, width=width, height=height: (
                len(rows := screen.rstrip("\n").split("\n")) == height
                and "AgentFlow" in rows[0]
                and "enter" in rows[-1]
                and max(map(len, rows)) <= width
            )
        )
    tmux.resize(40, 10)
    await tmux.until("too small")
    tmux.press("q")
    await tmux.restored(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_leaves_the_terminal_as_it_was(
    terminal: Opened, nats_server: NatsServer, number: signal.Signals
) -> None:
    tmux = terminal(line(nats_server))
    await tmux.until("live")
    assert tmux.fact("alternate_on") == "1"
    tmux.program.send_signal(number)
    await tmux.restored(128 + number)


async def test_ctrl_c_twice_ends_it(terminal: Opened, nats_server: NatsServer) -> None:
    tmux = terminal(line(nats_server))
    await tmux.until("live")
    tmux.press("C-c")
    await tmux.until("q quits")
    tmux.press("C-c", "C-c")
    await tmux.restored(130)


async def test_a_terminal_that_goes_away_takes_the_program_with_it(
    terminal: Opened, nats_server: NatsServer
) -> None:
    tmux = terminal(line(nats_server))
    await tmux.until("live")
    program = tmux.program
    tmux.end()
    async with asyncio.timeout(30):
        while program.is_running() and program.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.05)


async def test_it_waits_for_a_server_that_is_not_there_yet(
    terminal: Opened, nats_server: NatsServer
) -> None:
    nats_server.kill()
    tmux = terminal(line(nats_server))
    await tmux.until("disconnected")
    nats_server.start()
    await tmux.until("live")
    tmux.press("q")
    await tmux.restored(0)


async def test_a_mistake_is_a_sentence_on_the_old_screen(terminal: Opened, home) -> None:
    tmux = terminal(f"{PROGRAM} tui --theme nord")
    screen = await tmux.until("AFTER 2")
    assert "'nord' is not one of" in screen
    assert "Traceback" not in screen


@pytest.mark.slow
async def test_the_demonstration_shows_simulated_work(terminal: Opened) -> None:
    tmux = terminal(f"{PROGRAM} tui --demo")
    await tmux.until("SIMULATED", 90)
    tmux.press("2")
    await tmux.until("✓ succeeded", 60)
    tmux.press("q", "q")
    await tmux.restored(0)
