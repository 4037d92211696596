"""A client for the streams of a store, whether a stack runs on it or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import click

from agentflow.cli.options import resolve

if TYPE_CHECKING:
    from agentflow.client import Client

R = TypeVar("R")


def simulate_option(function: Callable[..., R]) -> Callable[..., R]:
    """Add --simulate, for the store that simulated jobs have by default."""
    help_text = "Where no stack runs: look at the store of simulated jobs."
    return click.option("--simulate", is_flag=True, help=help_text)(function)


@asynccontextmanager
async def reached(
    connection: Mapping[str, str | None], *, simulate: bool = False
) -> AsyncIterator[Client]:
    """A client that is connected. Where no server is named and no stack runs on the store, a server
    is started on it for as long. Raises UsageError where there is no such store."""
    from agentflow.client import Client
    from agentflow.config import local_url, store_dir
    from agentflow.errors import UsageError

    options = resolve(connection, local=False)
    store = connection.get("store")
    if options.urls or local_url(store) is not None:
        async with Client(resolve(connection)) as client:
            yield client
        return
    from agentflow.local.server import LocalServer

    folder = store_dir(store, simulate=simulate)
    if not (folder / "jetstream").is_dir():
        raise UsageError(f"no stack runs on {folder}, and none ever has; name another: --store")
    async with (
        LocalServer(folder, locked=not simulate) as server,
        Client(server.connect) as client,
    ):
        yield client
