"""`agentflow tui`: the dashboard, and one picture of it for scripts.

The terminal library is imported only where a terminal is drawn on: `--once` prints what the same
model says, without it.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, resolve
from agentflow.errors import UsageError

if TYPE_CHECKING:
    from agentflow.client import Client
    from agentflow.dashboard.store.store import Store
    from agentflow_tui.settings import Settings

THEMES: Final = ("auto", "dark", "light", "ansi", "none")
VIEWS: Final = ("overview", "tasks", "workers", "queues", "costs", "dead", "events")
WIDTH: Final = 120
HEIGHT: Final = 36


@click.command("tui")
@click.option(
    "--view", type=click.Choice(VIEWS), default=VIEWS[0], show_default=True, help="View to open."
)
@click.option("--readonly", is_flag=True, help="Show everything, change nothing.")
@click.option("--once", is_flag=True, help="Print one picture and end; no terminal is needed.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "json")),
    help="With --once: for people or for programs. [default: text]",
)
@click.option(
    "--width", type=click.IntRange(20, 1_000), help=f"With --once: columns. [default: {WIDTH}]"
)
@click.option(
    "--height", type=click.IntRange(5, 10_000), help=f"With --once: lines. [default: {HEIGHT}]"
)
@click.option(
    "--at",
    metavar="TIME",
    help="With --once: as it was at 14:05, 2026-11-30 14:05, or -10m.",
)
@click.option("--utc", is_flag=True, help="Times in UTC. [default: in this machine's zone]")
@click.option("--demo", is_flag=True, help="On a simulated stack of its own, which ends with it.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep what is shown in a file.",
)
@click.option(
    "--replay",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Show such a file again; needs no server.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    help="With --replay: seconds of the recording in one. [default: 1]",
)
@click.option("--ascii", is_flag=True, help="Draw with letters and signs of ASCII only.")
@click.option(
    "--theme", type=click.Choice(THEMES), help="Colours. [default: as the terminal has them]"
)
@connection_options
def command(
    view: str,
    readonly: bool,
    once: bool,
    form: str | None,
    width: int | None,
    height: int | None,
    at: str | None,
    utc: bool,
    demo: bool,
    record: Path | None,
    replay: Path | None,
    speed: float | None,
    ascii: bool,
    theme: str | None,
    **connection: str | None,
) -> None:
    """Open the dashboard: what runs, what it costs, and what needs you.

    It needs no master, and any number of dashboards cost the master nothing.
    """
    _check(
        (replay and demo, "--replay shows a recording, --demo a stack: give one of them"),
        (replay and record, "--replay and --record: a recording is there already"),
        (speed and not replay, "--speed belongs to --replay"),
        (once and (record or replay), "--once prints what is now: without --record and --replay"),
        (not once and (form or width or height), "--format, --width and --height belong to --once"),
        (at and not once, "--at belongs to --once; in the dashboard t goes to another time"),
        (demo and any(connection.values()), "--demo has a server of its own: leave out where"),
    )
    with contextlib.ExitStack() as stack:
        if demo:
            from agentflow.local.demo import Demo

            click.echo("starting a stack that is SIMULATED ...", err=True)
            connection = {"nats": stack.enter_context(Demo()).url}
        settings = _settings(
            connection,
            view=view,
            readonly=readonly or replay is not None,
            record=record,
            replay=replay,
            speed=speed or 1.0,
            theme=theme or "",
            ascii=ascii,
            utc=utc,
            simulated=demo,
        )
        if once:
            picture = _once(settings, form or "text", width or WIDTH, height or HEIGHT, at)
            options.run_async(picture)
        else:
            _check((not sys.stdout.isatty(), "this is no terminal; `agentflow tui --once` prints"))
            # Half a second that --once does without.
            importlib.import_module("agentflow_tui.app").run(settings)


def _check(*rules: tuple[object, str]) -> None:
    for broken, text in rules:
        if broken:
            raise UsageError(text)


def _settings(connection: dict[str, str | None], **chosen: Any) -> Settings:
    from agentflow_tui.settings import Settings

    return Settings(connect=resolve(connection), **chosen)


async def _once(settings: Settings, form: str, width: int, height: int, at: str | None) -> None:
    from agentflow.cli import output
    from agentflow.client import Client
    from agentflow.dashboard.store.store import Store

    render = importlib.import_module("agentflow.dashboard.once").render
    store, travelled, to = Store(), None, 0.0
    async with Client(settings.connect) as client:
        items = await client.snapshot(newest=settings.newest)
        for item in items:
            store.apply(item)
        if at is not None:
            travelled, to = await _past(client, store, at)
    text = render(
        store,
        travelled=travelled,
        travelled_to=to,
        utc=settings.utc,
        view=settings.view,
        format=form,
        width=width,
        height=height,
        ascii=settings.ascii,
        now=max(item.at for item in items),
    )
    output.show(text)


async def _past(client: Client, store: Store, at: str) -> tuple[Store, float]:
    """The picture of another time, and when exactly that is. Raises UsageError."""
    from agentflow.dashboard.feed.travel import Travelling
    from agentflow.dashboard.reader.effects import Travel
    from agentflow.dashboard.reader.reader import Reader
    from agentflow.dashboard.screen.typed import instant

    now = store.heard
    to = instant(at, now)
    if to is None:
        raise UsageError(f"--at {at[:40]!r} is no time; give 14:05, 2026-11-30 14:05 or -10m")
    reader = Reader(store=store)
    await Travelling(client, reader, lambda: now).go(Travel(to=to))
    if reader.travelled is None:
        why = reader.notice.text if reader.notice is not None else "nothing is kept of it"
        raise UsageError(f"--at {at[:40]}: {why}")
    return reader.travelled, reader.travelled_to
