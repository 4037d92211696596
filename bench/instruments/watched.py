"""CPU time and memory of running programs, each with the processes that it started."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

from bench.instruments import memory, tree


class Watched:
    """CPU seconds and memory of some processes and their children."""

    def __init__(self, **pids: tuple[int, ...]) -> None:
        self._pids = pids
        self._before = self._cpu()

    def _family(self, name: str) -> list[psutil.Process]:
        all_of_them = []
        for pid in self._pids[name]:
            family = tree.processes(pid)
            # This process started all the others, too.
            all_of_them += family[:1] if pid == os.getpid() else family
        return all_of_them

    def _cpu(self) -> dict[str, float]:
        used = dict.fromkeys(self._pids, 0.0)
        for name in self._pids:
            for process in self._family(name):
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    used[name] += times.user + times.system
        return used

    def cpu_since(self) -> dict[str, float]:
        """CPU seconds of each since the last call."""
        before, self._before = self._before, self._cpu()
        return {name: round(now - before[name], 2) for name, now in self._before.items()}

    def memory(self) -> dict[str, float]:
        """Megabytes of each, a page that n processes share counted as 1/n."""
        return {
            name: round(
                sum(memory.memory_of(process.pid)["pss_mb"] or 0.0 for process in family), 1
            )
            for name in self._pids
            if (family := self._family(name))
        }
