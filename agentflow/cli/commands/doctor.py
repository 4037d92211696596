"""`agentflow doctor`: is this machine ready, is the server, is anybody at work?

Every check says what it found in one sentence, and what to do where that is not well. The checks
are in machine.py and server.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from agentflow.cli import output
from agentflow.cli.checks import machine
from agentflow.cli.checks.check import Check, Status, worst
from agentflow.cli.options import connection_options, json_option, resolve, run_async
from agentflow.config import DEFAULT_URL, Connect, store_dir
from agentflow.errors import BusError
from agentflow.local.store import StackInfo, running
from agentflow.views.display import one_line

UNREACHABLE: Final = 3

_COLOURS: Final = {
    Status.OK: "green",
    Status.WARN: "yellow",
    Status.FAIL: "red",
    Status.UNKNOWN: "blue",
}


@click.command("doctor")
@click.option("--durable", is_flag=True, help="Fail unless what is acknowledged is on disk.")
@connection_options
@json_option
def command(durable: bool, as_json: bool, **connection: str | None) -> int:
    """Check this machine, the NATS server, and who is at work.

    Exits 0 when nothing fails (warnings are none), 1 when something does, 3 when NATS cannot be
    reached.
    """
    store = connection.get("store")
    checks, reached = run_async(_examine(resolve(connection), store, durable))
    if as_json:
        output.show_json({"worst": worst(checks), "checks": checks})
    else:
        for check in checks:
            _show(check)
    if not reached:
        return UNREACHABLE
    return 1 if any(check.status is Status.FAIL for check in checks) else 0


def _show(check: Check) -> None:
    mark = f"{check.status:<7}"
    if output.coloured():
        mark = click.style(mark, fg=_COLOURS[check.status])
    click.echo(f"{mark} {one_line(f'{check.name}: {check.text}')}")
    if check.remedy:
        click.echo(f"        {one_line(check.remedy)}")


async def _examine(options: Connect, store: str | None, durable: bool) -> tuple[list[Check], bool]:
    place, stack = _stack(options, store)
    here = asyncio.create_task(machine.all_of(stack))
    # Imported here: a machine without nats-py is one of the things to be found out.
    try:
        from agentflow.cli.checks import server
    except ImportError as error:
        text = f"the NATS client cannot be imported: {error}"
        return [*await here, Check("nats", Status.FAIL, text, "pip install agentflow-nats")], False
    try:
        monitor = stack.monitor if stack else None
        there, reached = await server.all_of(options, monitor, durable=durable)
    except BusError as error:
        there, reached = [Check("server", Status.FAIL, str(error))], False
    elsewhere = reached or options.urls != (DEFAULT_URL,)
    log = machine.log(place, stack, [] if elsewhere else _stores(store))
    return [*await here, log, *there], reached


def _stores(store: str | None) -> list[Path]:
    """Where a local stack of this user may be."""
    return list(dict.fromkeys((store_dir(store), store_dir(store, simulate=True))))


def _stack(options: Connect, store: str | None) -> tuple[Path | None, StackInfo | None]:
    """The local stack and its store, where it is what the options mean."""
    meant = {_listener(url) for url in options.urls}
    for folder in _stores(store):
        info = running(folder)
        if info is not None and _listener(info.url) in meant:
            return folder, info
    return None, None


def _listener(url: str) -> tuple[str, int]:
    """Host and port, however this machine is called."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        host = parts.hostname or ""
        return "127.0.0.1" if host in ("localhost", "::1") else host, parts.port or 4222
    return url, 0
