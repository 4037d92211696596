"""What a process weighs together with all that it started: PSS, CPU time, and both over time.

    python -m bench.instruments.tree PID   a line of JSON a look at the tree, until told to stop

The looks are a process of their own: a hundred /proc files read in the client's process would be
measured as the queue's latency.
"""

from __future__ import annotations

import asyncio
import select
import signal
import sys
import time
from typing import Final

import msgspec
import psutil

EVERY: Final = 0.2
"""Seconds between two looks, at least."""
SHARE: Final = 0.1
"""Of one core that looking may take, so that what looks does not become what is seen."""


class Look(msgspec.Struct):
    """A tree at an instant: `at` is monotonic seconds, PSS is None where the system has none."""

    at: float
    pss_mb: float | None
    processes: int


def processes(pid: int) -> list[psutil.Process]:
    """The process and its descendants; none when it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def look(pid: int) -> Look:
    """The tree now; a page shared by n processes counts as 1/n."""
    total, count, known = 0, 0, True
    for process in processes(pid):
        try:
            pss = getattr(process.memory_full_info(), "pss", None)
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
        count += 1
        known = known and pss is not None
        total += pss or 0
    return Look(time.monotonic(), round(total / 2**20, 1) if known else None, count)


def pss_mb(pid: int) -> float | None:
    """Megabytes of the tree; None where the system does not tell."""
    return look(pid).pss_mb


def cpu_s(pid: int) -> float:
    """Seconds of CPU that the tree has used so far, those of its ended processes included.

    What a process has used goes over to the parent that waited for it, so runs that lived between
    two looks are counted whole; only one that outlived its parent is lost.
    """
    total = 0.0
    for process in processes(pid):
        try:
            times = process.cpu_times()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        total += times.user + times.system
        total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


class Sampler:
    """Looks at a tree while it is open; `looks` holds what was seen afterwards."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.looks: list[Look] = []

    async def __aenter__(self) -> Sampler:
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.instruments.tree", str(self._pid)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._child.stdout is not None
        await self._child.stdout.readline()  # it is there, and has looked once
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        lines = await self._child.stdout.read()
        await self._child.wait()
        self.looks = [msgspec.json.decode(line, type=Look) for line in lines.splitlines()]


def main(pid: int) -> None:
    """Print looks until stdin ends, and a last one."""
    # Ctrl-C reaches us too, and the looks so far are wanted. A dead parent ends stdin as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended = False
    while not ended:
        began = time.monotonic()
        print(msgspec.json.encode(look(pid)).decode(), flush=True)
        cost = time.monotonic() - began
        ended = bool(select.select([sys.stdin], [], [], max(EVERY, cost / SHARE))[0])
    print(msgspec.json.encode(look(pid)).decode(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
