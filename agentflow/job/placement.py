"""Where a job runs: on a server elsewhere, on the stack of its store, or on one of its own.

A stack that somebody else runs may end before the job does, when its `up` is stopped or the other
`run` is done. Then the job finds another placement: its tasks are in the store's log, whoever
serves them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from agentflow.config import Connect, connection_environment, store_dir
from agentflow.errors import UsageError
from agentflow.job.spec import JobSpec
from agentflow.local.stack import LocalStack
from agentflow.local.store import StackInfo, Store, running
from agentflow.local.supervisor import Event

WORKERS: Final = 2
FINISH_WITHIN: Final = 10.0
"""Seconds that running tasks may finish in after Ctrl-C."""
WINDOW_ELSEWHERE: Final = 500
"""Tasks under way at once where others run the workers."""
LOOK_EVERY: Final = 0.25


class Placement:
    """One place to run; its `stack` is to be started, None where others run it."""

    def __init__(
        self, folder: Path, stack: LocalStack | None, connect: Connect, used: StackInfo | None
    ) -> None:
        self.stack = stack
        self._connect = connect
        self._folder = folder
        self._used = used

    def ended(self) -> bool:
        """Whether the stack of somebody else that was to be used is no more."""
        if self._used is not None:
            now = running(self._folder)
            return now is None or now.owner_pid != self._used.owner_pid
        return False

    def taken(self) -> bool:
        """Whether somebody else has the store that our own stack was to be started on."""
        return self.stack is not None and Store(self._folder).owner() is not None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Connect]:
        """Start the placement's own stack, if it has one; gives how to connect."""
        if self.stack is None:
            yield self._connect
            return
        async with self.stack as stack:
            yield self._connect if self._connect.urls else Connect(urls=(stack.url,))

    async def wait_ended(self) -> None:
        """Return when somebody else's stack has ended. Raises StackError when our own has."""
        if self.stack is not None:
            await self.stack.wait()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self.ended():
                return


class Placements:
    """Finds the placement that fits a job now."""

    def __init__(self, spec: JobSpec, say: Callable[[str], None]) -> None:
        self._spec = spec
        self._say = say
        self._folder = store_dir(spec.store, simulate=spec.simulate)

    async def find(self) -> Placement:
        """The one to use; waits for a stack that is starting or stopping. Raises UsageError."""
        if self._spec.connect.urls:
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
        if used.simulate != self._spec.simulate:
            kind = "a simulated" if used.simulate else "a real"
            raise UsageError(
                f"{kind} stack runs on {self._folder}; "
                + ("give --simulate, or stop it" if used.simulate else "use another --store")
            )
        self._refuse_handlers(f"a stack runs on {self._folder} already, with workers of its own")
        return Placement(self._folder, None, Connect(urls=(used.url,)), used)

    def window(self, placement: Placement) -> int:
        """How many tasks may be under way: enough for all slots, no more under a cost limit."""
        spec = self._spec
        limited = spec.max_cost_micro is not None
        if placement.stack is None:
            return spec.concurrency if limited else WINDOW_ELSEWHERE
        slots = (spec.workers or WORKERS) * (spec.processes or 1) * spec.concurrency
        return slots if limited else 2 * slots

    def _elsewhere(self) -> Placement:
        if self._spec.workers:
            stack = self._stack(self._spec.workers, nats=",".join(self._spec.connect.urls))
            return Placement(self._folder, stack, self._spec.connect, None)
        if self._spec.simulate:
            raise UsageError(
                "with --nats (or AGENTFLOW_NATS) the workers are those that run elsewhere, and "
                "they may be real ones: give --workers 1 or more with --simulate, or leave it out"
            )
        self._refuse_handlers("with --nats (or AGENTFLOW_NATS) the workers run elsewhere")
        return Placement(self._folder, None, self._spec.connect, None)

    def _refuse_handlers(self, why: str) -> None:
        """Handlers that nobody would run are a mistake worth a word before the tasks wait."""
        if self._spec.app is not None or self._spec.kinds:
            raise UsageError(f"{why}: start those with --app and --kinds, not this job")

    def _own(self) -> Placement:
        if self._spec.workers == 0:
            raise UsageError(
                "without --nats and without a running stack nobody would run the tasks: "
                "give --workers 1 or more"
            )
        return Placement(self._folder, self._stack(self._spec.workers or WORKERS), Connect(), None)

    def _stack(self, workers: int, nats: str | None = None) -> LocalStack:
        script = Path(__file__).parent.parent / "simulator" / "demo.json"
        self._say(f"starting workers: {workers} (their imports take some seconds)")
        return LocalStack(
            self._folder,
            workers=workers,
            concurrency=self._spec.concurrency,
            processes=self._spec.processes,
            app=self._spec.app,
            kinds=self._spec.kinds,
            needs_workers=True,
            on_event=self._tell,
            queues=[self._spec.queue],
            master=nats is None,
            simulate=self._spec.simulate,
            simulator_args=["--latency", "1.2", "--script", str(script)],
            nats=nats,
            env=connection_environment(self._spec.connect) if nats else None,
            worker_grace=FINISH_WITHIN,
        )

    def _tell(self, event: Event) -> None:
        if event.kind == "drained":
            self._say(f"{event.part} was drained; {event.detail}")
