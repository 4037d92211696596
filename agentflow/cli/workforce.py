"""Options of the commands that start workers of their own: how many processes, whose handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from agentflow.cli import apps

R = TypeVar("R")


def workforce_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add --processes, --app and --kinds; `chosen` reads the last two."""
    for option in (
        click.option(
            "--kinds",
            metavar="KIND,...",
            help="Kinds that the workers run. [default: ours, and those of --app]",
        ),
        click.option(
            "--app", metavar="MODULE:APP", help="Your own handlers, as for `agentflow worker`."
        ),
        click.option(
            "--processes",
            type=click.IntRange(1, 256),
            metavar="N",
            help="Processes of each worker, each with --concurrency slots; they share memory.",
        ),
    ):
        function = option(function)
    return function


def chosen(app: str | None, kinds: str | None) -> list[str]:
    """The kinds to name to a worker; none where its own default will do. Raises UsageError.

    The workers of such a stack are all there are, so they run an app's kinds and ours.
    """
    if app is not None:
        apps.split(app)
    named = [kind.strip() for kind in (kinds or "").split(",") if kind.strip()]
    return named or (["all"] if app else [])
