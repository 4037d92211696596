"""A worker process: connect, load the handlers asked for, work, leave in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.patience import connect_patiently
from agentflow.config import Connect
from agentflow.handlers import registry
from agentflow.handlers.contract import Handler
from agentflow.protocol import limits
from agentflow.telemetry import logs
from agentflow.worker.worker import GRACE, Worker

_log = logging.getLogger(__name__)

PATIENCE: Final = 20.0
"""Seconds a worker waits for NATS at its start."""


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
    """Count, and serve what is counted, where somebody asked for it."""
    if address is None:
        yield
        return
    from agentflow.telemetry.metrics import Figures, WorkerMetrics, served

    metrics = WorkerMetrics(
        connection,
        lambda: Figures(worker.slots, worker.running, worker.gate_held),
        actor=worker.actor.name,
    )
    worker.observe(metrics)
    async with served(metrics, address, shared=shared):
        yield


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
) -> None:
    """Be a worker until told to stop; `own` are the handlers of an app.

    `metrics` is where Prometheus may ask, and with `metrics_shared` the first of so many ports;
    `ready` is called when the worker serves and hears signals. Raises NotConnected, BusError,
    UsageError, PortTaken.
    """
    connection = await connect_patiently(options, name or "agentflow worker", PATIENCE)
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
                simulated="AGENTFLOW_SIMULATED" in os.environ,
                unknown_kind_for=float(
                    os.environ.get("AGENTFLOW_UNKNOWN_KIND_FOR") or limits.UNKNOWN_KIND_FOR
                ),
            )
            logs.set_actor(worker.actor.name)
            async with _measured(worker, connection, metrics, metrics_shared):
                worker.actor.heed_signals()
                await worker.start()
                _tame_collector()
                _log.info(
                    "worker %s: %d slots on %s",
                    worker.actor.name,
                    slots,
                    ", ".join(queues),
                    extra={"action": "ready"},
                )
                asyncio.get_running_loop().call_soon(ready)  # in the first pause of run()
                await worker.run()
    finally:
        await connection.close()
    if worker.stuck:
        # asyncio would wait for ever for a handler that does not listen to its cancellation.
        logging.shutdown()
        os._exit(0)
