"""Prometheus metrics of a worker and of a master, and the port they are read at.

Imported only when somebody asks for metrics. A worker counts what it wrote itself, so the sums over
all workers are the cluster's; the master tells what only it sees: queues and who is there. Every
label has few values: where a stranger may choose the text (kind, model, reason, queue), what comes
after the first so many is called "other". docs/observability.md lists all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from agentflow.errors import AgentFlowError, PortTaken
from agentflow.protocol.record import Record, State
from agentflow.rules.records import Spent
from agentflow.telemetry.labels import Words
from agentflow.telemetry.shared import SharedGauges
from agentflow.version import __version__

_log = logging.getLogger(__name__)

SIMULATED: Final = "simulated"
MOST_QUEUES: Final = 200
REQUEST_BYTES: Final = 16_384
REQUEST_WITHIN: Final = 10.0
REQUESTS: Final = 32
"""Connections at once; Prometheus needs one."""
LISTEN_EVERY: Final = 0.5
RUN_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    *(10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0),
)
WAIT_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0),
)


class Limited(NamedTuple):
    """Who waits for the limits of a route: how many, how long the first of them."""

    waiting: int
    seconds: float


class Figures(NamedTuple):
    """A worker at this moment."""

    slots: int
    running: int
    gate_held: int
    batches: int = 0
    batches_unknown: int = 0
    batches_twice: int = 0
    limited: Mapping[str, Limited] = {}


class Reconnecting(Protocol):
    """What is counted of a connection."""

    reconnects: int


class QueueFigures(NamedTuple):
    """A queue at this moment: waiting messages by priority, and the age of the oldest."""

    waiting: Mapping[str, int]
    oldest: datetime | None


class _Process:
    """What master and worker have in common."""

    def __init__(self, connection: Reconnecting, *, role: str, actor: str) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._connection = connection
        self._reconnects = Counter(
            "agentflow_nats_reconnects_total",
            "Connections to NATS that were made again.",
            registry=self.registry,
        )
        self._reconnects_told = 0
        info = Gauge(
            "agentflow_info",
            "Always 1; the labels say who this is.",
            ["role", "actor", "version"],
            registry=self.registry,
        )
        info.labels(role, actor, __version__).set(1)
        if sys.platform == "linux":
            ProcessCollector(registry=self.registry)

    async def refresh(self) -> None:
        """Bring up to date what is not counted as it happens."""
        count = self._connection.reconnects
        self._reconnects.inc(count - self._reconnects_told)
        self._reconnects_told = count


class WorkerMetrics(_Process):
    """The worker's metrics; an observer of its attempts."""

    def __init__(
        self,
        connection: Reconnecting,
        figures: Callable[[], Figures],
        *,
        actor: str,
    ) -> None:
        super().__init__(connection, role="worker", actor=actor)
        self._figures = figures
        self._queue, self._kind, self._model, self._reason = Words(), Words(), Words(), Words()
        registry = self.registry
        self._tasks = Counter(
            "agentflow_tasks_total",
            "What became of tasks here; retrying and queued (handed back) are no end.",
            ["queue", "kind", "state"],
            registry=registry,
        )
        self._failures = Counter(
            "agentflow_attempt_failures_total",
            "Attempts that failed, whether tried again or not.",
            ["reason"],
            registry=registry,
        )
        self._seconds = Histogram(
            "agentflow_task_seconds",
            "Seconds an attempt ran.",
            ["kind"],
            buckets=RUN_BUCKETS,
            registry=registry,
        )
        self._waited = Histogram(
            "agentflow_task_queue_seconds",
            "Seconds from the submission (or the instant it was put off to) to the first start.",
            ["queue"],
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self._tokens = Counter(
            "agentflow_tokens_total",
            "Tokens; direction is input, output, cache_write or cache_read.",
            ["model", "direction"],
            registry=registry,
        )
        self._cost = Counter(
            "agentflow_cost_usd_total", "Cost in US dollars.", ["model"], registry=registry
        )
        self._unpriced = Counter(
            "agentflow_unpriced_attempts_total",
            "Attempts that used tokens of a model without a known price.",
            ["model"],
            registry=registry,
        )
        self._saved = Counter(
            "agentflow_batch_saved_usd_total",
            "What batches saved of the price of live requests, in US dollars.",
            registry=registry,
        )
        for name, text, read in (
            ("agentflow_running", "Tasks that run.", lambda: self._figures().running),
            ("agentflow_slots", "Tasks that may run at once.", lambda: self._figures().slots),
            (
                "agentflow_gate_held",
                "Messages that wait at a gate: paused, closed, or slowed down.",
                lambda: self._figures().gate_held,
            ),
            (
                "agentflow_batches",
                "Batches that this worker looks after.",
                lambda: self._figures().batches,
            ),
            (
                "agentflow_batches_unknown",
                "Creates of batches of which it is not known what became of them.",
                lambda: self._figures().batches_unknown,
            ),
            (
                "agentflow_batches_paid_twice",
                "Batches created so late that they were paid beside another.",
                lambda: self._figures().batches_twice,
            ),
        ):
            Gauge(name, text, registry=registry).set_function(read)

        self._route = Words()
        self._limit_waiting = Gauge(
            "agentflow_limit_waiting",
            "Requests here that wait for the limits of a route.",
            ["route"],
            registry=registry,
        )
        self._limit_seconds = Gauge(
            "agentflow_limit_wait_seconds",
            "In how many seconds the first of them is expected to start.",
            ["route"],
            registry=registry,
        )

    async def refresh(self) -> None:
        await super().refresh()
        self._limit_waiting.clear()
        self._limit_seconds.clear()
        for name, limited in self._figures().limited.items():
            route = self._route(name)
            self._limit_waiting.labels(route).set(limited.waiting)
            self._limit_seconds.labels(route).set(limited.seconds)

    def claimed(self, record: Record, not_before: datetime | None) -> None:
        """An attempt begins; `record` is its claim."""
        times = record.timings
        if record.attempt == 1 and times.submitted is not None and times.started is not None:
            since = max(times.submitted, not_before) if not_before else times.submitted
            seconds = (times.started - since).total_seconds()
            self._waited.labels(self._queue(record.queue)).observe(max(0.0, seconds))

    def ended(self, record: Record, spent: Spent | None) -> None:
        """An attempt has ended with `record`; without `spent` nothing was run."""
        kind = self._kind(record.kind)
        self._tasks.labels(self._queue(record.queue), kind, str(record.state)).inc()
        if record.state in (State.FAILED, State.RETRYING):
            self._failures.labels(self._reason(record.reason)).inc()
        if spent is None:
            return
        self._seconds.labels(kind).observe(spent.run_s)
        used = spent.usage
        if not used.total and not spent.cost_micro:
            return
        # What a simulator would have cost is nobody's money.
        model = SIMULATED if spent.simulated else self._model(spent.model or record.model)
        for direction, count in (
            ("input", used.input_tokens),
            ("output", used.output_tokens),
            ("cache_write", used.cache_creation_input_tokens),
            ("cache_read", used.cache_read_input_tokens),
        ):
            if count > 0:  # a handler of one's own may report anything
                self._tokens.labels(model, direction).inc(count)
        if spent.saved_micro > 0 and not spent.simulated:
            self._saved.inc(spent.saved_micro / 1_000_000)
        if spent.cost_micro is None:
            self._unpriced.labels(model).inc()
        elif spent.cost_micro > 0:
            self._cost.labels(model).inc(spent.cost_micro / 1_000_000)


class MasterMetrics(_Process):
    """What only a master sees."""

    def __init__(
        self,
        connection: Reconnecting,
        *,
        actor: str,
        leads: Callable[[], bool],
        workers: Callable[[], tuple[int, int]],
        queues: Callable[[], Awaitable[Mapping[str, QueueFigures]]],
        bucket: Callable[[], Awaitable[Mapping[str, bytes]]],
        now: Callable[[], datetime],
    ) -> None:
        """`workers` are the living and the lost, `bucket` gives its keys and their values."""
        super().__init__(connection, role="master", actor=actor)
        self._leads, self._workers_now, self._queues_now = leads, workers, queues
        self._bucket, self._now = bucket, now
        self._shared = SharedGauges(self.registry)
        registry = self.registry
        self._depth = Gauge(
            "agentflow_queue_depth",
            "Messages that no worker has taken.",
            ["queue", "priority"],
            registry=registry,
        )
        self._oldest = Gauge(
            "agentflow_oldest_seconds",
            "Age of the oldest message that no worker has taken; 0 when none waits.",
            ["queue"],
            registry=registry,
        )
        self._workers = Gauge(
            "agentflow_workers",
            "Workers; state is alive or lost (shown for an hour).",
            ["state"],
            registry=registry,
        )
        self._leader = Gauge(
            "agentflow_master_leader",
            "1 for the one of several masters that ends what is lost.",
            registry=registry,
        )

    async def refresh(self) -> None:
        await super().refresh()
        alive, lost = self._workers_now()
        self._workers.labels("alive").set(alive)
        self._workers.labels("lost").set(lost)
        self._leader.set(self._leads())
        queues: Mapping[str, QueueFigures] = {}
        bucket: Mapping[str, bytes] = {}
        try:
            async with asyncio.timeout(REQUEST_WITHIN / 2):
                queues, bucket = await self._queues_now(), await self._bucket()
        except (AgentFlowError, TimeoutError) as error:
            # No value is better than an old one, which looks as if all went on.
            _log.info("queues and bucket cannot be read for metrics: %s", error)
        self._tell(queues)
        self._shared.tell(bucket, self._now())

    def _tell(self, queues: Mapping[str, QueueFigures]) -> None:
        self._depth.clear()
        self._oldest.clear()
        now = self._now()
        word = Words(MOST_QUEUES)
        deepest = sorted(queues.items(), key=lambda item: -sum(item[1].waiting.values()))
        ages: dict[str, float] = {}
        for queue, figures in deepest:
            label = word(queue)
            for priority, count in figures.waiting.items():
                self._depth.labels(label, str(priority)).inc(count)
            age = (now - figures.oldest).total_seconds() if figures.oldest else 0.0
            ages[label] = max(ages.get(label, 0.0), age)
        for label, age in ages.items():
            self._oldest.labels(label).set(age)


class GatewayMetrics:
    """A gateway's: what it answered, who reads, what it knows."""

    def __init__(
        self,
        figures: Callable[[], Mapping[str, float]],
        answers: Mapping[tuple[str, int], int],
        *,
        actor: str,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._figures = figures
        self._answers = answers
        self._requests = Counter(
            "agentflow_gateway_requests_total",
            "Requests that were answered.",
            ["route", "status"],
            registry=self.registry,
        )
        self._counted: dict[tuple[str, int], int] = {}
        self._gauges = {
            name: Gauge(f"agentflow_gateway_{name}", says, registry=self.registry)
            for name, says in _GATEWAY.items()
        }
        info = Gauge(
            "agentflow_info",
            "Always 1; the labels say who this is.",
            ["role", "actor", "version"],
            registry=self.registry,
        )
        info.labels("gateway", actor, __version__).set(1)
        if sys.platform == "linux":
            ProcessCollector(registry=self.registry)

    def text(self, accept: str) -> tuple[str, bytes]:
        """Content type and text, as they are now."""
        for key, count in list(self._answers.items()):
            self._requests.labels(key[0], str(key[1])).inc(count - self._counted.get(key, 0))
            self._counted[key] = count
        for name, value in self._figures().items():
            self._gauges[name].set(value)
        encode, kind = choose_encoder(accept)
        return kind, encode(self.registry)


_GATEWAY: Final = {
    "connections": "Connections of clients that are open.",
    "readers": "Readers of the events of all tasks.",
    "pictures": "Different views that somebody looks at.",
    "rows": "Tasks that the followed store has.",
    "ready": "1 where requests are served well.",
}


@contextlib.asynccontextmanager
async def served(
    metrics: WorkerMetrics | MasterMetrics, address: tuple[str, int], *, shared: int = 0
) -> AsyncIterator[int]:
    """Answer GET /metrics; gives the port, which the system chooses for 0. Raises PortTaken.

    In the event loop: what it reads is not changed meanwhile, and it ends with the process.
    `shared` is for one of so many processes: it takes the first free port of as many, and where the
    one that it replaces has the last, it works meanwhile and waits.
    """
    host, port = address
    open_: dict[asyncio.StreamWriter, None] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(open_) >= REQUESTS:
            # Descriptors are for tasks: whoever has been silent longest makes room.
            oldest = next(iter(open_))
            del open_[oldest]
            oldest.transport.abort()
        open_[writer] = None
        try:
            async with asyncio.timeout(REQUEST_WITHIN):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.writelines(await _answer(metrics, head))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, TimeoutError):
            pass  # whoever asked is gone, or never asked
        finally:
            open_.pop(writer, None)
            writer.close()

    async def listen() -> asyncio.Server | None:
        for number in range(port, port + max(1, shared)):
            try:
                server = await asyncio.start_server(answer, host, number, limit=REQUEST_BYTES)
            except (OSError, OverflowError) as error:
                if shared and getattr(error, "errno", None) == errno.EADDRINUSE:
                    continue
                raise PortTaken(
                    f"metrics cannot be served at {host}:{number}: "
                    f"{getattr(error, 'strerror', None) or error}; choose another --metrics"
                ) from error
            shown = f"[{host}]" if ":" in host else host
            bound = server.sockets[0].getsockname()[1]
            _log.info("metrics at http://%s:%d/metrics", shown, bound, extra={"action": "metrics"})
            return server
        return None

    server: asyncio.Server | None = None

    async def listen_later() -> None:
        nonlocal server
        while server is None:
            await asyncio.sleep(LISTEN_EVERY)
            server = await listen()

    server = await listen()
    waiting = asyncio.create_task(listen_later(), name="metrics") if server is None else None
    try:
        yield port if server is None else server.sockets[0].getsockname()[1]
    finally:
        if waiting is not None:
            waiting.cancel()
        if server is not None:
            server.close()
        for writer in list(open_):
            writer.transport.abort()


async def _answer(metrics: WorkerMetrics | MasterMetrics, head: bytes) -> Iterable[bytes]:
    lines = head.decode("latin-1").split("\r\n")
    method, _, rest = lines[0].partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if path not in ("/metrics", "/"):
        return _response("404 Not Found", "text/plain", b"metrics are at /metrics\n")
    if method not in ("GET", "HEAD"):
        return _response("405 Method Not Allowed", "text/plain", b"GET\n")
    accept = [line[7:] for line in lines if line.lower().startswith("accept:")]
    encode, kind = choose_encoder(",".join(accept))
    await metrics.refresh()
    body = encode(metrics.registry)
    return _response("200 OK", kind, body, method == "HEAD")


def _response(status: str, kind: str, body: bytes, bare: bool = False) -> list[bytes]:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return [f"{head}Connection: close\r\n\r\n".encode("latin-1"), b"" if bare else body]
