"""How a part notices that the process which started it has died.

A killed parent tells nobody. So it holds the write end of a pipe, each of its children the read
end: when the parent ends, however it ends, the kernel closes the last write end and the children
read an end of file. That works on every POSIX system, and for a child that is stuck as well, since
a thread of its own does the reading.
"""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from typing import Final

PARENT_FD: Final = "AGENTFLOW_PARENT_FD"
STOP_WITHIN: Final = 60.0
"""Seconds that an orphan has for its orderly stop: enough to finish or hand back its tasks."""


class Lifeline:
    """The parent's side: children started with `fd` passed on and `environment` set watch it."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()

    @property
    def environment(self) -> dict[str, str]:
        return {PARENT_FD: str(self.fd)}

    @property
    def hold(self) -> int:
        """To be passed on to whoever needs the children: they live as long as one holds it."""
        return self._write

    def close(self) -> None:
        """Let go of the children: those that still live stop."""
        os.close(self._write)
        os.close(self.fd)


def stop_with_parent(within: float = STOP_WITHIN) -> bool:
    """The child's side, to be called once at its start: SIGTERM to itself when the parent dies.

    So an orphan stops in the same order as on any other SIGTERM; what still runs after `within`
    seconds is killed. Returns whether there is a parent to watch.
    """
    fd = inherited_end()
    if fd is not None:
        stop_at_end_of(fd, within)
    return fd is not None


def inherited_end() -> int | None:
    """The read end that the parent gave us, to be asked for once; None without such a parent."""
    # Taken out of the environment: in a grandchild the number would name some other file.
    text = os.environ.pop(PARENT_FD, "")
    if not text.isdigit():
        return None
    fd = int(text)
    try:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            return None
    except OSError:
        return None
    os.set_inheritable(fd, False)
    return fd


def stop_at_end_of(fd: int, within: float = STOP_WITHIN) -> None:
    """As `stop_with_parent`, for a read end that one has already."""
    threading.Thread(target=_watch, args=(fd, within), name="parent", daemon=True).start()


def _watch(fd: int, within: float) -> None:
    while os.read(fd, 64):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(within)
    # Parts lead a process group, in which their own children end with them.
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
