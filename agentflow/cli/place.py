"""Where a job runs: on a server elsewhere, on the stack of its store, or on one of its own.

A stack that somebody else runs may end before the job does, when its `up` is stopped or the other
`run` is done. Then the job finds another place: its tasks are in the store's log, whoever serves
them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agentflow.config import Connect, store_dir
from agentflow.errors import UsageError
from agentflow.local.stack import LocalStack
from agentflow.local.store import StackInfo, Store, running
from agentflow.local.supervisor import Event

WORKERS: Final = 2
FINISH_WITHIN: Final = 10.0
"""Seconds that running tasks may finish in after Ctrl-C."""
WINDOW_ELSEWHERE: Final = 500
"""Tasks under way at once where others run the workers."""
LOOK_EVERY: Final = 0.25


def connection_environment(options: Connect) -> dict[str, str]:
    """How the parts of a stack learn what this command was told on its command line."""
    given = {
        "AGENTFLOW_CREDS": options.creds,
        "AGENTFLOW_USER": options.user,
        "AGENTFLOW_PASSWORD": options.password,
        "AGENTFLOW_TLS_CA": options.tls_ca,
        "AGENTFLOW_TLS_CERT": options.tls_cert,
        "AGENTFLOW_TLS_KEY": options.tls_key,
        "AGENTFLOW_INBOX_PREFIX": options.inbox_prefix,
    }
    return {name: value for name, value in given.items() if value}


class Place:
    """One place: `stack` is to be started where there is one, `options` say how to connect."""

    def __init__(
        self, folder: Path, stack: LocalStack | None, options: Connect, used: StackInfo | None
    ) -> None:
        self.stack = stack
        self.options = options
        self._folder = folder
        self._used = used

    def ended(self) -> bool:
        """Whether the stack of somebody else that was to be used is no more."""
        if self._used is not None:
            now = running(self._folder)
            return now is None or now.owner_pid != self._used.owner_pid
        return False

    def taken(self) -> bool:
        """Whether somebody else has the store that a stack of our own was to be started on."""
        return self.stack is not None and Store(self._folder).owner() is not None

    async def wait_ended(self) -> None:
        """Return when the stack of somebody else has ended; never for any other place."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self.ended():
                return


class Places:
    """What was asked for on the command line, and the place that fits it now."""

    def __init__(
        self,
        options: Connect,
        *,
        workers: int | None,
        concurrency: int,
        processes: int | None,
        app: str | None,
        kinds: Sequence[str],
        queue: str,
        simulate: bool,
        store: str | None,
        say: Callable[[str], None],
    ) -> None:
        self._options = options
        self._workers = workers
        self._concurrency = concurrency
        self._processes = processes
        self._app = app
        self._kinds = kinds
        self._queue = queue
        self._simulate = simulate
        self._folder = store_dir(store, simulate=simulate)
        self._say = say

    async def find(self) -> Place:
        """The place to use; waits for a stack that is starting or stopping. Raises UsageError."""
        if self._options.urls:
            return self._elsewhere()
        told = False
        while (used := running(self._folder)) is None:
            owner = Store(self._folder).owner()
            if owner is None:
                return self._own()
            if not told:
                self._say(f"waiting for process {owner}: it is starting or stopping a stack")
                told = True
            await asyncio.sleep(LOOK_EVERY)
        if used.simulate != self._simulate:
            kind = "a simulated" if used.simulate else "a real"
            raise UsageError(
                f"{kind} stack runs on {self._folder}; "
                + ("give --simulate, or stop it" if used.simulate else "use another --store")
            )
        self._refuse_handlers(f"a stack runs on {self._folder} already, with workers of its own")
        return Place(self._folder, None, Connect(urls=(used.url,)), used)

    def window(self, place: Place, *, limited: bool) -> int:
        """How many tasks may be under way: enough for all slots, no more under a limit."""
        if place.stack is None:
            return self._concurrency if limited else WINDOW_ELSEWHERE
        slots = (self._workers or WORKERS) * (self._processes or 1) * self._concurrency
        return slots if limited else 2 * slots

    def _elsewhere(self) -> Place:
        if self._workers:
            stack = self._stack(self._workers, nats=",".join(self._options.urls))
            return Place(self._folder, stack, self._options, None)
        if self._simulate:
            raise UsageError(
                "with --nats (or AGENTFLOW_NATS) the workers are those that run elsewhere, and "
                "they may be real ones: give --workers 1 or more with --simulate, or leave it out"
            )
        self._refuse_handlers("with --nats (or AGENTFLOW_NATS) the workers run elsewhere")
        return Place(self._folder, None, self._options, None)

    def _refuse_handlers(self, why: str) -> None:
        """Handlers that nobody would run are a mistake worth a word before the tasks wait."""
        if self._app is not None or self._kinds:
            raise UsageError(f"{why}: start those with --app and --kinds, not this job")

    def _own(self) -> Place:
        if self._workers == 0:
            raise UsageError(
                "without --nats and without a running stack nobody would run the tasks: "
                "give --workers 1 or more"
            )
        return Place(self._folder, self._stack(self._workers or WORKERS), Connect(), None)

    def _stack(self, workers: int, nats: str | None = None) -> LocalStack:
        script = Path(__file__).parent.parent / "simulator" / "demo.json"
        return LocalStack(
            self._folder,
            workers=workers,
            concurrency=self._concurrency,
            processes=self._processes,
            app=self._app,
            kinds=self._kinds,
            needs_workers=True,
            on_event=self._tell,
            queues=[self._queue],
            master=nats is None,
            simulate=self._simulate,
            simulator_args=["--latency", "1.2", "--script", str(script)],
            nats=nats,
            env=connection_environment(self._options) if nats else None,
            worker_grace=FINISH_WITHIN,
        )

    def _tell(self, event: Event) -> None:
        if event.kind == "drained":
            self._say(f"{event.part} was drained; {event.detail}")
