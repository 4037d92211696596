"""With what a held message is done: a record in the log, and then the answer to the queue.

    succeed      the record                      ack
    park         the record and its schedule     ack
    fail         the record and a dead letter    ack
    cancel       the record                      ack
    hand_back    the record, `queued`            nak

A refused write raises: the log is another's, and the message is left alone. What was written is
told to the observers, and a final record to whoever asked for it.
"""

from __future__ import annotations

from agentflow.bus.wire.connection import Connection
from agentflow.errors import PayloadTooLarge
from agentflow.log.task import TaskLog
from agentflow.protocol import limits
from agentflow.protocol.record import Failure, Last, Record, State
from agentflow.rules import records
from agentflow.rules.records import Spent
from agentflow.worker import handed, reply
from agentflow.worker.held import Held, Holding
from agentflow.worker.observer import Observers
from agentflow.worker.parsed import Parsed


class Endings:
    """The endings of one worker's messages, and how many there were."""

    def __init__(
        self, connection: Connection, log: TaskLog, holding: Holding, observers: Observers
    ) -> None:
        self._connection = connection
        self._log = log
        self._holding = holding
        self._observers = observers
        self.done = 0
        self.failed = 0

    # Of attempts; `spent` is what they used.

    async def succeed(self, held: Held, record: Record, spent: Spent) -> Failure | None:
        """Keep a result. Where no record can hold it nothing is written: that is a failure."""
        try:
            last = await self._log.append_fitting(record)
        except PayloadTooLarge as error:
            return Failure(type="result_too_large", message=str(error))
        except (TypeError, ValueError, RecursionError) as error:
            text = f"the handler's value cannot be written as JSON: {error}"
            return Failure(type="result_not_json", message=handed.shown(text))
        self.done += 1
        self._finish(held, last)
        self._observers.ended(record, spent)
        return None

    async def park(self, held: Held, record: Record, spent: Spent | None = None) -> None:
        """Let the task wait until its time; without `spent` it was not run."""
        await self._log.park(record, held.delivered.message)
        self._holding.ack(held)
        if spent is not None:
            self._observers.ended(record, spent)

    async def fail(self, held: Held, record: Record, spent: Spent | None = None) -> None:
        """Give the task up; without `spent` it was not run."""
        last = await self._log.fail(record, held.delivered.message)
        self.failed += 1
        self._finish(held, last)
        self._observers.ended(record, spent)

    async def cancel(self, held: Held, record: Record, spent: Spent) -> None:
        """End the task because somebody asked for it."""
        self._finish(held, await self._log.append(record))
        self._observers.ended(record, spent)

    async def hand_back(self, held: Held, record: Record, spent: Spent) -> None:
        """Give the task back to the queue, for another worker."""
        held.last = await self._log.append(record)
        self._holding.give_back(held)
        self._observers.ended(record, spent)

    def settled(self, record: Record, spent: Spent | None) -> None:
        """A batch told what became of a task, and that is written."""
        self.done += record.state == State.SUCCEEDED
        self.failed += record.state == State.FAILED
        self._observers.ended(record, spent)

    # Of messages that are not run.

    async def refuse(self, parsed: Parsed, last: Last, reason: str, text: str) -> None:
        """Fail the task of a message without an attempt of ours."""
        failures = last.record.failures if last.record else 0
        record = records.failed(
            parsed.origin,
            last,
            actor=self._log.actor,
            now=self._log.now(),
            reason=reason,
            error=Failure(type=reason, message=text[: limits.ERROR_TEXT]),
            failures=failures + (reason == "worker_lost"),
        )
        await self.fail(parsed.held, record)

    def settle(self, held: Held, last: Last) -> None:
        """Ack a message that its log is past, and tell the result to whoever asked for it."""
        if last.record is not None and last.record.terminal:
            reply.answer(self._connection, held, last)
        self._holding.ack(held)

    def give_back(self, held: Held, delay: float = 0.0) -> None:
        """Nothing is written, so nothing needs to be: the message comes again."""
        self._holding.give_back(held, delay)

    def _finish(self, held: Held, last: Last) -> None:
        held.last = last
        self._holding.ack(held)
        reply.answer(self._connection, held, last)
