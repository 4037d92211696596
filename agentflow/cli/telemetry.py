"""Options of the processes that stay: how they log, and where their metrics are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

R = TypeVar("R")

METRICS_ENV: Final = "AGENTFLOW_METRICS"


class Address(click.ParamType[tuple[str, int]]):
    """`PORT` on this machine alone, or `HOST:PORT`."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        text = str(value).strip()
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
            self.fail(f"{text!r} is not a PORT or HOST:PORT", param, ctx)
        return host or "127.0.0.1", int(port)


_LOG: Final = (
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        help="Lines for people or for machines. [default: text]",
    ),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        help="debug has a line for each attempt. [default: info]",
    ),
    click.option(
        "--log-file",
        metavar="FILE",
        help="Append the log to a file; - is stdout. [default: stderr]",
    ),
)


def metrics_option(help_text: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Add --metrics."""
    return click.option(
        "--metrics",
        type=Address(),
        envvar=METRICS_ENV,
        metavar="[HOST:]PORT",
        help=help_text,
    )


def log_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --log-format, --log-level and --log-file; `start_log` takes them out again."""
    for option in reversed(_LOG):
        function = option(function)
    return function


def log_environment(options: dict[str, Any]) -> dict[str, str]:
    """What is wanted of the log, for child processes. Raises UsageError."""
    from agentflow.telemetry import logs

    return _settings(options, logs.settings).environment()


def start_log(options: dict[str, Any]) -> None:
    """Log as wanted from here on. Raises UsageError."""
    from agentflow.telemetry import logs

    logs.set_up(_settings(options, logs.settings))


def _settings(options: dict[str, Any], make: Callable[..., R]) -> R:
    taken: Mapping[str, Any] = {
        name: options.pop(f"log_{name}") for name in ("format", "level", "file")
    }
    return make(**taken)


def shown(address: tuple[str, int]) -> str:
    """An address as --metrics takes it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
