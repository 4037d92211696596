"""A message that was delivered very often may be what kills the process that parses it.

The number alone proves nothing: hand-backs, outages and naks for an upgrade are deliveries too. So
a process of its own parses the message first (`python -m agentflow.worker.suspect`), and only where
that dies or does not end is the message called deadly. One at a time: there may be thousands of
them after a long outage, each costs a start of Python, and the worker has other tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import Final

import msgspec

from agentflow.bus.wire.message import Delivered
from agentflow.errors import InvalidTask
from agentflow.protocol import limits
from agentflow.protocol import task as tasks
from agentflow.protocol.subjects import Priority

_log = logging.getLogger(__name__)

COMMAND: Final = (sys.executable, "-P", "-m", "agentflow.worker.suspect")
WITHIN: Final = 20.0
"""Seconds in which even the largest message is parsed on a loaded machine."""


class Suspects:
    """Tries messages that were delivered too often."""

    def __init__(self) -> None:
        self._one = asyncio.Semaphore(1)

    async def deadly(self, delivered: Delivered) -> bool:
        """Whether parsing this message kills the process that does it. Raises OSError."""
        if delivered.delivered <= limits.MAX_DELIVERIES:
            return False
        message = delivered.message
        if tasks.missing_abilities(message.headers):
            return False  # nobody parses it here
        async with self._one:
            died = await _dies(msgspec.msgpack.encode((message.headers, message.data)))
        _log.warning(
            "message %s was delivered %d times; parsing it %s",
            delivered.identity,
            delivered.delivered,
            "kills a process: it fails" if died else "does no harm: it is taken",
        )
        return died


async def _dies(packed: bytes) -> bool:
    child = await asyncio.create_subprocess_exec(
        *COMMAND, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(WITHIN):
            await child.communicate(packed)
    except TimeoutError:
        return True
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    return child.returncode != 0


def parse(packed: bytes) -> None:
    """What a worker does with a message before its claim; a task that is none is no harm."""
    headers, data = msgspec.msgpack.decode(packed, type=tuple[dict[str, str], bytes])
    with contextlib.suppress(InvalidTask):
        body = tasks.parse_body(data, headers)
        task_id = tasks.task_id(headers, body, "suspect", 0, 0)
        tasks.build(body, headers, "suspect", Priority.NORMAL, task_id)


if __name__ == "__main__":
    parse(sys.stdin.buffer.read())
