"""A part of the stack that is a child process: master, worker, simulator.

It leads a session of its own, so Ctrl-C in a terminal reaches only the process that stops the parts
in order, and whatever it started itself can be ended with it. What it prints goes to its log.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from agentflow.errors import StackError
from agentflow.local import process
from agentflow.local.log_file import LogFile
from agentflow.local.supervisor import Verdict
from agentflow.worker import orderly

READY_WITHIN: Final = 60.0
POLL: Final = 0.01
USAGE: Final = 2
"""Exit status of a command that was called wrongly: it would say the same again."""


class Child:
    """`argv` may be changed between two starts. With `ready`, a start is over when the part has
    printed what matches; `announced` is that match. With `drains` it may be told to stop by others
    than us: it says so by its exit status, and then has not crashed."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        inherit: Sequence[int] = (),
        ready: re.Pattern[str] | None = None,
        grace: float = 10.0,
        drains: bool = False,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.grace = grace
        self.log = LogFile(log)
        self.announced: re.Match[str] | None = None
        if drains:
            environment = {**(os.environ if environment is None else environment)}
            environment |= orderly.ENVIRONMENT
        self._environment = environment
        self._inherit = tuple(inherit)
        self._ready = ready
        self._drains = drains
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def verdict(self) -> Verdict:
        """What its end means."""
        status = self._process.returncode if self._process is not None else None
        if status == orderly.STATUS and self._drains:
            return "drained"
        return "refused" if status == USAGE else "crashed"

    async def start(self) -> None:
        self._process = None
        self.log.begin()
        try:
            with self.log.open() as output:
                self._process = await asyncio.create_subprocess_exec(
                    *self.argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment,
                    start_new_session=True,
                    pass_fds=self._inherit,
                )
        except OSError as error:
            raise StackError(f"{self.name} could not be started: {error}") from error
        if self._ready is not None:
            try:
                self.announced = await self._until_ready(self._process, self._ready)
            except BaseException:
                self.kill()
                await self.wait()
                raise

    async def wait(self) -> str:
        """Return when the process has ended, with how it did."""
        if self._process is None:
            return "it was not running"
        returncode = await self._process.wait()
        # What it started itself and left behind is still in its process group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        ending = process.ending(returncode)
        if self._drains and returncode == 0:
            ending += ", although nobody told it to stop (does a handler call exit?)"
        return ending

    def ask(self) -> None:
        """SIGTERM, once more to make it faster."""
        if self._process is not None:
            process.send(self._process, signal.SIGTERM)
            process.send(self._process, signal.SIGCONT)  # a stopped process would not hear it

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def last_words(self) -> list[str]:
        return self.log.last_lines()

    async def _until_ready(
        self, child: asyncio.subprocess.Process, ready: re.Pattern[str]
    ) -> re.Match[str]:
        try:
            async with asyncio.timeout(READY_WITHIN):
                while (announced := ready.search(self.log.text())) is None:
                    if child.returncode is not None:
                        raise self._failure(process.ending(child.returncode))
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise self._failure(f"it was not ready within {READY_WITHIN:g} s") from None
        return announced

    def _failure(self, how: str) -> StackError:
        shown = "".join(f"\n  {line}" for line in self.last_words())
        return StackError(
            f"{self.name} did not start: {how}. Its log is {self.log.path}{':' if shown else ''}"
            f"{shown}"
        )
