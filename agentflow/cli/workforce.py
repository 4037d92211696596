"""What workers, and the commands that start some, share: slots, queues, handlers, limits."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from agentflow.cli import apps

if TYPE_CHECKING:
    from agentflow.rules.routes.clock import Limits

R = TypeVar("R")

_LIMITS: Final = (
    ("rpm", "requests", "Requests"),
    ("itpm", "input", "Input tokens"),
    ("otpm", "output", "Output tokens"),
)
SLOTS: Final = click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="Tasks at once in each worker.",
)
QUEUES: Final = click.option(
    "--queues", default="default", show_default=True, help="Queues to serve, separated by commas."
)
LEASE: Final = click.option(
    "--lease",
    type=click.FloatRange(0.5, 3600),
    help="Seconds a task stays with a silent worker. [default: 15, or what the consumers have]",
)
"""Those that `up` and `worker` share; `run` has the first of them too."""


def _isolate(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    """Workers learn it by their environment, as those do that are started later."""
    if wanted:
        os.environ["AGENTFLOW_ISOLATE"] = "1"


ISOLATE: Final = click.option(
    "--isolate",
    is_flag=True,
    expose_value=False,
    callback=_isolate,
    help="Run kind claude-cli under bubblewrap, with no network but the API.",
)


def _redact(context: click.Context, option: click.Parameter, file: str | None) -> None:
    if file:
        os.environ["AGENTFLOW_REDACT"] = os.path.abspath(file)


REDACT: Final = click.option(
    "--redaction",
    metavar="FILE",
    expose_value=False,
    callback=_redact,
    help="Strike out of records what the regular expressions in this file find, one a line.",
)


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
        REDACT,
        ISOLATE,
    ):
        function = option(function)
    return function


def separated(text: str) -> list[str]:
    """Names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def chosen(app: str | None, kinds: str | None) -> list[str]:
    """The kinds to name to a worker; none where its own default will do. Raises UsageError.

    The workers of such a stack are all there are, so they run an app's kinds and ours.
    """
    if app is not None:
        apps.split(app)
    named = separated(kinds or "")
    return named or (["all"] if app else [])


def limit_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add --rpm, --itpm and --otpm; `limits_of` takes them out again."""
    for name, _, what in reversed(_LIMITS):
        option = click.option(
            f"--{name}",
            type=click.FloatRange(min=0, min_open=True, max=1e12),
            metavar="N",
            help=f"{what} a minute for each model family, where answers tell no limits, or more.",
        )
        function = option(function)
    return function


def limits_of(options: dict[str, Any]) -> Limits:
    """The limits that workers are started with."""
    from agentflow.rules.routes.clock import Limits

    return Limits(**{axis: options.pop(name) for name, axis, _ in _LIMITS})
