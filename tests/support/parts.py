"""Parts of the product as processes of the program itself, for a test to kill and stop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

from tests.support.tools import ROOT
from tests.support.until import until

SIZE = (36, 120)
"""Rows and columns of a terminal."""


class Part:
    """One process of `python -m agentflow`, with its log."""

    def __init__(
        self, folder: Path, *arguments: str, terminal: bool = False, **environment: str
    ) -> None:
        self.arguments = arguments
        self.log = folder / f"{arguments[0]}-{os.urandom(3).hex()}.log"
        screen = _terminal(self.log) if terminal else None
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
                stdin=subprocess.DEVNULL if screen is None else screen,
                stdout=log if screen is None else screen,
                stderr=log if screen is None else screen,
                start_new_session=terminal,
            )
        if screen is not None:
            os.close(screen)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")

    async def shows(self, text: str, within: float = 30.0) -> None:
        """Wait until this text is somewhere in what it wrote."""
        async with asyncio.timeout(within):
            await until(lambda: text in self.text())

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


def _terminal(log: Path) -> int:
    """The program's side of a terminal; what is written to it is appended to the log."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))

    def read() -> None:
        # EIO is how the end of a terminal's program reads.
        with log.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while data := os.read(ours, 65536):
                file.write(data)
        os.close(ours)

    threading.Thread(target=read, daemon=True).start()
    return theirs


class Parts:
    """Starts them, and ends what is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[Part] = []

    def start(self, *arguments: str, terminal: bool = False, **environment: str) -> Part:
        part = Part(self.folder, *arguments, terminal=terminal, **environment)
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
