"""One worker process of several, as its parent sees it, and its first and last steps as a child."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

import msgspec

from agentflow.errors import AgentFlowError, NotConnected
from agentflow.rules.restarts import RestartPolicy, Restarts
from agentflow.worker import orderly

_log = logging.getLogger(__name__)

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
"""What the parent listens to, and a child must hear itself."""
RESTARTS: Final = RestartPolicy(first_delay=0.1, growth=3.0)
"""With too many crashes of one place everything ends."""

READY: Final = b"ready"
Ready = Callable[[], None]
Work = Callable[[int, int, Ready], None]
"""What a child does: given its place's number, its end of the lifeline, and what to call when it
serves."""


class Child(msgspec.Struct):
    """A process in a place."""

    pid: int
    since: float = 0.0
    asked: bool = False
    ready: bool = False
    pipe: int | None = None
    """Where it tells that it is ready, or why not."""
    said: bytes = b""


class ChildPlace(msgspec.Struct):
    """One of N: who works there, who is to make room, and how often it went wrong."""

    number: int
    child: Child | None = None
    old: list[Child] = []
    after: float = 0.0
    """No start before this."""
    restarts: Restarts = msgspec.field(default_factory=lambda: Restarts(RESTARTS))
    drained: bool = False

    @property
    def all(self) -> list[Child]:
        return [*self.old, *([self.child] if self.child else [])]


class Refused(msgspec.Struct):
    """Why a child cannot serve."""

    error: str
    code: int
    passing: bool = False
    """The server is away: neither the code nor the machine is to blame."""


def become_child(body: Callable[[], None], close: Iterable[int | None]) -> NoReturn:
    """What a fork does first: forget what is the parent's alone; then `body`, then end.

    Where `body` returns, with the status of an orderly end.
    """
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Ctrl-C in a terminal is for the parent, which passes it on once.
        os.setpgid(0, 0)
        for fd in close:
            if fd is not None:
                os.close(fd)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        body()
        code = orderly.STATUS
    except SystemExit as wish:
        code = wish.code if isinstance(wish.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        _log.exception("worker process %d ends", os.getpid())
    finally:
        # Not sys.exit(): what the parent has registered for its end is the parent's.
        with contextlib.suppress(Exception):
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        os._exit(code)


def serve(work: Work, number: int, lifeline: int, pipe: int) -> None:
    """Do the work; tell through `pipe` when it is begun, or why it cannot be."""

    def tell(data: bytes) -> None:
        # The parent may have executed itself meanwhile, and then listens no more.
        with contextlib.suppress(OSError):
            os.write(pipe, data)
            os.close(pipe)

    try:
        work(number, lifeline, lambda: tell(READY))
    except AgentFlowError as error:
        if os.environ.get("AGENTFLOW_DEBUG"):
            _log.exception("worker process %d ends", os.getpid())
        refused = Refused(str(error), error.exit_code, isinstance(error, NotConnected))
        tell(msgspec.json.encode(refused))
        raise SystemExit(error.exit_code) from error


def send(pid: int, number: int) -> None:
    """A signal, to a child that may have ended."""
    # Nobody else can have its number: it stays ours until it is waited for.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def ended(pid: int) -> int | None:
    """The status of a child that has ended; it is then gone."""
    try:
        waited_for, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return status if waited_for else None


def ending(status: int) -> str:
    """What a status of waitpid says, in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"was killed by {name}"
    code = os.waitstatus_to_exitcode(status)
    untold = " although nobody told it to stop (does a handler call exit?)" * (code == 0)
    return f"ended with exit code {code}{untold}"


def in_order(status: int) -> bool:
    """Whether it ended because it was told to."""
    return os.WIFEXITED(status) and os.waitstatus_to_exitcode(status) == orderly.STATUS


def refusal(said: bytes) -> Refused | None:
    """What a child told that could not serve."""
    try:
        return msgspec.json.decode(said, type=Refused)
    except msgspec.DecodeError:
        return None
