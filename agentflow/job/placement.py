"""Where a job runs: on a server elsewhere, on the stack of its store, or on one of its own.

Who runs the workers decides the queue. Workers of the job's own serve a queue of the job, so that
what it leaves behind, even by kill -9, nobody runs but the same job; with workers of others it is
`default`. Where a stack on the store serves another queue, as that of another `run` does, the job
brings its own workers to that server, as its guest.

A stack that somebody else runs may end before the job does, when its `up` is stopped or the other
`run` is done. Then the job finds another placement: its tasks are in the store's log, whoever
serves them. The server is left to its guests until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from agentflow.config import Connect, connection_environment, entered, store_dir
from agentflow.errors import StoreBusy, UsageError
from agentflow.job.spec import JobSpec
from agentflow.local.server import LocalServer
from agentflow.local.stack import LocalStack
from agentflow.local.store import StackInfo, Store, running
from agentflow.local.supervisor import Event

WORKERS: Final = 2
FINISH_WITHIN: Final = 10.0
"""Seconds that running tasks may finish in after Ctrl-C."""
WINDOW_ELSEWHERE: Final = 500
"""Tasks under way at once where others run the workers."""
LOOK_EVERY: Final = 0.25
SHARED: Final = "default"
"""The queue where others run the workers."""
GUESTS: Final = "guests"
"""Folder of the store where guests have their logs while they run."""


class Placement:
    """One place to run; its `stack` is to be started, None where others run it."""

    def __init__(
        self,
        folder: Path,
        stack: LocalStack | None,
        connect: Connect,
        used: StackInfo | None,
        *,
        queue: str,
        own: bool,
        visit: int | None = None,
    ) -> None:
        self.stack = stack
        self.queue = queue
        self.own = own
        """Whether the queue is the job's alone."""
        self._visit = visit
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
        return (
            self.stack is not None
            and self._used is None
            and Store(self._folder).owner() is not None
        )

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Connect]:
        """Start the placement's own stack, if it has one; gives how to connect."""
        if self.stack is None:
            yield self._connect
            return
        try:
            async with self.stack as stack:
                yield self._connect if self._connect.urls else stack.connect
        finally:
            if self._visit is not None:
                os.close(self._visit)
                shutil.rmtree(self.stack.store.path, ignore_errors=True)
                await self._end_leftover()

    async def _end_leftover(self) -> None:
        """End the server that its owner has left to us, where nobody else uses or takes it."""
        store = Store(self._folder)
        if not self.ended() or store.has_guests():
            return
        with contextlib.suppress(StoreBusy):
            store.take()
            try:
                await LocalServer(store).end_leftover()
            finally:
                store.release()

    async def wait_ended(self) -> None:
        """Return when somebody else's stack has ended. Raises StackError when our own has."""
        working = asyncio.ensure_future(self._failed())
        try:
            while not self.ended():
                await asyncio.wait({working}, timeout=LOOK_EVERY)
                if working.done():
                    working.result()
        finally:
            working.cancel()

    async def _failed(self) -> None:
        """Raise StackError when our own stack has ended; else wait."""
        if self.stack is not None:
            await self.stack.wait()
        await asyncio.Event().wait()


class Placements:
    """Finds the placement that fits a job now."""

    def __init__(self, spec: JobSpec, say: Callable[[str], None]) -> None:
        self._spec = spec
        self._say = say
        self._folder = store_dir(spec.store, simulate=spec.simulate)
        self._queue = spec.queue or spec.id
        self._shared = spec.queue or SHARED

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
        wanted = self._spec.queue is None or used.for_job
        if wanted and used.queues and self._shared not in used.queues:
            return self._guest(used) or await self.find()
        self._refuse_handlers(f"a stack runs on {self._folder} already, with workers of its own")
        self._say_used(used)
        connect = entered(used.url, used.user, self._folder)
        return Placement(self._folder, None, connect, used, queue=self._shared, own=False)

    def _say_used(self, used: StackInfo) -> None:
        """That others run the tasks, and what of the command that leaves without an effect."""
        spec = self._spec
        given = [
            option
            for option, value in (("--workers", spec.workers), ("--processes", spec.processes))
            if value is not None
        ]
        text = (
            f"a stack runs on {self._folder} (process {used.owner_pid}): its workers run the "
            f"tasks, in queue {self._shared}"
        )
        if given:
            text += f"; no effect here: {', '.join(given)}"
        self._say(text)

    def _guest(self, used: StackInfo) -> Placement | None:
        """Workers of our own on the server of another stack; None where that is just ending."""
        store = Store(self._folder)
        visit = store.visit()
        if running(self._folder) != used:
            os.close(visit)
            return None
        self._say(
            f"process {used.owner_pid} runs a stack on {self._folder}, whose workers serve queue "
            f"{', '.join(used.queues)}; this job brings its own"
        )
        connect = entered(used.url, used.user, self._folder)
        stack = self._stack(
            self._spec.workers or WORKERS, connect, folder=self._folder / GUESTS / self._queue
        )
        return Placement(
            self._folder,
            stack,
            connect,
            used,
            queue=self._queue,
            own=self._spec.queue is None,
            visit=visit,
        )

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
            connect = self._spec.connect
            return self._with_own(self._stack(self._spec.workers, connect), connect)
        if self._spec.simulate:
            raise UsageError(
                "with --nats (or AGENTFLOW_NATS) the workers are those that run elsewhere, and "
                "they may be real ones: give --workers 1 or more with --simulate, or leave it out"
            )
        self._refuse_handlers("with --nats (or AGENTFLOW_NATS) the workers run elsewhere")
        connect = self._spec.connect
        return Placement(self._folder, None, connect, None, queue=self._shared, own=False)

    def _with_own(self, stack: LocalStack, connect: Connect) -> Placement:
        own = self._spec.queue is None
        return Placement(self._folder, stack, connect, None, queue=self._queue, own=own)

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
        return self._with_own(self._stack(self._spec.workers or WORKERS), Connect())

    def _stack(
        self, workers: int, connect: Connect | None = None, folder: Path | None = None
    ) -> LocalStack:
        script = Path(__file__).parent.parent / "simulator" / "demo.json"
        self._say(f"starting workers: {workers} (their imports take some seconds)")
        return LocalStack(
            folder or self._folder,
            workers=workers,
            concurrency=self._spec.concurrency,
            processes=self._spec.processes,
            app=self._spec.app,
            kinds=self._spec.kinds,
            limits=self._spec.limits,
            needs_workers=True,
            on_event=self._tell,
            queues=[self._queue],
            master=connect is None,
            simulate=self._spec.simulate,
            simulator_args=["--latency", "1.2", "--script", str(script)],
            nats=",".join(connect.urls) if connect else None,
            env=connection_environment(connect) if connect else None,
            worker_grace=FINISH_WITHIN,
        )

    def _tell(self, event: Event) -> None:
        if event.kind == "drained":
            self._say(f"{event.part} was drained; {event.detail}")
