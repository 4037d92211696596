"""What master, worker, gateway and dashboard feed have in common.

An actor has a name, a mailbox, a heartbeat, named background tasks that are restarted when they
fail, and an orderly stop in steps. It is used by composition: a role makes an `Actor`, tells it how
to describe itself and what to do with a control message, and lists its steps of stopping.

    actor = Actor(connection, role="worker", describe=..., receive=...)
    await actor.start()
    actor.background("renewals", worker.renew_forever)
    actor.on_stop("pulling", puller.stop)
    await actor.run()            # until SIGTERM, SIGINT, SIGHUP or stop()

The name is unique per process start: records name it, and a process that comes back is another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from agentflow import forks
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.errors import AgentFlowError, NotConnected, ServerTooOld
from agentflow.protocol import control, limits, subjects
from agentflow.protocol.control import Control, Heartbeat
from agentflow.protocol.identity import actor_identity
from agentflow.protocol.server import new_enough, too_old
from agentflow.version import __version__

_log = logging.getLogger(__name__)

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
RESTART_MIN: Final = 0.2
RESTART_MAX: Final = 10.0

Receive = Callable[[Control], "Control | Awaitable[Control | None] | None"]


def actor_name(name: str | None = None) -> str:
    """A name for this process start, fit for one subject token."""
    base = name or socket.gethostname().split(".")[0]
    clean = re.sub(r"[^A-Za-z0-9_-]", "-", base)[:40] or "host"
    return actor_identity(clean, os.getpid(), secrets.token_hex(3))


def memory_in_use() -> int | None:
    """Resident bytes of this process, None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class Actor:
    """One process's presence on the bus."""

    def __init__(
        self,
        connection: Connection,
        *,
        role: str,
        name: str | None = None,
        describe: Callable[[], dict[str, Any]] = dict,
        receive: Receive | None = None,
        heartbeat: float = limits.HEARTBEAT,
    ) -> None:
        self.connection = connection
        self.role = role
        self.name = actor_name(name)
        self.label = name or self.name
        self.started = datetime.now(UTC)
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        """Set by a second signal: stop without waiting for what runs."""
        self._describe = describe
        self._receive = receive
        self._every = heartbeat
        self._steps: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Open the mailbox and begin to send heartbeats.

        Raises ServerTooOld where what the server says could be another's word.
        """
        version = str(self.connection.server.get("version", "unknown"))
        if not new_enough(version):
            shown = self.connection.options.shown
            raise ServerTooOld(too_old(f"{version} at {shown}"))
        for subject in (subjects.control(self.role, self.name), subjects.control(self.role)):
            await self.connection.subscribe(subject, self._mail)
        self.background("heartbeat", self._beat)

    def background(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` until the actor stops; when it fails it is started again, with backoff."""
        self._tasks[name] = asyncio.get_running_loop().create_task(
            self._supervise(name, work), name=f"{self.role} {name}"
        )

    def on_stop(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        """Add a step of stopping; they run in the order added."""
        self._steps.append((name, step))

    def stop(self) -> None:
        """Ask the actor to stop; a second time, to hurry."""
        if self.stopping.is_set():
            self.hurry.set()
        self.stopping.set()

    def heed_signals(self) -> None:
        """Take SIGTERM, SIGINT and SIGHUP for the word to stop. Until then they end the process at
        once, so this comes before it holds anything that others would have to wait for."""
        loop = asyncio.get_running_loop()
        heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in heard:  # nohup ignores SIGHUP
            loop.add_signal_handler(number, self.stop)
        forks.forget_in_children(heard)

    async def run(self) -> None:
        """Wait for the word to stop (a signal, `stop`), then stop in steps."""
        self.heed_signals()
        await self.stopping.wait()
        await self.close()

    async def close(self) -> None:
        """Stop in steps; a step that fails is logged and does not keep the next from running."""
        self.stopping.set()
        self.beat()
        for name, step in self._steps:
            try:
                await step()
            except Exception:
                _log.exception("stopping %s: %s failed", self.name, name)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self.beat(last=True)

    # The inside.

    def heartbeat(self, *, last: bool = False) -> Heartbeat:
        """How this actor is, now. The last one announces no next."""
        common: dict[str, Any] = {
            "role": self.role,
            "actor": self.name,
            "name": self.label,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "started": self.started,
            "time": datetime.now(UTC),
            "interval_s": 0.0 if last else self._every,
            "stopping": self.stopping.is_set(),
            "rss_bytes": memory_in_use(),
        }
        return msgspec.structs.replace(Heartbeat(**common), **self._describe())

    def beat(self, *, last: bool = False) -> None:
        """Send a heartbeat now; without a connection nobody hears it anyway."""
        try:
            self.connection.publish(
                subjects.presence(self.role, self.name), control.encode(self.heartbeat(last=last))
            )
        except NotConnected:
            _log.debug("no heartbeat without a connection")

    async def _beat(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(self._every)

    async def _supervise(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        pause = RESTART_MIN
        while True:
            try:
                await work()
                return
            except AgentFlowError as error:
                _log.warning("%s: %s: %s", self.name, name, error)
            except Exception:
                _log.exception("%s: %s failed; it is started again", self.name, name)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_MAX)

    def _mail(self, message: Message) -> None:
        received = control.decode(message.data)
        if received is None or self._receive is None:
            return
        answer = self._receive(received)
        if isinstance(answer, Awaitable):
            task = asyncio.get_running_loop().create_task(self._answer_later(answer, message.reply))
            self._tasks[f"mail {id(task)}"] = task
            task.add_done_callback(lambda done: self._tasks.pop(f"mail {id(done)}", None))
        else:
            self._answer(answer, message.reply)

    async def _answer_later(self, answer: Awaitable[Control | None], reply: str) -> None:
        self._answer(await answer, reply)

    def _answer(self, answer: Control | None, reply: str) -> None:
        if answer is None or not reply:
            return
        try:
            self.connection.publish(reply, control.encode(answer))
        except NotConnected:
            _log.debug("an answer could not be sent")
