"""A run of Claude Code in namespaces of its own, made by bubblewrap.

It sees the system's programs, read-only, and its workspace; it has its own processes, /tmp and
loopback. It does not see other homes, the store and its password, other workspaces, or the worker.
Its network is the outlet. What it has all the same: the key, in its environment, which Claude Code
needs; and the kernel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from agentflow.errors import StackError
from agentflow.handlers.claude_cli import inside
from agentflow.handlers.claude_cli.outlet import SOCKET

SETTING: Final = "AGENTFLOW_ISOLATE"
FOLDER: Final = "/run/agentflow"
"""Of ours, as a run sees it."""
TRIED_WITHIN: Final = 20.0

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SETTINGS: Final = tuple(
    f"/etc/{name}"
    for name in (
        *("ssl", "pki", "ca-certificates", "alternatives", "ld.so.cache", "ld.so.conf"),
        *("ld.so.conf.d", "passwd", "group", "nsswitch.conf", "hosts", "localtime", "mime.types"),
    )
)


class Isolation:
    """How runs are wrapped. Raises StackError where bubblewrap is not there or may do nothing."""

    def __init__(self, environ: Mapping[str, str], program: str) -> None:
        self._program = program
        found = shutil.which("bwrap", path=environ.get("PATH"))
        if found is None:
            raise StackError(
                f"{SETTING} is set and bubblewrap is not there; install it (apt install "
                "bubblewrap), or run the worker in a container of its own without"
            )
        self._bwrap = found
        self._try()

    def _try(self) -> None:
        """In a container, or where the kernel allows users no namespaces, it cannot be."""
        command = [self._bwrap, *_namespaces(), *self._seen(), "--", "/usr/bin/env", "true"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TRIED_WITHIN)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StackError(f"{SETTING} is set and bubblewrap does not run: {error}") from None
        if done.returncode:
            raise StackError(
                f"{SETTING} is set and bubblewrap cannot isolate here: {done.stderr.strip()[:300]}."
                " The kernel must allow this user namespaces (in Docker: --security-opt "
                "seccomp=unconfined); or give the worker a container of its own, without"
            )

    def wrapped(
        self, command: Sequence[str], *, workspace: Path, work: Path, outlet: Path, variable: str
    ) -> list[str]:
        """The command for `command` in its own namespaces; its first word is the program."""
        program, *arguments = command
        python = os.path.realpath(sys.executable)
        return [
            self._bwrap,
            *_namespaces(),
            *self._seen(),
            *("--bind", str(workspace), str(workspace)),
            *("--ro-bind", str(outlet), FOLDER),
            *("--ro-bind", inside.__file__, "/run/inside.py"),
            *("--chdir", str(work)),
            "--",
            *(python, "-I", "-S", "/run/inside.py", f"{FOLDER}/{SOCKET}", variable),
            *(os.path.realpath(program), *arguments),
        ]

    def _seen(self) -> Iterator[str]:
        """What of the machine is there, read-only."""
        for path in _SYSTEM:
            if os.path.islink(path):
                yield from ("--symlink", os.readlink(path), path)
            elif os.path.isdir(path):
                yield from ("--ro-bind", path, path)
        for path in _SETTINGS:
            yield from ("--ro-bind-try", path, path)
        for path in (sys.base_prefix, *_homes(self._program)):
            if not path.startswith("/usr/"):
                yield from ("--ro-bind-try", path, path)


def _namespaces() -> tuple[str, ...]:
    return (
        *("--unshare-all", "--die-with-parent", "--cap-drop", "ALL"),
        *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"),
    )


def _homes(program: str) -> Iterator[str]:
    """The folders that the program, and node where that runs it, are installed in."""
    for each in (program, shutil.which("node") or ""):
        if each:
            real = Path(each).resolve()
            modules = [parent for parent in real.parents if parent.name == "node_modules"]
            yield str(modules[-1] if modules else real.parent)
