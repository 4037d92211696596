"""Options that several commands share, and how a command runs its coroutine."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
import msgspec

from agentflow.config import Connect, connect_options, located

if TYPE_CHECKING:
    from agentflow.client import Client

R = TypeVar("R")
T = TypeVar("T")


_CONNECTION = (
    click.option(
        "--nats", metavar="URL", help="NATS server; else AGENTFLOW_NATS, the local stack."
    ),
    click.option("--context", metavar="NAME", help="A context of the nats CLI."),
    click.option("--creds", metavar="FILE", help="Credentials file."),
    click.option(
        "--user", metavar="NAME", help="User; the password comes from AGENTFLOW_PASSWORD."
    ),
    click.option("--tls-ca", metavar="FILE", help="Certificate authority of the server."),
    click.option("--tls-cert", metavar="FILE", help="Client certificate."),
    click.option("--tls-key", metavar="FILE", help="Its key."),
    click.option(
        "--inbox-prefix", metavar="SUBJECT", help="Where answers arrive, e.g. _INBOX.worker."
    ),
)
_STORE = click.option(
    "--store", metavar="DIR", help="Directory of the local stack; else AGENTFLOW_STORE."
)


class Dollars(click.ParamType[float]):
    """An amount of money that can be a limit, as a float of USD."""

    name = "USD"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The amount; anything else is wrong usage."""
        from agentflow.rules.routes import budgets

        try:
            dollars = float(value)
        except ValueError:
            dollars = 0.0
        if budgets.micro_of(dollars) is None:
            self.fail(f"{value!r} is no amount of dollars above 0, such as 2.50", param, ctx)
        return dollars


def connection_options(
    function: Callable[..., R] | None = None, *, store: bool = True
) -> Callable[..., Any]:
    """Add the connection options; the command gets them as keywords, for `resolve`.

    `store=False` leaves out --store, for a command that has its own.
    """
    if function is None:
        return functools.partial(connection_options, store=store)
    command: Callable[..., Any] = function
    for option in reversed((*_CONNECTION, _STORE) if store else _CONNECTION):
        command = option(command)
    return command


def resolve(connection: Mapping[str, str | None], *, local: bool = True) -> Connect:
    """Where to connect and as whom. Raises UsageError.

    Where nothing names a server, the local stack's URL is filled in, else the default one; with
    `local=False` the URLs stay empty.
    """
    named: dict[str, Any] = dict(connection)
    store = named.pop("store", None)
    options = connect_options(**named)
    return located(options, store) if local else options


def client(connection: Mapping[str, str | None], *, patience: float = 5.0) -> Client:
    """A client for the options given, not yet connected."""
    from agentflow.client import Client

    return Client(resolve(connection), patience=patience)


def reached(connection: Mapping[str, str | None], *, patience: float = 5.0) -> Client:
    """`client`, or where AGENTFLOW_URL names a gateway and no option a server, one by that.

    For commands that need no more than a gateway has: submit, get, list, watch, cancel.
    """
    url = os.environ.get("AGENTFLOW_URL")
    if not url or any(value for value in connection.values()):
        return client(connection, patience=patience)
    from agentflow.remote.client import RemoteClient

    # What these commands call, it has.
    return cast("Client", RemoteClient(url, patience=patience))


def json_option(function: Callable[..., R]) -> Callable[..., R]:
    """Add --json."""
    help_text = "JSON lines on stdout, nothing else."
    return click.option("--json", "as_json", is_flag=True, help=help_text)(function)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine. Logging stays silent: the command itself says what is wrong."""
    import logging

    if os.environ.get("AGENTFLOW_DEBUG"):
        logging.basicConfig(level=logging.DEBUG)
    else:
        logging.getLogger().addHandler(logging.NullHandler())
    from agentflow.telemetry import tracing

    with tracing.command():
        return asyncio.run(work)


def labels(pairs: tuple[str, ...]) -> dict[str, str]:
    """`k=v` pairs as a dict of texts."""
    values: dict[str, str] = {}
    for pair in pairs:
        name, text = _pair(pair, "--label", values)
        values[name] = text
    return values


def job_option(function: Callable[..., R]) -> Callable[..., R]:
    """Add --job."""
    help_text = "Only tasks of this job (`agentflow jobs`)."
    return click.option("--job", metavar="JOB", help=help_text)(function)


def query_option(function: Callable[..., R]) -> Callable[..., R]:
    """Add --query."""
    help_text = "Only what this finds, as the dashboard's filter: 'cost>0.1 !kind:echo'."
    return click.option("--query", "-Q", metavar="TEXT", help=help_text)(function)


async def with_job(open_client: Client, label: dict[str, str], job: str | None) -> dict[str, str]:
    """The labels that tasks must have, that of a job among them. Raises UsageError."""
    if job is None:
        return label
    from agentflow.client import Client
    from agentflow.protocol import jobs

    if not isinstance(open_client, Client):  # by a gateway, where an id is whole
        return {**label, jobs.LABEL: job}
    return {**label, jobs.LABEL: (await open_client.operate.jobs.find(job)).id}


def parameters(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`k=v` pairs; a value that is JSON is taken as such, any other as text."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, text = _pair(pair, "--param", values)
        try:
            values[name] = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            values[name] = text
    return values


def _pair(text: str, option: str, before: Mapping[str, object]) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not of the form name=value", param_hint=option)
    if name in before:
        raise click.BadParameter(f"{name!r} is given twice; keep one of them", param_hint=option)
    return name, value


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Duration(click.ParamType[float]):
    """Seconds: `90`, `90s`, `10m`, `2h`, `1d`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        text = str(value).strip()
        unit = _UNITS.get(text[-1:], 0.0)
        try:
            seconds = float(text[:-1]) * unit if unit else float(text)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < float("inf"):
            self.fail(f"{text!r} is not a duration such as 90, 90s, 10m, 2h or 1d", param, ctx)
        return seconds


class Patience(Duration):
    """A duration, or `never`, which is infinite."""

    name = "patience"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        return float("inf") if value == "never" else super().convert(value, param, ctx)
