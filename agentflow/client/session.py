"""An open connection, and the one process and event loop in which it works.

Whatever stands on it holds the session and asks it for `js`, `log` or `connection` at each use. So
whoever uses a client where nothing would ever be answered is told at once, in one sentence: after
its end, in a fork (whose socket is the parent's), in another event loop (whose turns wake nobody).
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import Callable
from typing import Self

from agentflow.actor import actor_name
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.config import Connect
from agentflow.errors import NotConnected, UsageError
from agentflow.log.task import TaskLog
from agentflow.telemetry import tracing

_forks = 0
"""How many forks this process is away from its ancestor. To ask for its id is a system call, and
each submission would pay for some."""


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)


def orderer() -> str:
    """Who gives an order here: user and host."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "somebody"
    return f"{name}@{socket.gethostname().split('.')[0]}"


class Session:
    """What a client has while it is open."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._js = JetStream(connection)
        self._log = TaskLog(self._js, name)
        self._process = os.getpid()
        self._forks = _forks
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.spans = tracing.found()
        """What traces its submissions, if anything does."""
        self._at_close: list[Callable[[], None]] = []

    @classmethod
    async def open(cls, options: Connect, timeout: float) -> Self:
        """Connect. Raises NotConnected, PermissionDenied."""
        name = actor_name("client")
        return cls(await Connection.open(options, name, timeout), name)

    async def close(self) -> None:
        """Write what is buffered and disconnect. In a fork it does nothing: socket and selector are
        shared with the parent, which goes on."""
        if self._closed or self._forks != _forks:
            return
        self.check()
        self._closed = True
        for end in self._at_close:
            end()
        await self._connection.close()

    def at_close(self, end: Callable[[], None]) -> None:
        """Have `end` called before the connection closes."""
        self._at_close.append(end)

    @property
    def usable(self) -> bool:
        """Whether it works here."""
        try:
            self.check()
        except (NotConnected, UsageError):
            return False
        return True

    def check(self) -> None:
        """Raise NotConnected or UsageError where it does not work."""
        if self._closed:
            raise closed()
        if self._forks != _forks:
            raise forked(self._process)
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self._loop:
            raise UsageError(
                "this client belongs to the event loop that opened it; connect again in the one "
                "that uses it, or use agentflow.sync"
            )

    @property
    def connection(self) -> Connection:
        """The connection. This and the others raise as `check` does."""
        self.check()
        return self._connection

    @property
    def js(self) -> JetStream:
        """JetStream on it."""
        self.check()
        return self._js

    @property
    def log(self) -> TaskLog:
        """The logs of tasks, with the client as their actor."""
        self.check()
        return self._log


def closed() -> NotConnected:
    """The error of who uses a client after its end."""
    return NotConnected("this client is closed; connect again")


def forked(process: int) -> UsageError:
    """The error of who uses a client in a fork of the process that opened it."""
    return UsageError(
        f"this client was opened in process {process}, of which this one is a fork; connect again "
        "in each process"
    )
