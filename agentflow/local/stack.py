"""The local stack: server, simulator, master and workers as one context manager.

    async with LocalStack(store, port=4222, workers=2) as stack:
        await stack.wait()

`agentflow up` and `agentflow run` are this and what they print. Parts start in the order in which
they need each other, and stop in reverse: workers hand back or finish their tasks while the server
is still there. The process that started them holds the store; when it is killed its parts stop by
themselves (see parent), and the next start deals with the server (see server).

A worker that somebody drained stays down, and the stack goes on without it; one that
`needs_workers` ends with the last of them.

With `nats` the parts work on a server that is there already, and none is started. Where such guests
work on the server of this stack it is left to them when the stack ends; one of them takes it over.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from agentflow import hidden
from agentflow.config import Connect, connection_environment
from agentflow.errors import KeyMissing, StackError
from agentflow.local.child import Child
from agentflow.local.parent import Lifeline
from agentflow.local.server import LocalServer
from agentflow.local.store import StackInfo, Store
from agentflow.local.supervisor import Event, Supervisor
from agentflow.rules.credentials import usable
from agentflow.rules.restarts import RestartPolicy
from agentflow.rules.routes.clock import NO_LIMITS, Limits

SIMULATED_KEY: Final = "simulated"
GATEWAY_URL: Final = re.compile(r"gateway at (https?://\S+:(\d+)\S*)")
"""What a gateway prints when it listens."""
SIMULATOR_URL: Final = re.compile(r"http://127\.0\.0\.1:(\d+)")
"""What the simulator prints when it listens."""
WORKER_GRACE: Final = 30.0
"""Seconds a worker may finish its tasks in before it is told to hand them back."""

KEYS: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
CONNECTION: Final = tuple(
    f"AGENTFLOW_{name}"
    for name in (
        *("CONTEXT", "CREDS", "USER", "PASSWORD", "TOKEN", "INBOX_PREFIX"),
        *("TLS_CA", "TLS_CERT", "TLS_KEY", "TLS_FIRST"),
    )
)
"""How to reach a server elsewhere: to ours these would only do harm."""
WEBHOOK_HOSTS: Final = "AGENTFLOW_WEBHOOK_HOSTS"
METRICS: Final = "AGENTFLOW_METRICS"
"""Where metrics are served; only one process can have it."""

SIMULATED_BATCHES: Final = '{"gather": 3, "look": 0.2, "poll": 1, "settle": 10, "gone": 10}'
"""The pace of batches against a simulator."""


class LocalStack:
    """What is wanted of a stack, and once started, where it is."""

    def __init__(
        self,
        store: str | os.PathLike[str] | None = None,
        *,
        port: int | None = None,
        workers: int = 2,
        concurrency: int | None = None,
        queues: Sequence[str] = (),
        processes: int | None = None,
        app: str | None = None,
        kinds: Sequence[str] = (),
        limits: Limits = NO_LIMITS,
        needs_workers: bool = False,
        lease: float | None = None,
        master: bool = True,
        simulate: bool = False,
        locked: bool | None = None,
        simulator_args: Sequence[str] = (),
        nats: str | None = None,
        durable: bool = False,
        env: Mapping[str, str] | None = None,
        metrics: tuple[str, int] | None = None,
        gateway: int = 0,
        worker_grace: float = WORKER_GRACE,
        on_event: Callable[[Event], None] = lambda _: None,
        policy: RestartPolicy | None = None,
        commands: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.store = Store(store)
        self.simulate = simulate
        self.simulator_url: str | None = None
        self.gateway_url: str | None = None
        self.durable = durable
        self._nats = nats
        self._workers = workers
        self._queues = tuple(queues) or ("default",)
        self._processes = processes or 1
        self._kinds = kinds
        self._worker_args = [
            *([app] if app else []),
            *_options(
                {
                    "--queues": ",".join(queues),
                    "--kinds": ",".join(kinds),
                    "--concurrency": concurrency,
                    "--processes": processes,
                    "--lease": lease,
                    "--rpm": limits.requests,
                    "--itpm": limits.input,
                    "--otpm": limits.output,
                }
            ),
        ]
        self._needs_workers = needs_workers
        self._drained = 0
        self._worker_grace = worker_grace
        self._master = master
        self._simulator_args = list(simulator_args)
        self._env = dict(env or {})
        self._metrics = metrics
        self._gateway = gateway
        self._commands = dict(commands or {})
        self._on_event = on_event
        self._supervisor = Supervisor(on_event=self._observe, policy=policy)
        self._lifeline: Lifeline | None = None
        self._simulator_lifeline: Lifeline | None = None
        self._ready = False
        self._working = False
        self.server = LocalServer(
            self.store,
            port=port,
            durable=durable,
            locked=self._is_private() if locked is None else locked,
            environment=self._environment(),
        )

    @property
    def url(self) -> str:
        """The NATS server that the stack works on."""
        return self._nats or self.server.url

    def _is_private(self) -> bool:
        """Whether others of the machine must be kept out: what can neither be spent nor run
        programs everybody may look at, with any client."""
        return not self.simulate or "claude-cli" in self._kinds

    @property
    def exposed(self) -> bool:
        """Whether everybody of the machine may do what only its user should."""
        return self.own_server and not self.server.locked and self._is_private()

    @property
    def own_server(self) -> bool:
        """Whether the server was started by this stack."""
        return self._nats is None

    @property
    def connect(self) -> Connect:
        """How to reach the stack's own server."""
        return self.server.connect

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_surely()

    async def _stop_surely(self) -> None:
        """Stop; a cancellation meanwhile only makes it faster, so nothing stays behind."""
        stopping = asyncio.create_task(self.stop(), name="stop the stack")
        cancelled: asyncio.CancelledError | None = None
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError as error:
                cancelled = error
                self.hurry()
        if cancelled is not None:
            raise cancelled
        stopping.result()

    async def start(self) -> None:
        """Start all parts. What had started when one cannot be is stopped again."""
        self._need_key()
        if not {"claude-cli", "all"}.isdisjoint(self._kinds):
            hidden.hide()  # the key is in our environment too
        if self._nats and not self._workers and not self._master:
            return
        self.store.take()
        try:
            await self._start_parts()
        except BaseException:
            await self._stop_surely()
            raise

    async def wait(self) -> None:
        """Return when the stack was stopped. Raises StackError when a part crashed too often."""
        await self._supervisor.wait()

    def hurry(self) -> None:
        """Somebody asked a second time: stop faster."""
        self._supervisor.hurry()

    async def stop_workers(self) -> None:
        """Stop the workers, which were started last; results still come in."""
        if self._working:
            self._working = False
            await self._supervisor.stop_last()

    async def stop(self) -> None:
        """Stop all parts in order and let go of the store."""
        self._working = self._ready = left = False
        if self.store.owned:
            self.store.clear_state()
            left = not self._nats and self.store.has_guests()
            if left:
                self._supervisor.leave(self.server)
        await self._supervisor.stop()
        if left:
            self.server.forget()
        for lifeline in (self._lifeline, self._simulator_lifeline):
            if lifeline is not None:
                lifeline.close()
        self._lifeline = self._simulator_lifeline = None
        self.store.release()

    # ------------------------------------------------------------------ parts

    async def _start_parts(self) -> None:
        self.store.clear_state()
        self._lifeline = Lifeline()
        if self._nats:
            await self.server.end_leftover()
        else:
            await self._supervisor.start(self.server)
        if self.simulate and self._workers:
            # Of its own, held by the workers too: orphaned, they still finish what they ask it.
            self._simulator_lifeline = Lifeline()
            self.simulator_url = await self._start_simulator()
        if self._master:
            await self._supervisor.start(
                self._child("master", "master", environment=self._metrics_environment(0))
            )
        gateway = self._gateway_child() if self._gateway else None
        await self._supervisor.start(
            *(
                self._child(
                    f"worker-{number}",
                    "worker",
                    ["--name", f"worker-{number}", *self._worker_args],
                    environment=self._claude_environment() | self._metrics_environment(number),
                    hold=self._simulator_lifeline,
                    grace=self._worker_grace,
                    drains=True,
                )
                for number in range(1, self._workers + 1)
            ),
            *([gateway] if gateway else []),
            *([self._webhooks_child()] if gateway and os.environ.get(WEBHOOK_HOSTS) else []),
        )
        if gateway is not None and gateway.announced is not None:
            self.gateway_url = gateway.announced[1]
            # Started again it must be found where its clients know it.
            gateway.argv[gateway.argv.index("--port") + 1] = gateway.announced[2]
        self._working = self._ready = True
        self._write_state()

    def _webhooks_child(self) -> Child:
        """A worker that sends what hooks want, where the environment says where to."""
        options = ["--name", "webhooks", "--queues", "webhooks", "--kinds", "webhook"]
        return self._child("webhooks", "worker", options, grace=self._worker_grace, drains=True)

    def _gateway_child(self) -> Child:
        """At the port wanted, or at the next that is free."""
        options = ["--port", str(self._gateway), "--next-free"]
        return self._child("gateway", "gateway", options, ready=GATEWAY_URL)

    async def _start_simulator(self) -> str:
        simulator = self._child(
            "simulator",
            "simulator",
            ["--port", "0", *self._simulator_args],
            ready=SIMULATOR_URL,
            lifeline=self._simulator_lifeline,
        )
        await self._supervisor.start(simulator)
        assert simulator.announced is not None
        # Started again it must be found where the workers know it.
        simulator.argv[simulator.argv.index("--port") + 1] = simulator.announced[1]
        return simulator.announced[0]

    def _child(
        self,
        name: str,
        command: str,
        options: Sequence[str] = (),
        *,
        environment: dict[str, str] | None = None,
        ready: re.Pattern[str] | None = None,
        grace: float = 10.0,
        lifeline: Lifeline | None = None,
        hold: Lifeline | None = None,
        drains: bool = False,
    ) -> Child:
        lifeline = lifeline or self._lifeline
        assert lifeline is not None
        # -P: a file of the user's directory must not be taken for a module of the same name.
        start = self._commands.get(command) or [sys.executable, "-P", "-m", "agentflow", command]
        return Child(
            name,
            [*start, *options],
            log=self.store.logs / f"{name}.log",
            environment=(
                self._environment()
                | {"AGENTFLOW_NATS": self.url, "PYTHONUNBUFFERED": "1"}
                | ({} if self._nats else connection_environment(self.connect))
                | python_path()
                | (environment or {})
                | self._env
                | lifeline.environment
            ),
            inherit=[lifeline.fd] if hold is None else [lifeline.fd, hold.hold],
            ready=ready,
            grace=grace,
            drains=drains,
        )

    # ------------------------------------------------------------ environment

    def _need_key(self) -> None:
        asks = not self._kinds or not {"claude", "all"}.isdisjoint(self._kinds)
        if self._workers and asks and not self.simulate:
            known = os.environ | self._env
            # What cannot be sent is said here at once, and once, instead of by each worker.
            found = [usable(known.get(key), key) for key in KEYS]
            if not any(found):
                raise KeyMissing(
                    "ANTHROPIC_API_KEY is not set; set it, or use --simulate for answers that cost "
                    "nothing"
                )

    def _environment(self) -> dict[str, str]:
        """What every part may know. The key is for those that talk to Claude."""
        hidden = (METRICS, *KEYS) if self._nats else (METRICS, *KEYS, *CONNECTION)
        return {key: value for key, value in os.environ.items() if key not in hidden}

    def _metrics_environment(self, number: int) -> dict[str, str]:
        """Each part's own ports: the master has the one given, the workers those behind it."""
        if self._metrics is None:
            return {}
        host, port = self._metrics
        behind = 1 + (number - 1) * self._processes if number else 0
        own = port + behind if port else 0
        return {METRICS: f"[{host}]:{own}" if ":" in host else f"{host}:{own}"}

    def _claude_environment(self) -> dict[str, str]:
        if not self.simulate:
            return {key: os.environ[key] for key in KEYS if key in os.environ}
        assert self.simulator_url is not None
        # Without this an HTTP proxy of the user's would be asked for a port of this machine.
        direct = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1")))
        return {
            "ANTHROPIC_BASE_URL": self.simulator_url,
            "ANTHROPIC_API_KEY": SIMULATED_KEY,
            "AGENTFLOW_SIMULATED": "1",
            # Its batches take no hours, and are gone with it.
            "AGENTFLOW_BATCHES": os.environ.get("AGENTFLOW_BATCHES") or SIMULATED_BATCHES,
            "NO_PROXY": direct,
            "no_proxy": direct,
        }

    # ------------------------------------------------------------------ state

    def _observe(self, event: Event) -> None:
        # A server that was started again has another pid and another monitoring port.
        if event.kind == "restarted" and event.part == self.server.name and self._ready:
            self._write_state()
        if event.kind == "drained" and event.part.startswith("worker-"):
            self._drained += 1
            left = self._workers - self._drained
            text = f"{left} of {self._workers} workers go on" if left else "no worker is left"
            event = msgspec.structs.replace(event, detail=text)
            if self._needs_workers and not left:
                self._supervisor.fail(StackError("every worker was drained, so nothing goes on"))
        self._on_event(event)

    def _write_state(self) -> None:
        self.store.write_state(
            StackInfo(
                url=self.url,
                owner_pid=os.getpid(),
                monitor=self.server.monitor,
                server_pid=self.server.pid,
                simulate=self.simulate,
                simulator_url=self.simulator_url,
                durable=self.durable,
                user=None if self._nats else self.connect.user,
                for_job=self._needs_workers,
                queues=self._queues if self._workers else (),
            )
        )


def _options(values: Mapping[str, object]) -> list[str]:
    """Command line options; those without a value are left to the command's own default."""
    return [text for flag, value in values.items() if value for text in (flag, str(value))]


def python_path() -> dict[str, str]:
    """Where the children find this very package when it runs from a checkout."""
    root = Path(__file__).resolve().parents[2]
    if root.name in ("site-packages", "dist-packages"):
        return {}
    present = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (os.fspath(root), present)))}
