"""The simulator: a listening socket in front of the API, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from agentflow.simulator import control
from agentflow.simulator.api import Api
from agentflow.simulator.batches import Batches
from agentflow.simulator.connection import Connection, Exchange
from agentflow.simulator.http import ProtocolError, Request
from agentflow.simulator.knobs import Knobs, Layer, as_layer
from agentflow.simulator.log import RequestLog, Stats
from agentflow.simulator.reply import Reply
from agentflow.simulator.script import Script, check

HOST: Final = "127.0.0.1"
"""Never another: whoever reaches the simulator controls it."""

_PENDING: Final = 1024


class Simulator:
    """A Messages API on a port of 127.0.0.1.

    `knobs` are the server default. `clock` gives monotonic seconds to rate limits and durations;
    a test that hands in its own moves time without waiting. Delays of answers follow the loop.

        async with Simulator(Knobs(latency=0.5)) as simulator:
            client = AsyncAnthropic(base_url=simulator.url, api_key="any")
    """

    def __init__(
        self, knobs: Knobs | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = Api(as_layer(knobs or Knobs()), clock)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        """Listens; port 0 takes a free one. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self, loop), HOST, port, backlog=_PENDING
        )

    async def close(self) -> None:
        """Stops listening and ends every connection, whatever it was in the middle of."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in tuple(self._connections):
            connection.abort()
        await self._api.log.wait_for(lambda: self._api.log.connections == 0, timeout=5.0)
        await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The port it listens on; RuntimeError when it does not."""
        if self._server is None:
            raise RuntimeError("the simulator is not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """What to give a client as `base_url`."""
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> RequestLog:
        """The requests so far."""
        return self._api.log

    @property
    def batches(self) -> Batches:
        """The batches that were made, and what was bought in them."""
        return self._api.batches

    def stats(self) -> Stats:
        """What GET /_fake/stats says."""
        return self._api.log.stats(script_steps=len(self._api.scripts))

    def set_mode(self, mode: Layer) -> None:
        """Replaces the sticky knobs; `{}` ends them. Raises KnobError."""
        self._api.set_mode(mode)

    def add_script(self, steps: Sequence[dict[str, Any]], *, match: str = "") -> None:
        """Queues a step for each of the next requests whose prompt contains `match`.

        Raises KnobError.
        """
        script = Script(list(steps), match)
        check(script)
        self._api.scripts.add([script])

    def reset(self) -> None:
        """Back to the server default: no mode, no script, full buckets, empty log."""
        self._api.reset()

    async def wait_for(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:
        """Returns when the condition holds, tested at each request and connection that comes or
        goes; raises TimeoutError after `timeout` seconds."""
        await self._api.log.wait_for(condition, timeout)

    # --- connection.Service

    def answer(self, request: Request) -> Exchange:
        """See connection.Service."""
        if request.path.startswith(control.PREFIX):
            return control.answer(self._api, request)
        return self._api.answer(request)

    def refuse(self, error: ProtocolError) -> Reply:
        """See connection.Service."""
        return self._api.refuse(error)

    def opened(self, connection: Connection) -> None:
        """See connection.Service."""
        self._connections.add(connection)
        self._api.log.connected(1)

    def closed(self, connection: Connection) -> None:
        """See connection.Service."""
        self._connections.discard(connection)
        self._api.log.connected(-1)


async def main(port: int = 0, knobs: Knobs | None = None, *, scripts: Iterable[Script] = ()) -> int:
    """Runs a simulator until SIGTERM or SIGINT; returns the exit code, 0.

    Prints one line with the address once it listens. `scripts` must be checked. Raises OSError
    when the port is taken.
    """
    _allow_many_connections()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    simulator = Simulator(knobs)
    for script in scripts:
        simulator.add_script(script.steps, match=script.match)
    # Before the line is printed: whoever reads it may send the signal at once.
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await simulator.start(port)
    try:
        sys.stdout.write(f"simulator listening on {simulator.url}\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await simulator.close()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return 0


def _allow_many_connections() -> None:
    """A thousand clients need more descriptors than the usual soft limit of 1024."""
    try:
        import resource
    except ImportError:
        return  # not a Unix
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS reports an endless hard limit and refuses it as a soft one.
        wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
