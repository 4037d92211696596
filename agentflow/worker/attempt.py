"""One attempt: run the handler, then write the record with which the attempt ends.

    handler returns            succeeded, ack
    handler fails              the retry table: retrying and its schedule, or failed and a dead
                               letter; ack
    time is up                 the same table
    a write is refused         leave quietly: the task belongs to another
    somebody cancelled         cancelled with the usage so far; ack
    this worker stops          queued again; nak

The handler runs in the message's own asyncio task. It can be interrupted only while it runs: a
write that has begun is always finished, because its outcome must be known.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec

from agentflow.bus.wire.connection import Connection
from agentflow.errors import InvalidTask, PayloadTooLarge, Superseded
from agentflow.handlers.contract import AttemptFailed, Handler, Outcome, Run
from agentflow.log.task import TaskLog
from agentflow.protocol.record import Failure, Last, State
from agentflow.protocol.task import Task
from agentflow.rules import records as entries
from agentflow.rules import retry, starting
from agentflow.rules.records import Origin, Spent
from agentflow.rules.retry import Signal
from agentflow.rules.routes.gates import Route
from agentflow.worker import handed, reply
from agentflow.worker.gates import Gates
from agentflow.worker.held import Ending, Held, Holding
from agentflow.worker.observer import Observers
from agentflow.worker.progress import Progress
from agentflow.worker.tokens import TokenStream

_log = logging.getLogger(__name__)


class _Failed(msgspec.Struct, frozen=True):
    """The attempt failed: what to write, and what the retry table is asked (None: no retry)."""

    failure: Failure
    signal: Signal | None = None


class Attempts:
    """Runs claimed tasks."""

    def __init__(
        self, connection: Connection, log: TaskLog, holding: Holding, gates: Gates
    ) -> None:
        self._connection = connection
        self._log = log
        self._holding = holding
        self._gates = gates
        self.observers = Observers()
        self.done = 0
        self.failed = 0

    async def run(
        self,
        held: Held,
        task: Task,
        origin: Origin,
        claim: Last,
        handler: Handler,
        route: Route | None = None,
    ) -> None:
        """Run `handler` for a task whose claim is stored. Raises Superseded."""
        assert claim.record is not None
        held.last = claim
        self.observers.claimed(claim.record, task.not_before)
        stream = TokenStream(self._connection, task.id, claim.record.attempt, self._log.actor)
        progress = Progress(self._log, held, origin)
        run = Run(
            task,
            attempt=claim.record.attempt,
            fencing_token=claim.sequence,
            emit=stream.emit,
            progress=progress.report,
            admit=self._admitted,
        )
        held.run = run
        began = time.monotonic()
        self._gates.started(route)
        try:
            result = await self._handle(held, handler, run)
        finally:
            self._gates.ended(route)
        seconds = time.monotonic() - began
        stream.flush()
        await progress.close()
        wrong = handed.wrong_in_run(run)
        if wrong:
            handed.forget_spent(run)
            result = result and _Failed(Failure(type="bad_outcome", message=wrong))
        match result:
            case None:
                await self._end_interrupted(held, origin, run, seconds)
            case _Failed():
                await self._end_failed(held, origin, run, result, seconds, route)
            case _:
                await self._end_well(held, origin, run, result, seconds)

    @asynccontextmanager
    async def _admitted(self, route: Route) -> AsyncIterator[None]:
        """One request of a task that runs; what it meets is told to all who share the route."""
        await self._gates.admit_request(route)
        self._gates.started(route)
        try:
            yield
        except AttemptFailed as error:
            decision = retry.decide(error.signal, failures=0, max_attempts=2, random=random.random)
            await self._gates.failed(route, decision, handed.tidy(error.failure))
            raise
        finally:
            self._gates.ended(route)

    # The handler.

    async def _handle(self, held: Held, handler: Handler, run: Run) -> Outcome | _Failed | None:
        """What became of the handler; None when it was interrupted (`held.ending` says why)."""
        if held.ending is not None:
            return None
        limit = asyncio.timeout(starting.time_left(run.task, self._log.now()))
        held.interruptible = True
        try:
            async with limit:
                outcome = await handler(run)
        except BaseException as error:
            # SystemExit too: a handler that calls exit() must not take the worker with it.
            current = asyncio.current_task()
            assert current is not None
            if held.ending is not None:
                # Whatever the handler made of its interruption.
                current.uncancel()
                return None
            if isinstance(error, asyncio.CancelledError) and current.cancelling():
                raise  # the process ends in disorder; the lease brings the task to another
            return self._failed(error, run, limit.expired())
        finally:
            held.interruptible = False
        wrong = handed.wrong_in_outcome(outcome)
        return _Failed(Failure(type="bad_outcome", message=wrong)) if wrong else outcome

    def _failed(self, error: BaseException, run: Run, expired: bool) -> _Failed:
        match error:
            case _ if expired:  # whatever the handler made of it
                if starting.past_deadline(run.task, self._log.now()):
                    return _Failed(Failure(type="deadline", message="its deadline has passed"))
                text = f"no result within the task's timeout of {run.task.timeout:g} s"
                return _Failed(Failure(type="timeout", message=text), Signal(exception="timeout"))
            case AttemptFailed():
                return _Failed(handed.tidy(error.failure), error.signal)
            case InvalidTask():
                return _Failed(handed.failure(error, error.reason))
            case _:
                failure = handed.failure(error)
                _log.warning(
                    "task %s: its handler raised %s: %s",
                    run.task.id,
                    failure.type,
                    failure.message[:500],
                    extra={"action": "handler", "task_id": run.task.id, "attempt": run.attempt},
                )
                return _Failed(failure, Signal(exception="handler"))

    # The endings.

    def _spent(self, run: Run, seconds: float) -> Spent:
        return Spent(
            usage=run.usage,
            cost_micro=run.cost_micro,
            run_s=seconds,
            first_token_s=run.first_token_s,
            request_id=run.request_id,
            model=run.model,
            simulated=run.simulated,
        )

    async def _end_well(
        self, held: Held, origin: Origin, run: Run, outcome: Outcome, seconds: float
    ) -> None:
        assert held.last is not None
        now = self._log.now()
        spent = self._spent(run, seconds)
        record = entries.follow(
            origin,
            held.last,
            State.SUCCEEDED,
            actor=self._log.actor,
            now=now,
            spent=spent,
            ended=now,
            text=outcome.text,
            content=outcome.content,
            stop_reason=outcome.stop_reason,
            value=outcome.value,
        )
        try:
            last = await self._log.append_fitting(record)
        except PayloadTooLarge as error:
            failure = Failure(type="result_too_large", message=str(error))
            await self._end_failed(held, origin, run, _Failed(failure), seconds)
        except (TypeError, ValueError, RecursionError) as error:
            text = f"the handler's value cannot be written as JSON: {error}"
            failure = Failure(type="result_not_json", message=handed.shown(text))
            await self._end_failed(held, origin, run, _Failed(failure), seconds)
        else:
            self.done += 1
            self._finish(held, last)
            self.observers.ended(record, spent)

    async def _end_failed(
        self,
        held: Held,
        origin: Origin,
        run: Run,
        failed: _Failed,
        seconds: float,
        route: Route | None = None,
    ) -> None:
        assert held.last is not None and held.last.record is not None
        failures = held.last.record.failures
        spent = self._spent(run, seconds)
        now = self._log.now()
        reason = failed.failure.type
        if failed.signal is not None:
            decision = retry.decide(
                failed.signal,
                failures=failures,
                max_attempts=run.task.max_attempts,
                random=random.random,
            )
            reason = decision.reason
            failures += decision.counts
            try:
                await self._gates.failed(route, decision, failed.failure)
            except Exception:
                # Whatever is wrong there, what became of this attempt must be written: it was paid.
                _log.exception(
                    "task %s: what its failure says could not be passed on",
                    origin.id,
                    extra={"action": "close", "task_id": origin.id, "attempt": run.attempt},
                )
            resume_at = now + timedelta(seconds=decision.delay)
            if decision.retry and starting.past_deadline(run.task, resume_at):
                reason = "deadline"
            elif decision.retry:
                record = entries.parked(
                    origin,
                    held.last,
                    State.RETRYING,
                    actor=self._log.actor,
                    now=now,
                    resume_at=resume_at,
                    reason=reason,
                    error=failed.failure,
                    spent=spent,
                    failures=failures,
                )
                await self._log.park(record, held.delivered.message)
                self._holding.ack(held)
                self.observers.ended(record, spent)
                return
        else:
            failures += 1
        record = entries.failed(
            origin,
            held.last,
            actor=self._log.actor,
            now=now,
            reason=reason,
            error=failed.failure,
            spent=spent,
            failures=failures,
        )
        last = await self._log.fail(record, held.delivered.message)
        self.failed += 1
        self._finish(held, last)
        self.observers.ended(record, spent)

    async def _end_interrupted(self, held: Held, origin: Origin, run: Run, seconds: float) -> None:
        assert held.last is not None
        spent = self._spent(run, seconds)
        now = self._log.now()
        match held.ending:
            case Ending.SUPERSEDED:
                text = f"task {origin.id}: another writer continued its log; the run is stopped"
                raise Superseded(text, task_id=origin.id)
            case Ending.CANCELLED:
                record = entries.cancelled(
                    held.last,
                    origin,
                    actor=self._log.actor,
                    now=now,
                    reason="cancelled",
                    spent=spent,
                )
                self._finish(held, await self._log.append(record))
                self.observers.ended(record, spent)
            case _:
                record = entries.handed_back(
                    origin, held.last, actor=self._log.actor, now=now, spent=spent
                )
                held.last = await self._log.append(record)
                self._holding.give_back(held)
                self.observers.ended(record, spent)

    def _finish(self, held: Held, last: Last) -> None:
        """Ack, and answer whoever asked for the result."""
        held.last = last
        self._holding.ack(held)
        reply.answer(self._connection, held, last)
