"""Results as they are pushed, for everybody who waits in this process.

One subscription to the live results serves all. It begins at the first need and is free of races:
subscribe, flush, then read from the leader the logs of all that are waited for, because they may
have ended before. What is submitted afterwards under a new id needs no such read. A live copy can
be lost (a reconnection, a slow reader), so all are read again after each reconnection, and those
that wait long every 15 s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from agentflow.bus.streams.pages import sequence_of
from agentflow.bus.wire.message import Message
from agentflow.client.session import Session, closed
from agentflow.errors import AgentFlowError, BusError
from agentflow.log.task import last_of
from agentflow.protocol import record as records
from agentflow.protocol import subjects
from agentflow.protocol.record import Record

_log = logging.getLogger(__name__)

CHECK_EVERY: Final = 15.0
READERS: Final = 64
_PREFIX: Final = len(subjects.LIVE_RESULTS) - 1

Deliver = Callable[[Record, int], None]
Fail = Callable[[Exception], None]


class Expected:
    """Somebody's interest in a result newer than a sequence.

    `idle` while nobody awaits it: it is delivered, but not looked for. `checked` is when the log
    was last known not to hold it, `epoch` during which unbroken subscription that was.
    """

    __slots__ = ("checked", "deliver", "epoch", "fail", "id", "idle", "newer_than")

    def __init__(self, task_id: str, deliver: Deliver, fail: Fail, newer_than: int) -> None:
        self.id = task_id
        self.deliver = deliver
        self.fail = fail
        self.newer_than = newer_than
        self.idle = False
        self.checked = 0.0
        self.epoch = 0


def failing(future: asyncio.Future[Any]) -> Fail:
    """Has a future fail."""

    def fail(error: Exception) -> None:
        if not future.done():
            future.set_exception(error)
            future.exception()  # asked for here: perhaps nobody else ever does

    return fail


class Waiting:
    """All that is waited for."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._expected: dict[str, list[Expected]] = {}
        self._started = False
        self._pushed = asyncio.Event()
        self._epoch = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        session.at_close(self._end)

    @property
    def up(self) -> bool:
        """Whether results are being pushed now."""
        return self._pushed.is_set()

    @property
    def expected(self) -> int:
        """How many tasks are waited for."""
        return len(self._expected)

    # Interest.

    def expect(
        self,
        task_id: str,
        deliver: Deliver,
        fail: Fail,
        *,
        newer_than: int = 0,
        fresh: bool = False,
        idle: bool = False,
    ) -> Expected:
        """Call `deliver` once, with the record that ends the task and its sequence.

        When the client is closed before, `fail` is called with the error that says so. `fresh`: the
        task cannot have ended yet, so its log need not be read.
        """
        expected = Expected(task_id, deliver, fail, newer_than)
        expected.idle = idle
        self._expected.setdefault(task_id, []).append(expected)
        if not self._pushed.is_set():
            self.start()  # reads what is expected by then
        else:
            expected.epoch = self._epoch
            expected.checked = self._loop.time()
            if not fresh:
                self._spawn(self._read([expected]))
        return expected

    def look_for(self, expected: Expected) -> None:
        """Somebody awaits what was idle: read its log if its result may have been missed."""
        expected.idle = False
        if not self._pushed.is_set():
            self.start()
        elif expected.epoch != self._epoch or self._loop.time() - expected.checked > CHECK_EVERY:
            self._spawn(self._read([expected]))

    def forget(self, expected: Expected) -> None:
        """Wait for it no longer."""
        interests = self._expected.get(expected.id)
        if interests is not None and expected in interests:
            interests.remove(expected)
            if not interests:
                del self._expected[expected.id]

    # The subscription.

    def start(self) -> None:
        """Begin to listen; `up` turns true when results are pushed."""
        if not self._started:
            connection = self._session.connection
            self._started = True
            connection.on_disconnect(self._lost)
            connection.on_connect(self._catch_up)
            self._spawn(self._listen())
            self._spawn(self._look_again())

    async def ready(self) -> None:
        """Return when results are pushed, so that new tasks need no read."""
        self._session.check()
        self.start()
        await self._pushed.wait()

    async def _listen(self) -> None:
        await self._session.connection.subscribe(subjects.LIVE_RESULTS, self._arrived)
        await self._catch_up()

    async def _catch_up(self) -> None:
        """Read the logs of all that is awaited, once the subscription is in place."""
        pause = 0.1
        connection = self._session.connection
        while True:
            try:
                await connection.flush()
                break
            except BusError as error:
                _log.debug("listening for results: %s", error)
                if not connection.connected.is_set():
                    return  # the reconnection calls again
                await asyncio.sleep(pause)
                pause = min(2 * pause, 2.0)
        self._epoch += 1
        self._pushed.set()
        await self._read([expected for expected in self._all() if not expected.idle])

    def _lost(self) -> None:
        self._pushed.clear()

    def _end(self) -> None:
        """Deliver no more, and tell those who wait: nothing will."""
        self._pushed.clear()
        for expected in self._all():
            expected.fail(closed())
        self._expected.clear()
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Results.

    def _arrived(self, message: Message) -> None:
        task_id = message.subject[_PREFIX:]
        if task_id in self._expected:
            record = records.decode(message.data, message.subject)
            self._settle(task_id, record, sequence_of(message))

    def _settle(self, task_id: str, record: Record, sequence: int) -> None:
        if not record.terminal:
            return
        interests = self._expected.get(task_id)
        if interests is None:
            return
        served = [expected for expected in interests if sequence > expected.newer_than]
        if len(served) == len(interests):
            del self._expected[task_id]
        else:
            interests[:] = [expected for expected in interests if sequence <= expected.newer_than]
        for expected in served:
            expected.deliver(record, sequence)

    # Looking into logs.

    def _all(self) -> list[Expected]:
        return [expected for interests in self._expected.values() for expected in interests]

    async def _read(self, wanted: list[Expected]) -> None:
        pending = iter(wanted)

        async def reader() -> None:
            for expected in pending:
                await self._read_one(expected)

        await asyncio.gather(*(reader() for _ in range(min(READERS, len(wanted)))))

    async def _read_one(self, expected: Expected) -> None:
        if expected not in self._expected.get(expected.id, ()):
            return
        epoch = self._epoch
        try:
            stored = await self._session.js.last(subjects.RECORDS, subjects.log(expected.id))
        except AgentFlowError as error:
            # The next round reads it again.
            _log.debug("reading the log of %s: %s", expected.id, error)
            return
        expected.epoch = epoch
        expected.checked = self._loop.time()
        last = last_of(stored)
        if last.record is not None:
            self._settle(expected.id, last.record, last.sequence)

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY / 3)
            if self._pushed.is_set():
                old = self._loop.time() - CHECK_EVERY
                await self._read(
                    [
                        expected
                        for expected in self._all()
                        if not expected.idle and expected.checked < old
                    ]
                )
