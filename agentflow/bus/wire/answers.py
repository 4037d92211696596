"""The answers that are awaited: one dict, and one sweep for all deadlines.

The sweep comes only while something is awaited: a hundred idle workers must not wake for nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from agentflow.bus.wire.message import Message
from agentflow.errors import BusError, NoAnswer, PermissionDenied

SWEEP_EVERY: Final = 0.1


class _Awaited:
    __slots__ = ("deadline", "future", "subject")

    def __init__(self, future: asyncio.Future[Message], subject: str, deadline: float) -> None:
        self.future = future
        self.subject = subject
        self.deadline = deadline

    def fail(self, error: BusError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # one nobody awaits any more is not a warning


class Answers:
    """Requests that were sent and not yet answered, by the subject of their answer."""

    def __init__(self) -> None:
        self._awaited: dict[str, _Awaited] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._awaited)

    def expect(self, key: str, subject: str, timeout: float) -> asyncio.Future[Message]:
        """A future for what arrives on `key`, the answer to a request on `subject`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Message] = loop.create_future()
        if self._sweeping is None:
            self._sweeping = loop.call_later(SWEEP_EVERY, self._sweep)
        self._awaited[key] = _Awaited(future, subject, time.monotonic() + timeout)
        return future

    def arrived(self, message: Message) -> None:
        """An answer."""
        awaited = self._awaited.pop(message.subject, None)
        if awaited is not None and not awaited.future.done():
            awaited.future.set_result(message)

    def _sweep(self) -> None:
        """Fail what is late, forget what was cancelled."""
        now = time.monotonic()
        over = [
            key
            for key, awaited in self._awaited.items()
            if awaited.deadline < now or awaited.future.done()
        ]
        for key in over:
            awaited = self._awaited.pop(key)
            awaited.fail(NoAnswer(f"no answer on {awaited.subject}"))
        self._sweeping = None
        if self._awaited:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP_EVERY, self._sweep)

    def fail(self, kind: type[BusError], text: str) -> None:
        """Fail all; each gets an error of its own, because raising one adds to its traceback."""
        awaited, self._awaited = self._awaited, {}
        for each in awaited.values():
            each.fail(kind(text))

    def deny(self, subject: str) -> bool:
        """Fail what the server refused, where it is known what that was; nats-py lower-cases it."""
        refused = [
            (key, awaited)
            for key, awaited in self._awaited.items()
            if subject in (awaited.subject.lower(), key.lower())
        ]
        if len({awaited.subject for _, awaited in refused}) > 1:
            return False
        for key, awaited in refused:
            del self._awaited[key]
            awaited.fail(PermissionDenied(f"this NATS user may not publish to {awaited.subject}"))
        return bool(refused)
