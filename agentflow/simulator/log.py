"""What the simulator was asked and what became of it: the request log and its counters."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

import msgspec

_KEPT: Final = 20_000
"""Entries the log holds; older ones are forgotten, the counters are not."""

PROMPT_SHOWN: Final = 200
"""Characters of the prompt that an entry keeps."""


class Entry(msgspec.Struct):
    """One request to the API.

    `at` is Unix time; `seconds` is None while the request is in flight. `status` is None when the
    client got no head. `output_tokens` are those produced before the end, or before the client
    `disconnected`.
    """

    number: int
    at: float
    method: str
    path: str
    request_id: str
    model: str = ""
    prompt: str = ""
    stream: bool = False
    status: int | None = None
    fault: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    disconnected: bool = False
    seconds: float | None = None


class Stats(msgspec.Struct):
    """The answer of GET /_fake/stats. `requests` and the log leave `/_fake/` itself out."""

    requests: int
    in_flight: int
    max_in_flight: int
    connections: int
    connections_total: int
    disconnects: int
    paths: dict[str, int]
    outcomes: dict[str, int]
    input_tokens: int
    output_tokens: int
    script_steps: int
    cpu_seconds: float
    uptime_seconds: float
    log: list[Entry]


class RequestLog:
    """Entries and counters, and a way to wait for them to change."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.connections = 0
        self.connections_total = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self.in_flight = 0
        self.clear()

    def clear(self) -> None:
        """Forgets all but what is open: connections and requests in flight."""
        self.entries: deque[Entry] = deque(maxlen=_KEPT)
        self.requests = 0
        self.max_in_flight = self.in_flight
        self.disconnects = 0
        self.paths: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.input_tokens = 0
        self.output_tokens = 0
        self._cpu_start = time.process_time()
        self._start = self._clock()

    def opened(self, method: str, path: str, request_id: str) -> Entry:
        """A request came in."""
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.paths[f"{method} {path}"] += 1
        entry = Entry(self.requests, time.time(), method, path, request_id)
        self.entries.append(entry)
        self._changed()
        return entry

    def closed(self, entry: Entry, *, seconds: float, disconnected: bool) -> None:
        """The request is over."""
        self.in_flight -= 1
        entry.seconds = round(seconds, 6)
        entry.disconnected = disconnected
        self.disconnects += disconnected
        self.outcomes[entry.fault or str(entry.status)] += 1
        self.input_tokens += entry.input_tokens
        self.output_tokens += entry.output_tokens
        self._changed()

    def connected(self, change: int) -> None:
        """A connection opened (1) or closed (-1)."""
        self.connections += change
        self.connections_total += change > 0
        self._changed()

    def stats(self, *, script_steps: int, last: int | None = None) -> Stats:
        """Everything, with the `last` entries or all."""
        entries = list(self.entries)
        return Stats(
            requests=self.requests,
            in_flight=self.in_flight,
            max_in_flight=self.max_in_flight,
            connections=self.connections,
            connections_total=self.connections_total,
            disconnects=self.disconnects,
            paths=dict(self.paths),
            outcomes=dict(self.outcomes),
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            script_steps=script_steps,
            cpu_seconds=round(time.process_time() - self._cpu_start, 6),
            uptime_seconds=round(self._clock() - self._start, 6),
            log=entries if last is None else entries[max(0, len(entries) - last) :],
        )

    async def wait_for(self, condition: Callable[[], bool], timeout: float) -> None:
        """Returns when the condition holds, tested at each change.

        Raises TimeoutError after `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            while not condition():
                change = asyncio.get_running_loop().create_future()
                self._waiting.add(change)
                try:
                    await change
                finally:
                    self._waiting.discard(change)

    def _changed(self) -> None:
        for change in self._waiting:
            if not change.done():
                change.set_result(None)
