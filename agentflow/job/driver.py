"""Drive tasks through a queue: read each one's log, submit what is missing, keep the results.

At most `window` tasks are under way, those aside that wait for a batch, so that a limit on the cost
can hold and an interruption leaves little to withdraw. Before a task is submitted its log is read:
what a former run has submitted, or finished without this process learning of it, is waited for or
taken, never paid again; what was withdrawn goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from agentflow.bus.streams import provision
from agentflow.bus.streams.cache import Cache
from agentflow.bus.wire.message import Message
from agentflow.client import Client
from agentflow.errors import AgentFlowError, BusError, ResultsLost, UsageError
from agentflow.job.cached import Cached
from agentflow.job.costlimit import LOOK_EVERY, CostLimit
from agentflow.job.ledger import Results
from agentflow.job.reuse import asked_of
from agentflow.job.source import Item
from agentflow.job.spec import FrontEnd, JobSpec
from agentflow.job.tally import Tally
from agentflow.protocol import jobs, subjects
from agentflow.protocol.asked import Asked
from agentflow.protocol.record import Last, Record, State, decode
from agentflow.protocol.task import TaskBody, encode_body
from agentflow.rules import reuse, withdrawal
from agentflow.views.ledger import Line, line_of


class Driver:
    """The tasks of a job on their way through a queue, at one placement."""

    def __init__(
        self,
        client: Client,
        items: Iterable[Item | None],
        ledger: Results,
        tally: Tally,
        front_end: FrontEnd,
        spec: JobSpec,
        *,
        limit: CostLimit,
        window: int,
        queue: str,
        own_workers: bool,
    ) -> None:
        self._client = client
        self._items = items
        self._ledger = ledger
        self._tally = tally
        self._front_end = front_end
        self._spec = spec
        self._limit = limit
        self._window = asyncio.Semaphore(window)
        self._queue = queue
        self._own_workers = own_workers
        self._cached = Cached(Cache(client.js), spec.cache_days) if spec.cache_days else None
        self._under_way: dict[str, Item] = {}
        self._stopped: list[Item] = []
        """What was under way when the limit was reached."""
        self._running: dict[str, Record] = {}
        self._parked: set[str] = set()
        """Tasks that wait for a batch: they take no place of the window."""
        self._closed = asyncio.Event()
        self._moved = asyncio.Event()
        """Set when a task has begun, was parked or has ended."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self.limit_reached = False
        self.hurried = False
        """Somebody who stopped the job has no patience for what runs."""
        self.withdrawn = 0
        """Tasks that were taken back while this job waited for them."""

    def stop_submitting(self) -> None:
        """Submit no more; what is under way is still waited for."""
        self._closed.set()

    def abandon(self) -> None:
        """Wait for nothing any more."""
        self._closed.set()
        for task in list(self._tasks):
            task.cancel()

    async def run(self) -> None:
        """Until every task that was submitted has its result. Raises what went wrong, if any."""
        if self._cached is not None:
            await self._cached.open()
        await self._limit.open(self._tally.cost_micro)
        watching = await self._client.connection.subscribe(
            "agentflow.live.progress.>", self._progressed
        )
        limiting = asyncio.create_task(self._end_by_limit())
        try:
            for item in self._items:
                if item is None:
                    await asyncio.sleep(0)
                    continue
                await self._window.acquire()
                if self._closed.is_set() or self._over_limit():
                    break
                submitted = asyncio.Event()
                task = asyncio.get_running_loop().create_task(self._one(item, submitted))
                self._tasks.add(task)
                task.add_done_callback(self._ended)
                if item.large:
                    await submitted.wait()  # the window's tasks at once would fill the memory
            while self._tasks:
                await asyncio.wait(list(self._tasks))
        finally:
            limiting.cancel()
            self._tally.running.clear()
            await watching.close()
        if self._error is not None:
            raise self._error
        await self._leave()

    async def _leave(self) -> None:
        """What becomes of the budget, and of what waits for it."""
        if self.limit_reached:
            await self._withdraw()
        elif not self._closed.is_set():
            await self._limit.close()

    async def _end_by_limit(self) -> None:
        """Wait for nothing any more once there is no money for it, and nothing runs."""
        try:
            while True:
                await self._limit.until_spent()
                self.limit_reached = True
                self.stop_submitting()
                self._moved.clear()
                if not await self._limit.runs(self._running.values()):
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY):
                        await self._moved.wait()
        except AgentFlowError as error:
            self._error = self._error or error
        self._stopped = list(self._under_way.values())
        self.abandon()

    async def _withdraw(self) -> None:
        """Take back what waits: it would keep others of its queue from starting."""
        async for _ in self._client.operate.withdrawing.job(self._spec.id):
            pass
        for item in self._stopped:
            record = (await self._client.read(item.task_id)).record
            if record is not None and withdrawal.was(record) and record.attempt:
                self._ledger.append(self._line(item, record))  # so that its cost is somewhere

    async def provide(self) -> None:
        """Make sure of the streams: on a new server this may come before its first worker."""
        await provision.wait_ready(self._client.js)
        for difference in await provision.ensure_streams(self._client.js):
            if difference.missing:
                raise BusError(f"{difference.name} {difference.text}")
        if not self._own_workers and await self._client.unserved(self._queue):
            self._front_end.warn(
                f"no worker serves the queue {self._queue}; the job waits until one does "
                f"(agentflow worker --queues {self._queue})"
            )

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._moved.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # One failure of the bus is the failure of all; the first says it best.
            self._error = self._error or error
            if isinstance(error, ResultsLost):
                self.abandon()  # what the others answer would have no place either
            self.stop_submitting()

    def _over_limit(self) -> bool:
        limit = self._spec.max_cost_micro
        if limit is None:
            return False
        if self._tally.cost_micro >= limit:
            self.limit_reached = True  # by results that were there, or that no budget knew of
        return self.limit_reached

    async def _one(self, item: Item, submitted: asyncio.Event) -> None:
        self._under_way[item.task_id] = item
        try:
            await self._follow(item, submitted)
            self._running.pop(item.task_id, None)
        finally:
            submitted.set()
            del self._under_way[item.task_id]
            self._tally.running.discard(item.task_id)
            if item.task_id not in self._parked:
                self._window.release()
            self._parked.discard(item.task_id)

    async def _follow(self, item: Item, submitted: asyncio.Event) -> None:
        last = await self._client.read(item.task_id)
        record = last.record
        if record is not None and self._of_the_other_kind(record):
            raise UsageError(
                f"line {item.line}: this server's log has {_kind(record)} answer for task "
                f"{item.task_id}; give the line another id, or use another --store"
            )
        if record is None and self._cached is not None:
            kept = await self._cached.line(item, self._client.js.now())
            if kept is not None:
                self._tally.cached_micro = self._cached.micro
                self._take(kept)
                return
        again = record is not None and self._goes_on(record)
        ask = asked_of(item)
        if not again:
            self._compare(item, ask, record)
        found = record is not None and record.terminal and not again
        if record is None or not found:
            if record is not None and record.state == State.WAITING:
                self._waits(item.task_id)
            waiting = await self._submit(item, last)
            item.forget()
            submitted.set()
            record = await waiting
            self._compare(item, ask, record)
        if withdrawal.was(record):
            self.withdrawn += 1
            return  # by us, or by somebody who wants no more of it: no result of any kind
        self._take(self._line(item, record), found=found)
        if self._cached is not None:
            await self._cached.keep(item, record)
        if self._of_the_other_kind(record):
            other = "with" if record.simulated else "without"
            raise UsageError(
                f"line {item.line}: task {item.task_id} got {_kind(record)} answer: a worker that "
                f"serves queue {self._queue} on this server runs {other} --simulate"
            )

    def _compare(self, item: Item, ask: Asked, record: Record | None) -> None:
        """Raise IdReused where somebody else has asked something else under its id."""
        reuse.check(item.task_id, ask, record, where=f"line {item.line}: ")

    def _line(self, item: Item, record: Record) -> Line:
        return line_of(
            record,
            line=item.line,
            request=item.request,
            simulate=self._spec.simulate,
            custom_id=item.custom_id,
            carried=item.carried,
            id=item.id,
            take=item.take,
        )

    def _take(self, line: Line, *, found: bool = False) -> None:
        self._ledger.append(line)
        self._tally.add(line, found=found)
        self._front_end.update()

    def _goes_on(self, record: Record) -> bool:
        """Whether a task that has failed is to be tried again."""
        flawed = record.reason == "schema" and "schema" in self._spec.again
        return record.failed and (self._spec.retry_failed or flawed or withdrawal.was(record))

    def _of_the_other_kind(self, record: Record) -> bool:
        """Whether the answer is simulated in a real job, or the other way round."""
        if record.kind != "claude" or not record.terminal:
            return False
        if self._spec.simulate:
            return record.state == State.SUCCEEDED and not record.simulated
        return record.simulated

    async def _submit(self, item: Item, last: Last) -> asyncio.Future[Record]:
        """Put the task into the queue unless it is there; for its result, newer than `last`."""
        task_id = item.task_id
        last = await self._brought_over(task_id, last)
        failed = last.record is not None and last.record.failed
        waiting = self._client.expect(task_id, newer_than=last.sequence if failed else 0)
        body = msgspec.structs.replace(
            item.body, labels=jobs.labels(item.body.labels, self._spec.id, item.line)
        )
        if failed:
            await self._client.retry(task_id, encode_body(self._limited(body)), queue=self._queue)
            self._tally.sent(item.id)
        elif last.record is None:
            await self._client.submit_body(self._limited(body), queue=self._queue, id=task_id)
            self._tally.sent(item.id)
        return waiting

    async def _brought_over(self, task_id: str, last: Last) -> Last:
        """Withdraw a task that waits where nobody would run it; the end of its log after that.

        A job that had its own workers may go on with those of others, or the other way round, and
        another job may have left a task that is the same as one of ours.
        """
        record = last.record
        if record is None or record.terminal or record.queue == self._queue:
            return last
        if await self._client.unserved(record.queue):
            await self._client.operate.withdrawing.one(task_id)
            return await self._client.read(task_id)
        return last

    def _limited(self, body: TaskBody) -> TaskBody:
        """The task, counting against the job's budget; it may name another one itself."""
        if self._limit.name is None or body.budget is not None:
            return body
        return msgspec.structs.replace(body, budget=self._limit.name)

    def _progressed(self, message: Message) -> None:
        task_id = subjects.record_id(message.subject)
        item = self._under_way.get(task_id)
        if item is None:
            return
        self._moved.set()
        record = decode(message.data)
        if record.state == State.WAITING:
            self._waits(task_id)
        if record.state == State.RUNNING:
            self._running[task_id] = record
            self._tally.running.add(task_id)
        else:
            self._running.pop(task_id, None)
            self._tally.running.discard(task_id)
        self._front_end.update()

    def _waits(self, task_id: str) -> None:
        """It waits for a batch: it takes no slot, and the next ones go into the same batch."""
        if task_id not in self._parked:
            self._parked.add(task_id)
            self._window.release()


def _kind(record: Record) -> str:
    return "a simulated" if record.simulated else "a real"
