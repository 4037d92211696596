"""Several worker processes under one parent, which forks them after the expensive imports.

The parent imports, freezes what it has from the collector, and forks: its children share those
pages. It has no thread, no loop and no connection, so a fork copies nothing half-done. It does
nothing but wait: for signals, for its children, and for the end of whoever started it.

A child tells through a pipe that it serves, or why it cannot. One that crashes is replaced, later
and later; too many crashes of one place in a short time end everything with StackError. One that
ends in order without being asked by the parent was drained by somebody, and is not replaced.

SIGTERM and SIGINT are passed on once, and so is a second one; the parent ends after its children.
SIGHUP loads new code: the parent executes its own command anew and keeps its process id, its
children and what it knows of them (in CHILDREN); then, place by place, a new child is forked, and
when it serves, the old one is asked to finish. Where the new code does not start, the old children
go on.

A child that loses its parent reads an end of file on the lifeline, and stops in order.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from agentflow.errors import AgentFlowError, StackError
from agentflow.worker import orderly
from agentflow.worker.children import (
    READY,
    RESTARTS,
    SIGNALS,
    Child,
    ChildPlace,
    Work,
    become_child,
    ended,
    ending,
    in_order,
    refusal,
    send,
    serve,
)

_log = logging.getLogger(__name__)

CHILDREN: Final = "AGENTFLOW_CHILDREN"
SLACK: Final = 20.0
"""Seconds beyond its grace in which a child writes what it hands back; then it is killed."""
HURRIED: Final = 10.0


class _Kept(msgspec.Struct):
    """What the parent keeps when it executes itself."""

    parent: int
    lifeline: tuple[int, int]
    outer: int | None
    watcher: int | None
    places: list[list[tuple[int, bool]]]
    drained: list[int]


class Parent:
    """Keeps `processes` children at `work`. `outer` reads an end of file when our own parent dies;
    `watch` is the body of a process that sends SIGHUP to this one."""

    def __init__(
        self,
        processes: int,
        work: Work,
        *,
        grace: float,
        outer: int | None = None,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        self._places = [ChildPlace(number) for number in range(processes)]
        self._work = work
        self._grace = grace
        self._watch = watch
        self._outer = outer
        self._watcher: int | None = None
        self._stopping = 0
        self._kill_at = 0.0
        self._failure: AgentFlowError | None = None
        self._served = False
        self._rolling = False
        self._terminal = os.isatty(2)
        self._lifeline = (-1, -1)
        self._wake = (-1, -1)

    def run(self) -> None:
        """Return when all children have ended in order. Raises AgentFlowError."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._adopt()
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        before = {number: signal.signal(number, _heard) for number in SIGNALS}
        signal.set_wakeup_fd(self._wake[1])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            if self._watch is not None and self._watcher is None:
                self._watcher = self._fork(self._watch)
            # Children inherit what is here; a collection in one of them must not copy its pages.
            gc.collect()
            gc.freeze()
            while self._turn():
                self._wait()
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._end_watcher()
            for fd in (*self._lifeline, *self._wake):
                os.close(fd)
        if self._failure is not None:
            raise self._failure

    # One turn.

    def _turn(self) -> bool:
        """Do what is due; False when there is nothing left to do."""
        self._reap()
        if self._stopping:
            if self._kill_at and time.monotonic() > self._kill_at:
                for child in self._children():
                    _log.warning("worker process %d does not end and is killed", child.pid)
                    send(child.pid, signal.SIGKILL)
                self._kill_at = 0.0
            return any(True for _ in self._children())
        turn = next((place for place in self._places if place.old), None) if self._rolling else None
        if self._rolling and turn is None:
            self._rolling = False
            _log.info("all worker processes run the new code")
        for place in self._places:
            if self._stopping:
                break
            if place is turn and place.child is not None and place.child.ready:
                for old in place.old:
                    self._ask(old)
            due = not place.old or place is turn
            if place.child is None and not place.drained and due and place.after <= _now():
                self._start(place)
        return bool(self._stopping) or any(p.all or not p.drained for p in self._places)

    def _wait(self) -> None:
        """Until something happens."""
        times = [self._kill_at] if self._stopping and self._kill_at else []
        if not self._stopping:
            times += [
                place.after
                for place in self._places
                if place.child is None and not place.drained and place.after > _now()
            ]
        pipes = {child.pipe: child for child in self._children() if child.pipe is not None}
        fds: list[int] = [self._wake[0], *pipes]
        if self._outer is not None:
            fds.append(self._outer)
        timeout = max(0.0, min(times) - _now()) + 0.01 if times else None
        readable, _, _ = select.select(fds, [], [], timeout)
        for fd in readable:
            if fd == self._wake[0]:
                for number in os.read(fd, 4096):
                    self._signalled(number)
            elif fd == self._outer:
                if not os.read(fd, 64):
                    os.close(fd)
                    self._outer = None
                    _log.info("the process that started this one is gone")
                    self._stop()
            elif fd in pipes:
                self._listen(pipes[fd])

    def _signalled(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP and not self._stopping:
            if self._terminal and not os.isatty(2):
                self._stop()  # nobody asks for new code: the terminal was closed
            else:
                self._again()

    # Children.

    def _children(self) -> Iterator[Child]:
        for place in self._places:
            yield from place.all

    def _start(self, place: ChildPlace) -> None:
        read, write = os.pipe()

        def body(lifeline: int) -> None:
            os.close(read)
            serve(self._work, place.number, lifeline, write)

        try:
            pid = self._fork(body)
        except OSError as error:
            os.close(read)
            os.close(write)
            self._crashed(place, 0.0, f"a worker process could not be started: {error}")
            return
        os.close(write)
        os.set_blocking(read, False)
        place.child = Child(pid, since=_now(), pipe=read)

    def _fork(self, body: Callable[[int], None]) -> int:
        """A child that does `body`, given the lifeline, and ends with it; its process id."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # A signal for the child before it is itself would be taken for one to the parent.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            raise
        if pid == 0:
            close = [self._lifeline[1], *self._wake, self._outer]
            close += [child.pipe for child in self._children()]
            become_child(lambda: body(self._lifeline[0]), close)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return pid

    def _listen(self, child: Child) -> None:
        """Read what a child tells; all of it, as it may have ended."""
        while child.pipe is not None:
            try:
                data = os.read(child.pipe, 65_536)
            except BlockingIOError:
                return
            child.said += data
            if not data or child.said == READY:
                os.close(child.pipe)
                child.pipe = None
                if child.said == READY:
                    child.ready = self._served = True
                    if self._stopping and not child.asked:
                        self._ask(child)

    def _ask(self, child: Child) -> None:
        """To stop; once."""
        if not child.asked:
            child.asked = True
            send(child.pid, signal.SIGTERM)

    def _reap(self) -> None:
        for place in self._places:
            for child in place.all:
                status = ended(child.pid)
                if status is not None:
                    self._listen(child)
                    if child.pipe is not None:
                        os.close(child.pipe)
                    self._gone(place, child, status)
        if self._watcher is not None and ended(self._watcher) is not None:
            self._watcher = None
            _log.warning("files are watched no more; SIGHUP still loads new code")

    def _gone(self, place: ChildPlace, child: Child, status: int) -> None:
        new = child is place.child
        if new:
            place.child = None
        else:
            place.old.remove(child)
        what = ending(status)
        if child.asked or self._stopping:
            if not in_order(status) and child.ready:
                _log.warning("worker process %d was to stop and %s", child.pid, what)
            return
        if in_order(status):
            _log.info("worker process %d was drained and is not replaced", child.pid)
            place.drained = True
            return
        refused = refusal(child.said)
        if refused is not None:
            what = f"cannot serve: {refused.error}"
        if new and place.old and not child.ready:
            # It was to replace one that serves: better old code than none.
            self._rolling = False
            place.after = _now()
            _log.error("the new code does not start; the old worker processes go on. One %s", what)
        elif refused is not None and not self._served:
            self._failure = StackError(refused.error)
            self._failure.exit_code = refused.code
            self._stop()
        elif refused is not None and refused.passing:
            place.after = _now() + place.restarts.later()
        else:
            self._crashed(place, _now() - child.since, f"worker process {child.pid} {what}")

    def _crashed(self, place: ChildPlace, ran_for: float, what: str) -> None:
        delay = place.restarts.crashed(now=_now(), ran_for=ran_for)
        if delay is not None:
            _log.error("%s; another one starts in %.1f s", what, delay)
            place.after = _now() + delay
            return
        _log.error("%s", what)
        self._failure = StackError(
            f"{RESTARTS.crashes} worker processes crashed one after the other within "
            f"{RESTARTS.window:g} s, so all were stopped. The last time: {what}."
        )
        self._stop()

    # Stopping, and beginning anew.

    def _stop(self) -> None:
        """Ask all children, once more for each further call."""
        self._stopping += 1
        grace = self._grace + SLACK if self._stopping == 1 else HURRIED
        self._kill_at = min(self._kill_at or float("inf"), _now() + grace)
        for child in self._children():
            if self._stopping == 1:
                self._ask(child)
            else:
                send(child.pid, signal.SIGTERM)

    def _again(self) -> None:
        """Execute our own command anew; returns only when that is impossible."""
        _log.info("loading new code; then one worker process after the other is replaced")
        kept = _Kept(
            os.getpid(),
            self._lifeline,
            self._outer,
            self._watcher,
            [[(child.pid, child.asked) for child in place.all] for place in self._places],
            [place.number for place in self._places if place.drained],
        )
        files = [*self._lifeline, *([] if self._outer is None else [self._outer])]
        # Blocked signals stay so, and wait, until the new program can hear them.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        os.environ[CHILDREN] = msgspec.json.encode(kept).decode()
        os.environ.update(orderly.environment())
        for fd in files:
            os.set_inheritable(fd, True)
        with contextlib.suppress(OSError):
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        try:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        except OSError as error:
            _log.error("new code cannot be loaded: %s", error)
        for fd in files:
            os.set_inheritable(fd, False)
        del os.environ[CHILDREN]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _adopt(self) -> None:
        """Take over what was kept for us, if this is not the first start."""
        kept = _kept()
        if kept is None:
            self._lifeline = os.pipe()
            return
        self._lifeline, self._outer, self._watcher = kept.lifeline, kept.outer, kept.watcher
        for fd in (*self._lifeline, *([] if self._outer is None else [self._outer])):
            os.set_inheritable(fd, False)
        self._served = self._rolling = True
        for place, known in zip(self._places, kept.places, strict=True):
            place.old = [Child(pid, since=_now(), asked=asked, ready=True) for pid, asked in known]
            place.drained = place.number in kept.drained
        if self._watcher is not None and self._watch is None:
            self._end_watcher()

    def _end_watcher(self) -> None:
        if self._watcher is not None:
            send(self._watcher, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._watcher, 0)
            self._watcher = None


def _now() -> float:
    return time.monotonic()


def _heard(number: int, frame: Any) -> None:
    """The number is in the pipe; without a handler it would not be."""


def _kept() -> _Kept | None:
    # Taken out of the environment: in anybody else's the numbers would name other things.
    text = os.environ.pop(CHILDREN, "")
    try:
        kept = msgspec.json.decode(text, type=_Kept)
    except msgspec.DecodeError:
        return None
    return kept if kept.parent == os.getpid() else None
