"""What a process weighs together with all that it started: PSS and CPU time."""

from __future__ import annotations

import psutil


def processes(pid: int) -> list[psutil.Process]:
    """The process and its descendants; none when it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def pss_mb(pid: int) -> float | None:
    """Megabytes of the tree, a page shared by n processes counted as 1/n; None where the system
    does not tell."""
    total = 0
    for process in processes(pid):
        try:
            found = getattr(process.memory_full_info(), "pss", None)
        except psutil.NoSuchProcess:
            continue
        if found is None:
            return None
        total += found
    return round(total / 2**20, 1)


def cpu_s(pid: int) -> float:
    """Seconds of CPU that the living processes of the tree have used so far."""
    total = 0.0
    for process in processes(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
