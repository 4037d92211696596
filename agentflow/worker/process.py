"""A worker process: connect, load the handlers asked for, work, leave in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agentflow.batches import pace
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.patience import connect_patiently
from agentflow.config import Connect
from agentflow.errors import UsageError
from agentflow.handlers import registry
from agentflow.handlers.contract import Handler
from agentflow.protocol import limits
from agentflow.rules.redaction import Redaction, parse
from agentflow.rules.routes.clock import NO_LIMITS, Limits
from agentflow.telemetry import logs, tracing
from agentflow.worker.worker import GRACE, Worker

_log = logging.getLogger(__name__)

PATIENCE: Final = 20.0
"""Seconds a worker waits for NATS at its start."""
UNKNOWN_KIND_FOR: Final = "AGENTFLOW_UNKNOWN_KIND_FOR"


def _tame_collector() -> None:
    """Let the cyclic collector leave what is loaded alone and run more rarely.

    A task leaves no cycles behind, yet its objects make the collector walk all that is alive.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@contextlib.asynccontextmanager
async def _measured(
    worker: Worker, connection: Connection, address: tuple[str, int] | None, shared: int
) -> AsyncIterator[None]:
    """Count, and serve or send what is counted, where somebody asked for it."""
    sent = tracing.wanted("metrics") and tracing.installed()
    if address is None and not sent:
        yield
        return
    from agentflow.telemetry.metrics import Figures, Limited, WorkerMetrics, served

    def figures() -> Figures:
        limited = {
            route: Limited(told.waiting, told.seconds) for route, told in worker.limited.items()
        }
        return Figures(worker.slots, worker.running, worker.gate_held, *worker.batches, limited)

    metrics = WorkerMetrics(
        connection,
        figures,
        actor=worker.actor.name,
    )
    worker.observe(metrics)
    async with contextlib.AsyncExitStack() as stack:
        if address is not None:
            await stack.enter_async_context(served(metrics, address, shared=shared))
        if sent:
            from agentflow.telemetry.otlp import pushed

            who = tracing.resource("worker", worker.actor.name)
            await stack.enter_async_context(pushed(metrics, who))
        yield


@contextlib.asynccontextmanager
async def _told(
    worker: Worker, connection: Connection, address: tuple[str, int] | None, shared: int
) -> AsyncIterator[None]:
    """Metrics while it works, and what is left of its traces at the end."""
    try:
        async with _measured(worker, connection, address, shared):
            yield
    finally:
        tracing.end()


def run(work: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run`, which goes on where a handler calls exit().

    Raised in an asyncio task that a handler made, SystemExit ends the loop on its way to the
    handler. What was left to do is still there, so the loop takes it up again.
    """
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        main = loop.create_task(work)
        while True:
            try:
                return loop.run_until_complete(main)
            except (SystemExit, KeyboardInterrupt) as error:
                # Until we hear signals ourselves, a KeyboardInterrupt is a person's.
                by_person = signal.getsignal(signal.SIGINT) is signal.default_int_handler
                if main.done() or (by_person and isinstance(error, KeyboardInterrupt)):
                    raise
                _log.warning("a handler raised %s in a task of its own", type(error).__name__)


async def serve(
    options: Connect,
    *,
    queues: Sequence[str] = ("default",),
    slots: int = 10,
    lease: float | None = None,
    name: str | None = None,
    kinds: Sequence[str] | None = None,
    own: Mapping[str, Handler] | None = None,
    grace: float = GRACE,
    metrics: tuple[str, int] | None = None,
    metrics_shared: int = 0,
    ready: Callable[[], None] = lambda: None,
    orderly: int = 0,
    batches: bool = True,
    route_limits: Limits = NO_LIMITS,
) -> None:
    """Be a worker, with `batches` a batcher too, until told to stop. `own` are an app's handlers.
    `metrics` is where Prometheus may ask, and with `metrics_shared` the first of so many ports;
    `ready` is called when the worker serves and hears signals; `orderly` is the exit status where
    handlers are left behind. Raises NotConnected, BusError, UsageError, PortTaken.
    """
    connection = await _connected(options, name, kinds, own)
    try:
        async with registry.open_handlers(kinds, own) as handlers:
            worker = Worker(
                connection,
                handlers,
                queues=queues,
                slots=slots,
                lease=lease,
                name=name,
                grace=grace,
                **_as_the_environment_says(route_limits, batches=batches),
            )
            async with _told(worker, connection, metrics, metrics_shared):
                await _work(worker, ready)
    finally:
        await connection.close()
    _leave_behind(worker.stuck, orderly)


def unknown_kind_for(environ: Mapping[str, str] = os.environ) -> float:
    """Seconds that a task of an unknown kind is left to other workers. Raises UsageError."""
    text = environ.get(UNKNOWN_KIND_FOR)
    if not text:
        return limits.UNKNOWN_KIND_FOR
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(
            f"{UNKNOWN_KIND_FOR} is {text[:80]!r}, not a number of seconds such as 300"
        )
    return seconds


def _as_the_environment_says(route_limits: Limits, *, batches: bool) -> dict[str, Any]:
    governed = os.environ.get("AGENTFLOW_GOVERNOR", "").lower() != "off"
    return {
        "simulated": "AGENTFLOW_SIMULATED" in os.environ,
        "unknown_kind_for": unknown_kind_for(),
        "route_limits": route_limits if governed else None,
        "batches": pace.from_environment() if batches else None,
        "redaction": _redaction(os.environ.get("AGENTFLOW_REDACT")),
    }


def _redaction(file: str | None) -> Redaction | None:
    """The policy of a file. Raises UsageError."""
    if not file:
        return None
    try:
        return parse(Path(file).expanduser().read_text(encoding="utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the policy {file} cannot be read: {error}") from None


async def _connected(
    options: Connect,
    name: str | None,
    kinds: Sequence[str] | None,
    own: Mapping[str, Handler] | None,
) -> Connection:
    registry.import_ahead(kinds, own)
    # Before the worker is made, which asks what traces here.
    tracing.begin("worker", f"{name or 'worker'}-{os.getpid()}")
    return await connect_patiently(options, name or "agentflow worker", PATIENCE)


def _leave_behind(stuck: int, status: int) -> None:
    """End the process, where asyncio would wait for ever for handlers that hear nothing."""
    if stuck:
        logging.shutdown()
        os._exit(status)


async def _work(worker: Worker, ready: Callable[[], None]) -> None:
    logs.set_actor(worker.actor.name)
    worker.actor.heed_signals()
    worker.actor.background("log", logs.keep_holding)
    await worker.start()
    _tame_collector()
    _log.info(
        "worker %s: %d slots on %s",
        worker.actor.name,
        worker.slots,
        ", ".join(worker.queues),
        extra={"action": "ready"},
    )
    asyncio.get_running_loop().call_soon(ready)  # in the first pause of run()
    await worker.run()
