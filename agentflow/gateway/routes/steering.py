"""Cancel and retry: one task, some by id, or all that fit; `dry_run` only counts them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final

import msgspec
from aiohttp import web

from agentflow.client.operate.bulk import Selection
from agentflow.client.operate.deadletters import DeadFilter
from agentflow.client.operate.deadletters import Outcome as Letter
from agentflow.errors import TaskError
from agentflow.gateway.http.call import Call, answer
from agentflow.gateway.http.problems import Refusal
from agentflow.gateway.http.route import Route
from agentflow.gateway.routes.reading import known
from agentflow.protocol import jobs, limits, subjects
from agentflow.protocol.record import State, Usage

NAMED: Final = 1000
"""Tasks that an answer names."""


Age = Annotated[float, msgspec.Meta(ge=0, le=10 * 365 * limits.DAY)]
"""Seconds."""


class TaskSelection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks have to end; all conditions must hold. `ids` stand alone."""

    ids: list[str] = []
    state: list[str] = []
    queue: str | None = None
    labels: dict[str, str] = {}
    job: str = ""
    dry_run: bool = False


class LetterSelection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which failed tasks; all conditions must hold. `ids` stand alone; `older_than` is seconds."""

    ids: list[str] = []
    reason: str | None = None
    queue: str | None = None
    labels: dict[str, str] = {}
    job: str = ""
    older_than: Age | None = None
    fingerprint: str | None = None
    dry_run: bool = False


class RetryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`queue`: another one than it was in."""

    queue: str | None = None


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """A task that was to be cancelled. `cancelled` is False where it had ended before."""

    id: str
    state: str
    cancelled: bool
    sequence: int
    usage: Usage
    cost_usd: float | None


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """A task that runs again: its result will be newer than `sequence`."""

    id: str
    sequence: int


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of many: how many were meant, how many it was done to, and why not to others.

    With `dry_run` nothing was done; `states` counts what was meant.
    """

    matched: int
    done: int
    dry_run: bool
    states: dict[str, int] = {}
    failed: dict[str, str] = {}


_select = msgspec.json.Decoder(TaskSelection)
_letters = msgspec.json.Decoder(LetterSelection)
_retrying = msgspec.json.Decoder(RetryRequest)


async def _cancel(call: Call) -> web.Response:
    row = await known(call, call.name)
    ended = await call.gateway.client.tasks.steering.end(call.name, message=row.message)
    result = ended.result
    return answer(
        Cancelled(
            id=result.id,
            state=result.state,
            cancelled=result.state == State.CANCELLED and not ended.already,
            sequence=result.sequence,
            usage=result.usage,
            cost_usd=result.cost_usd,
        )
    )


async def _retry(call: Call) -> web.Response:
    await known(call, call.name)
    queue = (await call.body(_retrying)).queue if call.request.can_read_body else None
    if queue is not None and not call.who.reaches(subjects.check_queue(queue)):
        raise Refusal(403, f"the token is bound to {', '.join(sorted(call.who.queues))}")
    handle = await call.gateway.client.retry(call.name, queue=queue)
    return answer(Retried(id=handle.id, sequence=handle.newer_than), 202)


async def _cancel_all(call: Call) -> web.Response:
    wanted = await call.body(_select)
    queue = _reached(call, wanted.queue)
    bulk = call.gateway.client.operate.bulk
    if wanted.ids:
        return await _cancel_ids(call, wanted)
    labels = await _labels(call, wanted.labels, wanted.job)
    if not (wanted.state or wanted.queue or labels):
        raise _nothing()
    selection = Selection(states=tuple(wanted.state), queue=queue, label=labels)
    if wanted.dry_run:
        counts = await bulk.count(selection)
        return answer(Done(matched=sum(counts.values()), done=0, dry_run=True, states=counts))
    matched = done = 0
    async with aclosing(bulk.cancel(selection)) as outcomes:
        async for outcome in outcomes:
            matched += 1
            done += not outcome.already
    return answer(Done(matched=matched, done=done, dry_run=False))


async def _cancel_ids(call: Call, wanted: TaskSelection) -> web.Response:
    ids = await _of_caller(call, wanted.ids)
    if wanted.dry_run:
        return answer(Done(matched=len(ids), done=0, dry_run=True))
    failed: dict[str, str] = {}
    done = 0
    async with aclosing(call.gateway.client.operate.bulk.cancel_ids(ids)) as outcomes:
        async for task_id, outcome in outcomes:
            if isinstance(outcome, TaskError):
                failed[task_id] = str(outcome)
            elif outcome.already:
                failed[task_id] = f"it had ended before: {outcome.result.state}"
            else:
                done += 1
    return answer(_done(len(ids), done, failed))


async def _retry_all(call: Call) -> web.Response:
    return await letters(call, "retry")


async def letters(call: Call, act: str) -> web.Response:
    """Retry or drop the dead letters that the body selects."""
    wanted = await call.body(_letters)
    queue = _reached(call, wanted.queue)
    dead = call.gateway.client.dead
    one = dead.retry_one if act == "retry" else dead.drop_one
    failed: dict[str, str] = {}
    matched = done = 0
    if wanted.ids:
        for task_id in await _of_caller(call, wanted.ids):
            matched += 1
            if not wanted.dry_run:
                outcome = await one(task_id)
                done += outcome.done
                if not outcome.done:
                    failed[task_id] = outcome.text
        return answer(_done(matched, done, failed, dry_run=wanted.dry_run))
    chosen = DeadFilter(
        reason=wanted.reason,
        queue=queue,
        label=await _labels(call, wanted.labels, wanted.job),
        older_than=wanted.older_than,
        fingerprint=wanted.fingerprint,
    )
    if chosen == DeadFilter(queue=queue if wanted.queue is None else None):
        raise _nothing()
    if wanted.dry_run:
        async with aclosing(dead.letters(chosen, errors=False)) as found:
            async for _ in found:
                matched += 1
        return answer(Done(matched=matched, done=0, dry_run=True))
    work: AsyncGenerator[Letter] = dead.retry(chosen) if act == "retry" else dead.drop(chosen)
    async with aclosing(work) as outcomes:
        async for outcome in outcomes:
            matched += 1
            done += outcome.done
            if not outcome.done and len(failed) < NAMED:
                failed[outcome.id] = outcome.text
    return answer(_done(matched, done, failed))


def _done(matched: int, done: int, failed: dict[str, str], *, dry_run: bool = False) -> Done:
    return Done(matched=matched, done=done, dry_run=dry_run, failed=failed)


def _nothing() -> Refusal:
    return Refusal(422, "an empty selection is refused: say which tasks")


def _reached(call: Call, queue: str | None) -> str | None:
    """The queue that a selection is in. Raises Refusal for one out of reach."""
    bound = call.who.queues
    if not bound:
        return None if queue is None else subjects.check_queue(queue)
    if queue is None and len(bound) == 1:
        return next(iter(bound))
    if queue is None or queue not in bound:
        raise Refusal(403, f"the token is bound to {', '.join(sorted(bound))}: name one as queue")
    return queue


async def _labels(call: Call, labels: dict[str, str], job: str) -> dict[str, str]:
    if not job:
        return labels
    found = await call.gateway.client.operate.jobs.find(job)
    return {**labels, jobs.LABEL: found.id}


async def _of_caller(call: Call, ids: list[str]) -> list[str]:
    """The ids, each once. Raises TaskNotFound for one in a queue that is not the caller's."""
    chosen = [subjects.check_id(task_id) for task_id in dict.fromkeys(ids)]
    if call.who.queues:
        for task_id in chosen:
            await known(call, task_id)
    return chosen


ROUTES: Final = [
    Route(
        method="POST",
        path="/v1/tasks/{name}/cancel",
        do=_cancel,
        says="End a task that has not ended.",
        role="submitter",
        scoped=True,
        answer=Cancelled,
    ),
    Route(
        method="POST",
        path="/v1/tasks/{name}/retry",
        do=_retry,
        says="Run a failed task again.",
        role="operator",
        scoped=True,
        body=RetryRequest,
        answer=Retried,
        status=202,
    ),
    Route(
        method="POST",
        path="/v1/tasks/cancel",
        do=_cancel_all,
        says="End all tasks that fit and have not ended.",
        role="operator",
        scoped=True,
        body=TaskSelection,
        answer=Done,
    ),
    Route(
        method="POST",
        path="/v1/tasks/retry",
        do=_retry_all,
        says="Run all failed tasks that fit again.",
        role="operator",
        scoped=True,
        body=LetterSelection,
        answer=Done,
    ),
]
