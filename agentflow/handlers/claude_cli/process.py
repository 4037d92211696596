"""Claude Code as a child process, and all that it starts (guard.py).

The guard holds the read end of a pipe whose write end is here: closing it ends everything, and so
does the death of this process, however it dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from agentflow.handlers.claude_cli import guard

GRACE: Final = 2.0
"""Seconds between SIGTERM and SIGKILL."""
GONE: Final = GRACE + guard.GIVE_UP
"""Seconds after which the guard itself is killed. A stopping worker has five."""
CHUNK: Final = 65_536
LINE: Final = 64 * 1024 * 1024
"""A longer line is left out: something of an agent's, never the result."""
ERRORS: Final = 4_000


class Process:
    """One run. Read `lines` to their end, then `wait`; `end` may be called at any time."""

    def __init__(self) -> None:
        self._lifeline: int | None = None
        self._errors = bytearray()
        self._reading: asyncio.Task[None] | None = None

    async def start(
        self, command: Sequence[str], *, folder: Path, prompt: Path, environment: Mapping[str, str]
    ) -> None:
        """Raises OSError."""
        read, self._lifeline = os.pipe()
        try:
            with prompt.open("rb") as text:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", guard.__file__),
                    *(str(read), str(GRACE), *command),
                    stdin=text,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    cwd=folder,
                    env=dict(environment),
                    pass_fds=(read,),
                    start_new_session=True,  # Ctrl-C is for the worker, which ends its tasks itself
                )
        except BaseException:
            self._let_go()
            raise
        finally:
            os.close(read)
        self._reading = asyncio.get_running_loop().create_task(self._read_errors())

    @property
    def pid(self) -> int:
        """The guard's."""
        return self._process.pid

    async def lines(self) -> AsyncIterator[bytes]:
        """What it prints."""
        output = self._process.stdout
        assert output is not None
        parts = bytearray()
        while chunk := await output.read(CHUNK):
            *whole, rest = chunk.split(b"\n")
            for piece in whole:
                yield bytes(parts + piece) if parts else piece
                parts.clear()
            if len(parts) <= LINE:
                parts += rest
        if parts:
            yield bytes(parts)

    async def wait(self) -> int:
        """Its exit status, when everything that it started has ended."""
        return await self._process.wait()

    @property
    def errors(self) -> str:
        """The end of what it printed on stderr."""
        return self._errors.decode(errors="replace").strip()

    async def end(self) -> None:
        """End it and everything it started; returns when that is done."""
        self._let_go()
        try:
            async with asyncio.timeout(GONE):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
        if self._reading is not None:
            # Elsewhere than on Linux a process that got away may hold the other end.
            await asyncio.wait({self._reading}, timeout=1.0)
            self._reading.cancel()

    def _let_go(self) -> None:
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            os.close(lifeline)

    async def _read_errors(self) -> None:
        source = self._process.stderr
        assert source is not None
        while chunk := await source.read(CHUNK):
            self._errors += chunk
            del self._errors[:-ERRORS]
