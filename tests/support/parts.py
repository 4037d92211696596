"""Parts of the product as processes of the program itself, for a test to kill and stop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.tools import ROOT
from tests.support.until import until


class Part:
    """One process of `python -m agentflow`, with its log."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.arguments = arguments
        self.log = folder / f"{arguments[0]}-{os.urandom(3).hex()}.log"
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AGENTFLOW", "ANTHROPIC"))
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agentflow", *arguments],
                cwd=folder,
                env=kept | {"HOME": str(folder), "PYTHONPATH": str(ROOT)} | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")

    async def says(self, text: str, within: float = 30.0) -> str:
        """The line of its log with this text, as soon as it is there."""

        def line() -> str:
            for each in self.text().splitlines():
                if text in each:
                    return each
            assert self.alive, self.text()
            return ""

        async with asyncio.timeout(within):
            await until(line)
        return line()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(10)

    async def exited(self, within: float = 20.0) -> int:
        """Its exit code, once it has ended."""
        async with asyncio.timeout(within):
            return await asyncio.to_thread(self.process.wait, within + 1)

    def end(self) -> None:
        """Whatever it is at, it is gone."""
        if self.alive:
            self.process.send_signal(signal.SIGCONT)
            self.kill()


class Parts:
    """Starts them, and ends what is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[Part] = []

    def start(self, *arguments: str, **environment: str) -> Part:
        part = Part(self.folder, *arguments, **environment)
        self._started.append(part)
        return part

    async def simulator(self) -> str:
        """Start a simulator; its URL."""
        part = self.start("simulator", "--port", "0")
        line = await part.says("http://")
        return "http://" + line.partition("http://")[2].split()[0]

    def end(self) -> None:
        for part in reversed(self._started):
            part.end()
