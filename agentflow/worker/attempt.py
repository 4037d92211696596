"""One attempt at a task, from the gate to the record with which it ends.

    admit    wait, unclaimed and without a record, until the task may start and budgets hold its
             money; what came too early is parked, what came too late is failed; fetch what is too
             long for a message
    claim    write `running` after what the log ends with
    run      the handler, within the task's time
    end      write what became of it, and answer the queue (endings.py)

    handler returns            succeeded
    handler fails              the retry table: retrying and its schedule, or failed
    time is up                 the same table
    a write is refused         leave quietly: the task belongs to another
    somebody cancelled         cancelled with the usage so far
    this worker stops          queued again

All of it runs in the message's own asyncio task. It can be interrupted only while it waits at the
gate and while the handler runs: a write that has begun is always finished, because its outcome must
be known.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Coroutine
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from agentflow import waits
from agentflow.errors import InvalidTask, PayloadLost, Superseded
from agentflow.governor.call import Call
from agentflow.handlers.contract import AttemptFailed, Handler, Outcome, Run
from agentflow.protocol import limits
from agentflow.protocol.record import Failure, Last, Record, State
from agentflow.rules import records, retry, starting, withdrawal
from agentflow.rules.records import Spent
from agentflow.rules.retry import Signal
from agentflow.rules.routes.closures import Blame
from agentflow.rules.routes.route import Route
from agentflow.rules.starting import Arrival, IntoBatch, Park, TooLate, Verdict
from agentflow.worker import failed, handed, purse
from agentflow.worker.deaf import LeftBehind
from agentflow.worker.failed import Failed
from agentflow.worker.gates import REFUSED
from agentflow.worker.held import Ending, Interrupted
from agentflow.worker.parsed import Parsed
from agentflow.worker.progress import Progress
from agentflow.worker.purse import FilledPurse
from agentflow.worker.shared import Shared
from agentflow.worker.tokens import TokenStream

_log = logging.getLogger(__name__)


class Attempt:
    """An attempt at the task of a message, after what its log ends with."""

    __slots__ = (
        "_before",
        "_began",
        "_call",
        "_handler",
        "_held",
        "_left",
        "_opening",
        "_origin",
        "_parsed",
        "_probe",
        "_progress",
        "_purse",
        "_route",
        "_run",
        "_seconds",
        "_shared",
        "_stream",
        "_task",
    )
    _handler: Handler
    _progress: Progress
    _run: Run
    _stream: TokenStream

    def __init__(self, shared: Shared, parsed: Parsed, last: Last) -> None:
        assert parsed.task is not None
        self._shared = shared
        self._parsed = parsed
        self._held = parsed.held
        self._task = parsed.task
        self._origin = parsed.origin
        self._before = last
        self._route: Route | None = None
        self._call: Call | None = None
        self._began = 0.0
        self._probe = False
        self._purse: FilledPurse | None = None
        self._opening: asyncio.Task[None] | None = None
        self._seconds = 0.0
        self._left = False

    async def go(self) -> None:
        """From stage to stage. Raises Superseded, BusError."""
        if self._may_start() or await self.admit():
            try:
                if self._task.payload is None:
                    await self._go_on()
                else:
                    await self._go_whole()
            finally:
                self._shared.gates.left(self._call)
                if (spans := self._shared.spans) is not None:
                    spans.left(self._origin.id)

    async def _go_on(self) -> None:
        try:
            await self.claim()
        except BaseException:
            self._put_back()
            raise
        await self.end(await self.run())

    async def _go_whole(self) -> None:
        """Fetch what the task says besides its message, and go on where that is there."""
        shared = self._shared
        async with contextlib.AsyncExitStack() as room:
            try:
                with self._held.interruptible():
                    self._task = await room.enter_async_context(shared.large.whole(self._task))
            except (PayloadLost, InvalidTask) as error:
                reason = error.reason if isinstance(error, InvalidTask) else "payload_lost"
                await self._not_asked()
                await shared.endings.refuse(self._parsed, self._before, reason, str(error))
                return
            except Interrupted:
                await self._not_asked()
                shared.endings.give_back(self._held)
                return
            await self._go_on()

    async def _not_asked(self) -> None:
        """Let others have the money, and be the probe of the route, where this one was to be it."""
        self._put_back()
        if self._route is not None:
            await self._shared.gates.settle(self._route, probe=self._probe, answered=False)

    # Admit.

    def _may_start(self) -> bool:
        """Whether nothing is to be asked or waited for: the plain case, of which there are many."""
        shared, task = self._shared, self._task
        handlers = shared.kinds.handlers
        if not starting.is_plain(task, handlers):
            return False
        self._choose()
        if shared.gates.budgets.scopes(task, self._route):
            return False  # there is money to be held
        return shared.gates.open(task.queue, task.kind, self._route, self._call)

    def _choose(self) -> None:
        """Who runs the task, by which route, and what that asks of the route."""
        shared, task = self._shared, self._task
        kind = task.kind
        self._handler = shared.kinds.handlers[kind]
        self._route = shared.kinds.route(task)
        if self._route is not None and self._call is None:
            self._call = shared.gates.governor.call(
                self._route,
                (kind, task.labels.get("job", "")),
                self._size,
                task.max_tokens,
                shared.kinds.metered(kind),
            )
            if self._call is not None:
                self._call.name = task.id

    async def admit(self) -> bool:
        """Return when the task may start; False where it does not, and is dealt with."""
        shared, task = self._shared, self._task
        while not self._may_start():
            if not starting.is_plain(task, shared.kinds.handlers):
                match self._verdict():
                    case Park() as park:
                        await self._park(park)
                        return False
                    case TooLate(reason=reason, text=text):
                        await shared.endings.refuse(self._parsed, self._before, reason, text)
                        return False
                    case IntoBatch():
                        await shared.into_batches.park(self._parsed, self._before)
                        return False
            self._choose()
            try:
                with self._held.interruptible():
                    async with asyncio.timeout(self._batch_in()):
                        passed = await self._pass_gates()
                    if passed:
                        return True
            except TimeoutError:
                continue  # it has waited for so long that it goes into a batch
            except Interrupted:
                self._put_back()
                shared.gates.left(self._call)
                shared.endings.give_back(self._held)
                return False
            except AttemptFailed as failed:
                shared.gates.left(self._call)
                await self._end_at_gate(failed)
                return False
        return True

    async def _pass_gates(self) -> bool:
        """Whether the task may start now, with the money it needs; else it is to be asked again."""
        shared, task = self._shared, self._task
        await self._afford()
        if shared.gates.open(task.queue, task.kind, self._route, self._call):
            return True
        self._put_back()  # others may spend it meanwhile
        self._probe = await shared.gates.admit(task.queue, task.kind, self._route, self._call)
        if self._probe or (self._call is not None and self._call.probing):
            await self._afford()
            return True
        return False

    async def _afford(self) -> None:
        """Hold what the first request may cost, where a budget limits it. Raises AttemptFailed."""
        shared = self._shared
        # Of a lost worker the task would be shown as running for as long as it waits.
        patient = self._before.state != State.RUNNING
        self._purse = await purse.filled(
            shared.gates, shared.kinds, self._task, self._route, patient=patient
        )

    def _put_back(self) -> None:
        """Hold no money; nothing was asked."""
        if self._purse is not None:
            self._purse.close(0)
            self._purse = None

    async def _end_at_gate(self, error: AttemptFailed) -> None:
        """Park the task of a lost worker, or fail one that no budget will let pass."""
        log, before = self._shared.log, self._before.record
        signal = error.signal
        if signal.retry_after is None:
            text = error.failure.message
            reason = retry.rule_of(signal).reason
            await self._shared.endings.refuse(self._parsed, self._before, reason, text)
            return
        record = records.parked(
            self._origin,
            self._before,
            State.RETRYING,
            actor=log.actor,
            now=log.now(),
            resume_at=log.now() + timedelta(seconds=signal.retry_after),
            reason=retry.rule_of(signal).reason,
            error=error.failure,
            failures=before.failures + 1 if before else 0,
        )
        await self._shared.endings.park(self._held, record)

    def _arrival(self) -> Arrival:
        before = self._before.record
        return Arrival(
            submitted=(before and before.timings.submitted) or self._origin.submitted,
            attempts=before.attempt if before else 0,
            original=self._parsed.delivery.follows == 0 or withdrawal.was(before),
            failures=before.failures if before else 0,
            taken_over=self._before.state == State.RUNNING,
        )

    def _batch_in(self) -> float | None:
        return starting.batch_in(self._task, self._arrival(), self._shared.log.now())

    def _verdict(self) -> Verdict:
        kinds = self._shared.kinds
        return starting.verdict(
            self._task,
            self._arrival(),
            kinds.handlers,
            now=self._shared.log.now(),
            unknown_kind_for=kinds.unknown_kind_for,
        )

    async def _park(self, park: Park) -> None:
        log = self._shared.log
        record = records.parked(
            self._origin,
            self._before,
            park.state,
            actor=log.actor,
            now=log.now(),
            resume_at=park.until,
            reason=park.reason,
        )
        await self._shared.endings.park(self._held, record)

    @property
    def _size(self) -> int:
        """Bytes of the task, those besides its message included."""
        payload = self._task.payload
        return len(self._held.delivered.message.data) + (payload.size if payload else 0)

    # Claim.

    async def claim(self) -> None:
        """Write that the attempt begins. Raises Overtaken where another one was first."""
        log = self._shared.log
        record = records.claimed(self._origin, self._before, actor=log.actor, now=log.now())
        if (spans := self._shared.spans) is not None:
            delivered, before = self._held.delivered, self._before.record
            record = spans.begin(record, delivered.message.headers, delivered.stored_ns, before)
        self._held.last = await log.append(record)
        self._shared.observers.claimed(record, self._task.not_before)

    # Run.

    async def run(self) -> Outcome | Failed | None:
        """What became of the handler; None when it was interrupted."""
        shared, held = self._shared, self._held
        claim = held.last
        assert claim is not None and claim.record is not None
        attempt = claim.record.attempt
        stream = self._stream = held.stream = TokenStream(
            shared.connection,
            self._task.id,
            attempt,
            shared.log.actor,
            # A pattern may lie across two messages.
            silent=shared.log.redaction is not None,
        )
        progress = self._progress = Progress(shared.log, held, self._origin)
        run = self._run = held.run = Run(
            self._task,
            attempt=attempt,
            fencing_token=claim.sequence,
            emit=stream.emit,
            progress=progress.report,
            admit=partial(shared.gates.request, task_id=self._task.id, again=self._waited_for),
            answered=self._answered,
            purse=self._purse,
        )
        self._began = time.monotonic()
        shared.gates.started(self._route, self._call, run)
        try:
            result = await self._handle(run)
        except BaseException:
            if self._left:
                raise LeftBehind from None
            shared.gates.ended(self._route, self._call)
            raise
        if self._left:
            raise LeftBehind
        return await self._close(result)

    async def _close(self, result: Outcome | Failed | None) -> Outcome | Failed | None:
        """The run is over: take no more from it, and see whether a record can hold what it gave."""
        run = self._run
        run.over = True
        signal = result.signal if isinstance(result, Failed) else None
        refused = signal is not None and signal.status == REFUSED
        self._shared.gates.ended(self._route, self._call, refused=refused)
        self._seconds = time.monotonic() - self._began
        self._stream.flush()
        await self._progress.close()
        wrong = handed.wrong_in_run(run)
        if self._purse is not None:
            self._purse.close(None if wrong else run.cost_micro)
        if wrong:
            handed.forget_spent(run)
            result = result and failed.by_outcome(wrong)
        return result

    def _answered(self) -> None:
        """The API answers: nobody needs to wait for the end of it."""
        if self._call is not None:
            self._shared.gates.governor.answered(self._call)
        routes, route = self._shared.gates.routes, self._route
        if route is not None and routes.answered(route, probe=self._probe):
            opening = routes.opened(route, probe=self._probe)
            self._probe = False
            self._opening = asyncio.get_running_loop().create_task(opening)

    async def _handle(self, run: Run) -> Outcome | Failed | None:
        log, held = self._shared.log, self._held
        left = starting.time_left(run.task, log.now())
        limit = asyncio.timeout(left)
        held.end_without, held.over_at = self.leave, self._began + left
        waits.current.set(run.waits)
        try:
            with held.interruptible():
                async with limit:
                    outcome = await self._handler(run)
        except Interrupted:
            return None
        except BaseException as error:
            # SystemExit too: a handler that calls exit() must not take the worker with it.
            current = asyncio.current_task()
            assert current is not None
            if isinstance(error, asyncio.CancelledError) and current.cancelling():
                raise  # the process ends in disorder; the lease brings the task to another
            if limit.expired():
                return failed.by_time(run, log.now())
            return failed.by_error(error, run)
        finally:
            held.end_without = held.over_at = None
        if wrong := handed.wrong_in_outcome(outcome):
            return failed.by_outcome(wrong)
        if wrong := handed.unfaithful(outcome):
            return failed.by_outcome(f"task {run.task.id}: {wrong}", "result_not_json")
        return outcome

    def leave(self) -> Coroutine[Any, Any, None]:
        """End without the handler, which does not hear that its run is over. Raises as `end`."""
        self._left = True
        return self._end_without()

    async def _end_without(self) -> None:
        result = None
        if self._held.ending is None:
            result = failed.by_deafness(self._run, self._shared.log.now())
        await self.end(await self._close(result))

    # End.

    async def end(self, result: Outcome | Failed | None) -> None:
        """Write what became of it. Raises Superseded, BusError."""
        if self._opening is not None:
            await self._opening
        if self._route is not None and not (isinstance(result, Failed) and result.signal):
            # What has a signal is judged below; what has none says nothing of the route.
            answered = isinstance(result, Outcome)
            await self._shared.gates.settle(self._route, probe=self._probe, answered=answered)
        run = self._run
        spent = Spent(
            usage=run.usage,
            cost_micro=run.cost_micro,
            run_s=self._seconds,
            first_token_s=run.first_token_s,
            request_id=run.request_id,
            model=run.model,
            simulated=run.simulated,
            usage_told=run.usage_told,
            unpriced=run.unpriced,
            estimated=run.estimated,
            assumed=run.assumed or None,
            repair=run.repair,
        )
        match result:
            case Outcome():
                record = self._succeeded(result, spent)
                unfit = await self._shared.endings.succeed(self._held, record, spent)
                if unfit is not None:
                    await self._give_up(unfit, spent)
            case Failed(signal=None):
                await self._give_up(result.failure, spent)
            case Failed(signal=Signal() as signal):
                await self._try_again(result, signal, spent)
            case None:
                await self._end_interrupted(spent)

    def _succeeded(self, outcome: Outcome, spent: Spent) -> Record:
        log, last = self._shared.log, self._held.last
        assert last is not None
        now = log.now()
        return records.follow(
            self._origin,
            last,
            State.SUCCEEDED,
            actor=log.actor,
            now=now,
            spent=spent,
            ended=now,
            text=outcome.text,
            content=outcome.content,
            stop_reason=outcome.stop_reason,
            value=outcome.value,
        )

    @property
    def _waited_for(self) -> str:
        """The reason for which the task was parked before this attempt."""
        before = self._before.record
        parked = before is not None and before.state == State.RETRYING
        return (before.reason or "") if before is not None and parked else ""

    async def _try_again(self, result: Failed, signal: Signal, spent: Spent) -> None:
        """Park the task for another attempt, or give it up.

        Where it is the route's failure it waits with the others; else the retry table says it.
        """
        log, last = self._shared.log, self._held.last
        assert last is not None and last.record is not None
        now = log.now()
        decision = retry.decide(
            signal,
            failures=last.record.failures,
            max_attempts=self._task.max_attempts,
            chance=random.random(),
        )
        resume_at = result.resume_at or await self._route_opens(result.failure, signal)
        failures = last.record.failures
        again = resume_at is not None
        if resume_at is None:
            again, failures = decision.retry, failures + decision.counts
            resume_at = now + timedelta(seconds=decision.delay)
        if not again or self._is_too_late(resume_at):
            reason = "deadline" if again else decision.reason
            await self._give_up(result.failure, spent, reason=reason, failures=failures)
            return
        record = records.parked(
            self._origin,
            last,
            State.RETRYING,
            actor=log.actor,
            now=now,
            resume_at=resume_at,
            reason=decision.reason,
            error=result.failure,
            spent=spent,
            failures=failures,
        )
        await self._shared.endings.park(self._held, self._with_partial(record), spent)

    def _is_too_late(self, resume_at: datetime) -> bool:
        """Whether nothing may run then: its deadline, or six days for want of one."""
        last = self._held.last
        submitted = last and last.record and last.record.timings.submitted
        if self._task.deadline is None and submitted:
            return (resume_at - submitted).total_seconds() > limits.HORIZON
        return starting.past_deadline(self._task, resume_at)

    async def _route_opens(self, failure: Failure, signal: Signal) -> datetime | None:
        """When the route may be open again, where it is its failure and not the task's."""
        if self._route is None:
            return None
        gates, effect = self._shared.gates, retry.route_effect(signal)
        reason = retry.rule_of(signal).reason
        try:
            verdict = await gates.routes.refused(
                self._route,
                effect,
                failure,
                self._task.id,
                probe=self._probe,
                again=reason == self._waited_for,
            )
            if verdict is None:
                answered = signal.status is not None
                await gates.settle(self._route, probe=self._probe, answered=answered)
        except Exception:
            # Whatever is wrong there, what became of this attempt must be written: it was paid.
            _log.exception(
                "task %s: what its failure says could not be passed on",
                self._origin.id,
                extra=self._facts("close"),
            )
            return None
        own = verdict is None or verdict.blame is Blame.TASK
        return None if own or verdict is None else verdict.resume_at

    def _facts(self, action: str) -> dict[str, object]:
        """For the log."""
        return {"action": action, "task_id": self._origin.id, "attempt": self._run.attempt}

    async def _give_up(
        self,
        failure: Failure,
        spent: Spent,
        *,
        reason: str | None = None,
        failures: int | None = None,
    ) -> None:
        """Fail the task; `reason` and `failures` are those of what it failed with, and one more."""
        log, last = self._shared.log, self._held.last
        assert last is not None and last.record is not None
        record = records.failed(
            self._origin,
            last,
            actor=log.actor,
            now=log.now(),
            reason=failure.type if reason is None else reason,
            error=failure,
            spent=spent,
            failures=last.record.failures + 1 if failures is None else failures,
        )
        await self._shared.endings.fail(self._held, self._with_partial(record), spent)

    def _with_partial(self, record: Record) -> Record:
        """With what an answer that broke off had brought: it was bought."""
        some = self._run.partial
        if some is None:
            return record
        whole = record.reason == retry.SCHEMA
        return records.with_partial(
            record, some.text, some.content, some.stop_reason or "end_turn" if whole else None
        )

    async def _end_interrupted(self, spent: Spent) -> None:
        shared, held, origin, last = self._shared, self._held, self._origin, self._held.last
        assert last is not None
        actor, now = shared.log.actor, shared.log.now()
        match held.ending:
            case Ending.SUPERSEDED:
                text = f"task {origin.id}: another writer continued its log; the run is stopped"
                raise Superseded(text, task_id=origin.id)
            case Ending.CANCELLED:
                record = records.cancelled(
                    origin, last, actor=actor, now=now, reason="cancelled", spent=spent, by=held.by
                )
                await shared.endings.cancel(held, self._with_partial(record), spent)
            case _:
                record = records.handed_back(origin, last, actor=actor, now=now, spent=spent)
                await shared.endings.hand_back(held, self._with_partial(record), spent)
