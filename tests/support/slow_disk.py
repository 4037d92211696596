"""A disk that is slow for one process: strace delays each write to a file and each sync.

A slow disk proper needs device-mapper, which containers lack. What the process sees is the same:
its `pwrite`, `fsync` and `fdatasync` return late. Sockets are written by other calls and stay as
fast as ptrace lets them be.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Self

from tests.support import tools

CALLS = "pwrite64,fsync,fdatasync"


class SlowDisk:
    """Slow from `start` to `end`, or until the process is gone."""

    def __init__(self, pid: int, delay_s: float, log: Path) -> None:
        self._log = log
        delay = f"delay_enter={round(delay_s * 1e6)}"
        self._command = [
            str(tools.path("strace")),
            "-f",
            "-p",
            str(pid),
            "-o",
            str(log),
            "-e",
            f"trace={CALLS}",
        ]
        self._command += ["-e", f"inject={CALLS}:{delay}"]
        self._tracer: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """From now on."""
        self._tracer = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self

    @property
    def delayed(self) -> int:
        """How many calls it has held up."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return text.count("(DELAYED)")

    def end(self) -> None:
        """As fast as ever: the tracer lets go of the process."""
        if self._tracer is not None:
            self._tracer.terminate()
            self._tracer.wait(30)
            self._tracer = None
