"""What a design must say of itself to be measured beside the others."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

ROOT: Final = Path(__file__).resolve().parents[3]
TOOLS: Final = ROOT / ".tools"
BUILT: Final = ROOT / ".bench"
WORKERS: Final = ROOT / "bench" / "workers"
QUEUE: Final = "default"
INSTALL: Final = "run `bench/workers/install`"


class Site(msgspec.Struct, frozen=True):
    """Where a worker works: its server, its API, a folder of its own, the CLI if there is one."""

    nats: str
    api: str
    folder: Path
    cli: str | None


class Size(msgspec.Struct, frozen=True):
    """Megabytes on disk: what the design brings, and the interpreter that it needs."""

    own_mb: float
    interpreter_mb: float
    what: str


class Design(msgspec.Struct, frozen=True, kw_only=True):
    """A worker design: how it is started, what it is asked, and what bounds it.

    `command` gives the worker's arguments for slots and processes; it takes tasks of `kind` from
    QUEUE. `orders` instead means that it is driven over stdin, without a queue. `missing` says why
    it cannot be measured here.
    """

    name: str
    title: str
    text: str
    kind: str
    command: Callable[[Site, int, int], list[str]]
    missing: Callable[[str | None], str | None]
    versions: Callable[[str | None], dict[str, str]]
    size: Callable[[str | None], Size | None]
    params: Mapping[str, Any] | None = None
    environment: Callable[[Site], dict[str, str]] = lambda site: {}
    runs_cli: bool = False
    stays: bool = False
    """Whether its CLI processes stay, so that each has to be started before the load."""
    prefork: bool = False
    """Whether it has several processes, and so runs the loads of many processes too."""
    orders: bool = False
    alternative: bool = False
    """A variant of the row above it, for one load only."""

    @property
    def warm_all(self) -> bool:
        """Whether every slot is warmed up, or one task is enough."""
        return not self.runs_cli or self.stays


def agentflow(*arguments: str) -> list[str]:
    """AgentFlow's own command in this Python."""
    return [sys.executable, "-m", "agentflow", *arguments]


def worker(site: Site, slots: int, processes: int, *what: str) -> list[str]:
    """AgentFlow's worker."""
    several = ["--processes", str(processes)] if processes > 1 else []
    return agentflow("worker", *what, "--nats", site.nats, "-c", str(slots), *several)


def nothing_missing(_: str | None) -> str | None:
    """What needs nothing but this Python."""
    return None


def cli_missing(cli: str | None) -> str | None:
    """Why there is no Claude Code."""
    return None if cli else "Claude Code is not here: run `make tools`, or name it with --cli"


def program(path: Path | str) -> str | None:
    """The path of a program, where it can be run."""
    return str(path) if os.access(path, os.X_OK) else None


def find_cli(named: str | None) -> str | None:
    """The Claude Code to use: the named one, the one of `make tools`, the one in PATH."""
    if named is not None:
        return shutil.which(named)
    return program(TOOLS / "node_modules" / ".bin" / "claude") or shutil.which("claude")
