"""`agentflow cache`: the answers that `agentflow run --cache` keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import click

from agentflow.bus.streams.cache import Cache, CacheStats
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.cli import output
from agentflow.cli.options import connection_options, json_option, resolve, run_async
from agentflow.protocol import limits

R = TypeVar("R")


@click.group("cache")
def command() -> None:
    """Show, bound or prune the answers that `agentflow run --cache` keeps."""


@command.command("stats")
@connection_options
@json_option
def stats(as_json: bool, **connection: str | None) -> None:
    """Show how many answers the cache holds, and how large it may become."""
    held = run_async(_with(connection, Cache.stats))
    if as_json:
        output.show_json(held or CacheStats(0, 0, 0, None, None))
    elif held is None:
        output.show("There is no cache; `agentflow run --cache DAYS` makes one.")
    else:
        output.show(
            f"{held.answers:,} answers, {held.bytes / limits.MIB:,.1f} of "
            f"{held.max_bytes / limits.MIB:,.0f} MiB"
        )
        if held.oldest is not None and held.newest is not None:
            output.show(f"stored from {held.oldest:%Y-%m-%d %H:%M} to {held.newest:%Y-%m-%d %H:%M}")


@command.command("create")
@click.option(
    "--max-mib",
    type=click.IntRange(1, 1_000_000),
    default=limits.CACHE_BYTES // limits.MIB,
    show_default=True,
    help="What it may hold; the oldest answers go first.",
)
@connection_options
def create(max_mib: int, **connection: str | None) -> None:
    """Make the cache, or change what it may hold."""
    run_async(_with(connection, lambda cache: cache.resize(max_mib * limits.MIB)))
    output.show(f"The cache holds up to {max_mib:,} MiB.")


@command.command("prune")
@click.option(
    "--older-than",
    type=click.IntRange(min=0),
    metavar="DAYS",
    help="Only the answers stored before that. [default: all]",
)
@connection_options
def prune(older_than: int | None, **connection: str | None) -> None:
    """Remove answers from the cache."""
    before = None if older_than is None else datetime.now(UTC) - timedelta(days=older_than)
    removed = run_async(_with(connection, lambda cache: cache.prune(before)))
    output.show(f"{removed:,} answers removed.")


async def _with(connection: dict[str, str | None], work: Callable[[Cache], Awaitable[R]]) -> R:
    async with await Connection.open(resolve(connection), "agentflow cache") as opened:
        return await work(Cache(JetStream(opened)))
