"""Runs one command and ends with it all that it started. A program of its own, not a module.

    python -I -S guard.py LIFELINE GRACE COMMAND...

Claude Code gives each shell it starts a session of its own, and leaves it running when it is ended
itself; so neither its process group nor a SIGTERM to it reaches what an agent started. This process
stands between: on Linux it adopts whatever loses its parent, so everything stays below it and is
found there. It ends the command and all below when

- the command has ended: what is left over would work on in a folder that is taken away;
- LIFELINE, the read end of a pipe, is at its end: the worker wants it, or was killed;
- it gets SIGTERM.

First SIGTERM to all, after GRACE seconds SIGKILL. Its exit status is the command's. Elsewhere than
on Linux nobody adopts: what was started in a session of its own and lost its parent gets away.

It imports nothing of ours, and little else: it is started for each task and lives as long.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

SET_CHILD_SUBREAPER = 36
SET_DUMPABLE = 4
POLL = 0.02
GIVE_UP = 2.0
"""Seconds for dying of SIGKILL; what hangs in the kernel longer than that cannot be helped."""


def adopt() -> None:
    """Become the parent of orphans below, and let none of them read this process."""
    if sys.platform == "linux":
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        prctl(SET_DUMPABLE, 0, 0, 0, 0)


def parents() -> dict[int, int]:
    """Each process and its parent."""
    parent_of = {}
    if sys.platform == "linux":
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat", "rb") as file:
                        # The name in parentheses may hold anything, blanks and parentheses too.
                        parent_of[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
                except (OSError, IndexError):
                    continue  # it has ended meanwhile
        return parent_of
    import subprocess

    listed = subprocess.run(
        ["ps", "-axo", "pid=,ppid="], capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    for line in listed.stdout.splitlines():
        child, parent = line.split()
        parent_of[int(child)] = int(parent)
    return parent_of


def below(root: int, parent_of: dict[int, int]) -> list[int]:
    """The processes below `root`."""
    children: dict[int, list[int]] = {}
    for child, parent in parent_of.items():
        children.setdefault(parent, []).append(child)
    descendants: list[int] = []
    level = [root]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        descendants += level
    return descendants


def send(number: int) -> None:
    """Signal everything below."""
    for process in below(os.getpid(), parents()):
        try:
            os.kill(process, number)
        except (ProcessLookupError, PermissionError):
            continue


class Guard:
    """One command under guard."""

    def __init__(self, lifeline: int, grace: float) -> None:
        self.lifeline = lifeline
        self.grace = grace
        self.told = False
        self.command = 0
        self.status: int | None = None
        self.wake, write = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self.tell)

    def tell(self, *_: object) -> None:
        self.told = True

    def run(self, command: list[str]) -> int:
        try:
            self.command = os.posix_spawn(
                command[0],
                command,
                os.environ,
                # Python ignores them, and what is ignored stays so in the command.
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
            return 127
        # Its output ends when the command's does, not when this process does.
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        while self.status is None and not self.told:
            self.pause(None)
        if self.reap():
            self.end()
        return 128 + signal.SIGKILL if self.status is None else self.status

    def pause(self, within: float | None) -> None:
        """Wait for a signal or the end of the lifeline."""
        watched = [self.wake] if self.told else [self.wake, self.lifeline]
        ready, _, _ = select.select(watched, [], [], within)
        if self.wake in ready:
            os.read(self.wake, 512)
        if self.lifeline in ready and not os.read(self.lifeline, 64):
            self.told = True
        self.reap()

    def reap(self) -> bool:
        """Take note of what has ended; whether anything is left."""
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not ended:
                return True
            if ended == self.command:
                code = os.waitstatus_to_exitcode(status)
                self.status = code if code >= 0 else 128 - code

    def end(self) -> None:
        """End everything below."""
        send(signal.SIGTERM)
        send(signal.SIGCONT)  # what is stopped would not hear it
        self.told = True  # the lifeline may be at its end, and select would never sleep
        killing = time.monotonic() + self.grace
        while self.reap() and time.monotonic() < killing:
            self.pause(POLL)
        giving_up = time.monotonic() + GIVE_UP
        while self.reap() and time.monotonic() < giving_up:
            send(signal.SIGKILL)  # again and again: it may be starting others
            self.pause(POLL)


def main() -> None:
    lifeline, grace, *command = sys.argv[1:]
    os.set_inheritable(int(lifeline), False)
    adopt()
    status = Guard(int(lifeline), float(grace)).run(command)
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
