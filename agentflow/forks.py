"""What a process that somebody's code forks must forget: how its parent hears signals.

asyncio has the numbers of signals written into a socket, which a forked child shares. Ending a
child of multiprocessing with SIGTERM then stops the worker, and the child lives on.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from typing import Final

_masks: Final[dict[int, set[int | signal.Signals]]] = {}
"""By thread, which has the same number in the child: what was blocked before its fork."""
_forgotten: Final[set[signal.Signals]] = set()


def forget_in_children(numbers: Iterable[signal.Signals]) -> None:
    """From here on, forked children hear these signals as any new process does."""
    if not _forgotten:
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
    _forgotten.update(numbers)


def _before() -> None:
    # Between the fork and the forgetting a signal to the child would still reach the parent.
    _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _forgotten)


def _in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(threading.get_ident()))


def _in_child() -> None:
    signal.set_wakeup_fd(-1)
    for number in _forgotten:
        # What was ignored before we listened (nohup) is ours to ignore no more than theirs.
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    if signal.SIGINT in _forgotten:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    mask = _masks.pop(threading.get_ident())
    _masks.clear()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
