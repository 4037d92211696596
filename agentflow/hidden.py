"""A process that holds secrets keeps them from other processes of the same user.

Whoever is the same user may read another process's environment and memory, and what an agent of
kind `claude-cli` starts is the same user. Linux forbids it for a process that is not "dumpable":
then only root may. It leaves no core dump either. Elsewhere nothing is done.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Final

_SET_DUMPABLE: Final = 4


def hide() -> None:
    """Let nobody but root read this process; forks are as it is, programs it starts are not."""
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)
