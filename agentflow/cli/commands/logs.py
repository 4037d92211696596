"""`agentflow logs`: what the parts of a local stack have logged, in one place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from agentflow.cli.options import json_option
from agentflow.cli.reached import simulate_option

if TYPE_CHECKING:
    from agentflow.views.entries import Entry


@click.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written, until Ctrl-C.")
@click.option("--task", metavar="ID", help="Only what names this task.")
@click.option(
    "--level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="debug",
    help="Only what is at least so grave. [default: debug]",
)
@click.option("--part", metavar="NAME", help="Only this part: master, worker-1, nats-server, ...")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="How many of those that are there.",
)
@click.option("--store", metavar="DIR", help="The stack's directory. [AGENTFLOW_STORE]")
@simulate_option
@json_option
def command(
    follow: bool,
    task: str | None,
    level: str,
    part: str | None,
    lines: int,
    store: str | None,
    simulate: bool,
    as_json: bool,
) -> None:
    """Show what a local stack's server, master and workers have logged, by time.

    The stack need not run. `agentflow up --log-level debug` logs each attempt. What runs elsewhere
    logs to its own stderr.
    """
    from agentflow.config import local_url, store_dir
    from agentflow.errors import UsageError
    from agentflow.local.logs import StackLogs
    from agentflow.views.entries import wanted

    folder = store_dir(store, simulate=simulate) / "logs"
    if not folder.is_dir() and not store and local_url() is not None:
        folder = store_dir(simulate=True) / "logs"
    if not folder.is_dir():
        raise UsageError(f"there are no logs in {folder.parent}; name another store: --store")
    logs = StackLogs(folder)

    def chosen(found: Iterable[Entry]) -> Iterable[Entry]:
        for entry in found:
            if wanted(entry, task, level.upper()) and part in (None, entry.part):
                yield entry

    there = list(chosen(logs.read()))
    for entry in there[len(there) - min(lines, len(there)) :]:
        _show(entry, as_json)
    if follow:
        for entry in chosen(logs.follow()):
            _show(entry, as_json)


def _show(entry: Entry, as_json: bool) -> None:
    from agentflow.cli import output

    if as_json:
        output.show_json(entry)
        return
    instant = entry.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    output.show(f"{instant} {entry.level:<7} {entry.part}: {entry.text}")
