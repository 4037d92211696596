"""Facts about processes that the standard library does not tell on every system."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


def command_line(pid: int) -> list[str]:
    """The arguments of a process; empty when there is none, or only its remains."""
    if sys.platform == "linux":
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return []
        return [os.fsdecode(argument) for argument in raw.split(b"\0") if argument]
    listed = subprocess.run(
        ["ps", "-ww", "-o", "stat=,args=", "-p", str(pid)], capture_output=True, check=False
    )
    state, _, line = os.fsdecode(listed.stdout).strip().partition(" ")
    if not state or state.startswith("Z"):
        return []
    # Here the arguments are joined with blanks, which a path may contain. What we look for is the
    # last argument, after a flag.
    program, flag, last = line.strip().partition(" -c ")
    return [program, flag.strip(), last] if flag else [program]


def send(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signal a child of ours, if it still lives.

    Not by its own send_signal, which may take the exit status from under asyncio's eyes.
    """
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(child.pid, number)


def ending(returncode: int) -> str:
    """How a process ended, in words."""
    if returncode >= 0:
        return f"it ended with exit status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"it was ended by {name}"
