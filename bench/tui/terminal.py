"""A program in a pseudo-terminal of 120x36, read by somebody, so that it may write."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from typing import Final

COLUMNS: Final = 120
LINES: Final = 36


class Terminal:
    """A program in a pseudo-terminal that somebody reads."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=os.environ
            | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
            | (environment or {}),
        )
        os.close(slave)
        self.received = 0

    async def read(self) -> bytes:
        """What it wrote; b"" at its end."""
        try:
            data = await asyncio.to_thread(os.read, self.master, 65536)
        except OSError:
            data = b""
        self.received += len(data)
        return data

    async def until(self, text: bytes) -> float:
        """Seconds since the start until it wrote this."""
        seen = b""
        while text not in seen:
            data = await self.read()
            if not data:
                raise RuntimeError(f"the dashboard ended early: {seen[-2000:]!r}")
            seen = seen[-200:] + data
        return time.monotonic() - self.began

    def end(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self.master)
