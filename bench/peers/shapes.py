"""The three shapes of work, and the check that nothing is lost or run twice.

    latency   one task at a time, from submit to its result in the client's hand
    noop      as many as the window allows under way, until `tasks` or `seconds` are reached
    sleep     `sleepers` tasks that sleep, submitted at once

Each task has a number of its own and returns it; the worker writes it to a file when it runs. A
client prints one JSON object a shape. Standard library only: this runs beside every queue.

A queue whose client waits without asking again and again is driven by `pushed`; one that polls by
`polled`, which waits for the oldest first, so that most results are found at the first look; one
without asyncio by `blocking`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

H = TypeVar("H")

TEXT = "Summarise this paragraph in one sentence. " * 4
"""What each task carries."""
WARM_UP = 20
PATIENCE = 60.0
"""Seconds to wait for one result, the worker's start-up included."""
SUBMITTING = 64
"""Submissions at once, where each waits for the broker's answer."""
WAITING = 16
"""Results waited for at once, the oldest, where waiting means asking again."""


@dataclass(frozen=True)
class Load:
    """How much of each shape; `seconds` ends the no-op and the latency shape early."""

    tasks: int
    singles: int
    sleepers: int
    window: int
    seconds: float
    nap: float


def url(scheme: str) -> str:
    """The broker's address; two brokers are told apart by what their addresses begin with."""
    return next(
        address for address in os.environ["BENCH_URL"].split() if address.startswith(scheme)
    )


def setting() -> str:
    """Which of the queue's settings is measured: a name of the catalogue."""
    return os.environ["BENCH_SETTING"]


def load_of_client() -> Load:
    """The load this client is to put on."""
    return Load(**json.loads(os.environ["BENCH_LOAD"]))


def environment(url: str, setting: str, runs: str, load: Load) -> dict[str, str]:
    """What worker and client read above."""
    return {
        "BENCH_URL": url,
        "BENCH_SETTING": setting,
        "BENCH_RUNS": runs,
        "BENCH_LOAD": json.dumps(asdict(load)),
    }


_file: list[tuple[int, int]] = []


def ran(number: int) -> int:
    """To be called by each run of a task; many processes append to one file."""
    pid = os.getpid()
    if not _file or _file[0][0] != pid:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        _file[:] = [(pid, os.open(os.environ["BENCH_RUNS"], flags, 0o600))]
    os.write(_file[0][1], b"%d\n" % number)
    return number


def report(shape: str, **figures: Any) -> None:
    """One shape's figures, at once."""
    print(json.dumps({"shape": shape, **figures}), flush=True)


class Check:
    """Whether exactly the submitted numbers came back."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._open: set[int] = set()

    def take(self) -> int:
        """A new task's number."""
        number = next(self._numbers)
        self._open.add(number)
        return number

    def back(self, number: int) -> None:
        """A result; raises KeyError for one that nobody waits for."""
        self._open.remove(number)

    def done(self) -> int:
        """How many were submitted. Raises RuntimeError when a result is missing."""
        if self._open:
            raise RuntimeError(f"{len(self._open)} results did not come back")
        return next(self._numbers)


class Feed:
    """Numbers to submit, until there were enough of them or the time is over."""

    def __init__(self, check: Check, most: int, seconds: float) -> None:
        self.count = 0
        self._check = check
        self._most = most
        self._end = time.perf_counter() + seconds

    def __iter__(self) -> Iterator[int]:
        while self.count < self._most and time.perf_counter() < self._end:
            self.count += 1
            yield self._check.take()


def spread(times: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds, from seconds."""
    cuts = statistics.quantiles(times, n=100)
    return {"p50_ms": round(cuts[49] * 1000, 3), "p99_ms": round(cuts[98] * 1000, 3)}


Many = Callable[[Iterable[int], int, float], Awaitable[None]]
"""Runs numbers, at most so many under way, each sleeping so long."""


async def measure(check: Check, one: Callable[[int], Awaitable[None]], many: Many) -> None:
    """The three shapes. `one` and `many` tell `check` of each result."""
    load = load_of_client()
    for _ in range(WARM_UP):
        await one(check.take())
    times = []
    for number in Feed(check, load.singles, load.seconds):
        began = time.perf_counter()
        await one(number)
        times.append(time.perf_counter() - began)
    report("latency", tasks=len(times), **spread(times))
    feed = Feed(check, load.tasks, load.seconds)
    began = time.perf_counter()
    await many(feed, load.window, 0.0)
    report("noop", tasks=feed.count, seconds=time.perf_counter() - began)
    if load.sleepers:
        feed = Feed(check, load.sleepers, 60.0)
        began = time.perf_counter()
        await many(feed, load.sleepers, load.nap)
        report("sleep", tasks=feed.count, seconds=time.perf_counter() - began)
    report("end", submitted=check.done())


async def pushed(call: Callable[[int, float], Awaitable[int]]) -> None:
    """`call(number, nap)` submits a task and returns its result."""
    check = Check()

    async def one(number: int, nap: float = 0.0) -> None:
        check.back(await call(number, nap))

    async def many(numbers: Iterable[int], window: int, nap: float) -> None:
        source = iter(numbers)

        async def slot() -> None:
            for number in source:
                await one(number, nap)

        await asyncio.gather(*(slot() for _ in range(window)))

    await measure(check, one, many)


async def polled(
    submit: Callable[[int, float], Awaitable[H]],
    wait: Callable[[H, bool], Awaitable[int]],
) -> None:
    """`wait(handle, alone)` asks for a result until it is there; alone it may ask often."""
    check = Check()

    async def one(number: int) -> None:
        check.back(await wait(await submit(number, 0.0), True))

    async def many(numbers: Iterable[int], window: int, nap: float) -> None:
        source = iter(numbers)
        room = asyncio.Semaphore(window)
        handles: asyncio.Queue[H | None] = asyncio.Queue()

        async def submitting() -> None:
            while True:
                await room.acquire()
                number = next(source, None)
                if number is None:
                    room.release()
                    return
                await handles.put(await submit(number, nap))

        async def waiting() -> None:
            while (handle := await handles.get()) is not None:
                check.back(await wait(handle, False))
                room.release()

        waiters = [asyncio.create_task(waiting()) for _ in range(WAITING)]
        await asyncio.gather(*(submitting() for _ in range(min(SUBMITTING, window))))
        for _ in waiters:
            await handles.put(None)
        await asyncio.gather(*waiters)

    await measure(check, one, many)


def blocking(submit: Callable[[int, float], H], wait: Callable[[H], int]) -> None:
    """`wait(handle)` blocks until a result is there."""
    check = Check()

    async def one(number: int) -> None:
        check.back(wait(submit(number, 0.0)))

    async def many(numbers: Iterable[int], window: int, nap: float) -> None:
        handles: deque[H] = deque()
        for number in numbers:
            handles.append(submit(number, nap))
            if len(handles) == window:
                check.back(wait(handles.popleft()))
        while handles:
            check.back(wait(handles.popleft()))

    asyncio.run(measure(check, one, many))
