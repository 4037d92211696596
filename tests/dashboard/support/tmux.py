"""A real terminal: tmux, which runs a program in a pane, types, and tells what is on the screen."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import uuid
from collections.abc import Callable, Mapping
from typing import Self

import psutil

EVERY = 0.05


class Tmux:
    """A tmux server of its own with one pane, in which a shell line runs between two marks.

    What stood on the screen before must stand there afterwards: BEFORE and AFTER are printed
    round the line, the second with its exit code, and the pane stays.
    """

    def __init__(self, line: str, *, width: int = 120, height: int = 36) -> None:
        self._socket = f"agentflow-{uuid.uuid4().hex[:12]}"
        self._line = f"echo BEFORE; {line}; echo AFTER $?; exec cat"
        self._size = (width, height)

    def start(self, environment: Mapping[str, str]) -> Self:
        """Open it."""
        width, height = self._size
        given = [f"{name}={value}" for name, value in environment.items()]
        shell = shlex.join(["env", *given, "sh", "-c", self._line])
        self._run(
            "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), shell
        )
        return self

    def end(self) -> None:
        """End it and all that runs in it."""
        subprocess.run(
            ["tmux", "-L", self._socket, "kill-server"], capture_output=True, check=False
        )

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._socket, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self._run("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type text."""
        self._run("send-keys", "-l", text)

    def resize(self, width: int, height: int) -> None:
        """Make the terminal larger or smaller."""
        self._run("resize-window", "-x", str(width), "-y", str(height))

    @property
    def screen(self) -> str:
        """What is on it."""
        return self._run("capture-pane", "-p")

    def fact(self, name: str) -> str:
        """What tmux knows of the pane, such as `alternate_on`."""
        return self._run("display-message", "-p", f"#{{{name}}}").strip()

    @property
    def program(self) -> psutil.Process:
        """The program in the pane."""
        return psutil.Process(int(self.fact("pane_pid"))).children()[0]

    async def until(self, wanted: str | Callable[[str], object], seconds: float = 30.0) -> str:
        """The screen as soon as it has this text, or is as wanted."""
        screen = ""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    screen = await asyncio.to_thread(lambda: self.screen)
                    if wanted in screen if isinstance(wanted, str) else wanted(screen):
                        return screen
                    await asyncio.sleep(EVERY)
        except TimeoutError:
            raise AssertionError(f"never seen: {wanted}\n{screen}") from None

    async def restored(self, code: int) -> None:
        """Wait for the end, and see that the terminal is as it was before."""
        screen = await self.until(f"AFTER {code}")
        assert "BEFORE" in screen
        assert self.fact("alternate_on") == "0"
        assert self.fact("cursor_flag") == "1"
        assert self.fact("mouse_any_flag") == "0"
