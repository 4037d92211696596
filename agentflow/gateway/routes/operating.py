"""Queues, kinds, workers, jobs, dead letters, limits, budgets, costs: what there is, and the acts.

Each act is the call that the command line makes (client/operate).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web

from agentflow.client.operate import budgets
from agentflow.client.operate.budgets import Standing
from agentflow.client.operate.costs import costs
from agentflow.client.operate.deadletters import DeadFilter, DeadLetter
from agentflow.client.operate.webhooks import checked
from agentflow.dashboard.reader.scene import Answers, Scene
from agentflow.dashboard.rows.queues import Queue, queues
from agentflow.dashboard.rows.workers import Worker, workers
from agentflow.errors import UsageError
from agentflow.gateway.http.call import Call, answer
from agentflow.gateway.http.problems import Refusal
from agentflow.gateway.http.route import Route
from agentflow.gateway.routes import steering
from agentflow.gateway.routes.reading import instant_of
from agentflow.gateway.routes.steering import Age
from agentflow.gateway.webhooks import KNOWN
from agentflow.protocol import limits, subjects
from agentflow.protocol.api import GateView, StatsView, WorkerView
from agentflow.protocol.webhooks import Webhook
from agentflow.rules import destinations
from agentflow.rules.draining import DrainView
from agentflow.rules.routes import budgets as rules
from agentflow.rules.withdrawal import Step
from agentflow.views import gates as gateviews
from agentflow.views.batches import BatchView
from agentflow.views.failures import FailureGroup
from agentflow.views.jobs import JobRow, row_of_job
from agentflow.views.limits import RouteView
from agentflow.views.spending import Spending

KEPT: Final = 10.0
"""Seconds for which a sum over all records is told again."""
_SCOPE: Final = r"[^/]{1,200}"
_KIND: Final = limits.KIND_PATTERN
_WORKER: Final = r"[A-Za-z0-9._-]{1,80}"


class Reason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`reason` stands beside the pause; a drain waits `timeout` seconds at most."""

    reason: str = "operator"
    timeout: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 30.0


class BudgetLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A budget: US dollars, begun anew `per` day or month, and what becomes of what has no room."""

    limit_usd: Annotated[float, msgspec.Meta(gt=0)]
    per: Literal["", "day", "month"] = ""
    on_limit: Literal["wait", "fail"] = "wait"
    raises: bool = False
    """Only give the budget that is there another limit."""


class KindRow(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of task: how many workers run it, and whether it is paused."""

    kind: str
    workers: int
    running: int
    paused: bool


class Lifted(msgspec.Struct, frozen=True):
    """What stood and was lifted."""

    lifted: list[GateView]


class Withdrawn(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken back of a job; `running` tasks go on."""

    job: str
    withdrawn: int
    running: int


class DeadQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters; `label` is name=value, `older_than` seconds, `after` a sequence."""

    reason: str | None = None
    queue: str | None = None
    label: list[str] = []
    older_than: Age | None = None
    fingerprint: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    after: int = 0


class DeadLetters(msgspec.Struct, frozen=True):
    """Dead letters, the oldest first; `next` is `after` of the following page."""

    letters: list[DeadLetter]
    next: int | None


class CostQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`by`: queue, kind, model, day or names of labels, with commas; `since`: as for tasks."""

    by: str = ""
    since: str = ""


_why = msgspec.json.Decoder(Reason)
_limit = msgspec.json.Decoder(BudgetLimit)
_hook = msgspec.json.Decoder(Webhook)


async def _reason(call: Call) -> Reason:
    return await call.body(_why) if call.request.can_read_body else Reason()


def _scene(call: Call) -> Scene:
    gateway = call.gateway
    return Scene(gateway.store, gateway.now, Answers(), [])


# Queues and kinds.


async def _queues(call: Call) -> web.Response:
    reach = call.who.reaches
    return answer([queue for queue in queues(_scene(call)) if reach(queue.queue)])


async def _kinds(call: Call) -> web.Response:
    counts: dict[str, list[int]] = {}
    now = call.gateway.now
    for actor in call.gateway.store.workers():
        if actor.lost(now):
            continue
        for kind in actor.beat.kinds:
            counts.setdefault(kind, [0, 0])[0] += 1
        for work in actor.beat.work.values():
            for kind, number in work.items():
                counts.setdefault(kind, [0, 0])[1] += number
    paused = {gate.name for gate in call.gateway.store.gates if gate.what == gateviews.KIND}
    for kind in paused:
        counts.setdefault(kind, [0, 0])
    found = [
        KindRow(kind=kind, workers=number, running=running, paused=kind in paused)
        for kind, (number, running) in sorted(counts.items())
    ]
    return answer(found)


def _reachable(call: Call, queue: str) -> str:
    if not call.who.reaches(subjects.check_queue(queue)):
        raise Refusal(403, f"the token is bound to {', '.join(sorted(call.who.queues))}")
    return queue


async def _pause_queue(call: Call) -> web.Response:
    queue, why = _reachable(call, call.name), await _reason(call)
    return answer(await call.gateway.client.pause(queue, reason=why.reason))


async def _resume_queue(call: Call) -> web.Response:
    return answer(Lifted(await call.gateway.client.resume(_reachable(call, call.name))))


async def _drain_queue(call: Call) -> web.Response:
    queue, why = _reachable(call, call.name), await _reason(call)
    client = call.gateway.client
    return answer(await client.drain_tasks(queue, reason=why.reason, timeout=why.timeout))


async def _pause_kind(call: Call) -> web.Response:
    why = await _reason(call)
    return answer(await call.gateway.client.pause(kind=call.name, reason=why.reason))


async def _resume_kind(call: Call) -> web.Response:
    return answer(Lifted(await call.gateway.client.resume(kind=call.name)))


async def _drain_kind(call: Call) -> web.Response:
    why = await _reason(call)
    client = call.gateway.client
    return answer(await client.drain_tasks(kind=call.name, reason=why.reason, timeout=why.timeout))


async def _pauses(call: Call) -> web.Response:
    return answer(await call.gateway.client.pauses())


# Workers and jobs.


async def _workers(call: Call) -> web.Response:
    return answer(workers(_scene(call)))


async def _drain_worker(call: Call) -> web.Response:
    return answer(await call.gateway.client.drain(call.name))


async def _jobs(call: Call) -> web.Response:
    client = call.gateway.client
    return answer([row_of_job(job, client.js.now()) for job in await client.operate.jobs.all()])


async def _job(call: Call) -> web.Response:
    client = call.gateway.client
    return answer(row_of_job(await client.operate.jobs.find(call.name), client.js.now()))


async def _withdraw(call: Call) -> web.Response:
    operate = call.gateway.client.operate
    job = await operate.jobs.find(call.name)
    withdrawn = running = 0
    async for one in operate.withdrawing.job(job.id):
        if one.step == Step.ASK:
            running += 1
        else:
            withdrawn += 1
    return answer(Withdrawn(job=job.id, withdrawn=withdrawn, running=running))


async def _hook_job(call: Call) -> web.Response:
    hook = await call.body(_hook)
    destinations.check(hook.url, call.gateway.settings.webhooks)
    await call.gateway.client.operate.webhooks.of_job(call.name, checked(hook, KNOWN))
    return answer(hook)


async def _unhook_job(call: Call) -> web.Response:
    await call.gateway.client.operate.webhooks.of_job(call.name, None)
    return web.Response(status=204)


# Dead letters.


async def _dead(call: Call) -> web.Response:
    wanted = call.query(DeadQuery)
    found: list[DeadLetter] = []
    async for letter in call.gateway.client.dead.letters(_filter(wanted)):
        if letter.sequence > wanted.after:
            found.append(letter)
    found.sort(key=lambda letter: letter.sequence)
    page = found[: wanted.limit]
    more = len(found) > len(page)
    return answer(DeadLetters(page, page[-1].sequence if more and page else None))


async def _groups(call: Call) -> web.Response:
    return answer(await call.gateway.client.dead.groups(_filter(call.query(DeadQuery))))


def _filter(wanted: DeadQuery) -> DeadFilter:
    pairs = (pair.partition("=") for pair in wanted.label)
    return DeadFilter(
        reason=wanted.reason,
        queue=None if wanted.queue is None else subjects.check_queue(wanted.queue),
        label={name: value for name, _, value in pairs},
        older_than=wanted.older_than,
        fingerprint=wanted.fingerprint,
    )


async def _drop(call: Call) -> web.Response:
    return await steering.letters(call, "drop")


async def _retry(call: Call) -> web.Response:
    return await steering.letters(call, "retry")


# Money and limits.


async def _limits(call: Call) -> web.Response:
    return answer(await call.gateway.client.limits())


async def _open(call: Call) -> web.Response:
    return answer(Lifted(await call.gateway.client.resume(pool=call.name)))


async def _budgets(call: Call) -> web.Response:
    return answer(await budgets.standing(call.gateway.client.js))


async def _set_budget(call: Call) -> web.Response:
    wanted = await call.body(_limit)
    micro = rules.micro_of(wanted.limit_usd)
    if micro is None:
        raise UsageError(f"{wanted.limit_usd} is no amount of dollars that can be a limit")
    js = call.gateway.client.js
    if wanted.raises:
        return answer(await budgets.raised(js, call.name, micro))
    set_ = await budgets.set_to(js, call.name, micro, per=wanted.per, on_limit=wanted.on_limit)
    return answer(set_)


async def _remove_budget(call: Call) -> web.Response:
    if not await budgets.removed(call.gateway.client.js, call.name):
        raise Refusal(404, f"there is no budget {call.name}")
    return web.Response(status=204)


async def _costs(call: Call) -> web.Response:
    wanted = call.query(CostQuery)
    gateway = call.gateway
    kept = gateway.sums.get(wanted)
    if kept is None or time.monotonic() - kept[0] > KEPT:
        since = instant_of(wanted.since, gateway.now) if wanted.since else None
        names = [name.strip() for name in wanted.by.split(",") if name.strip()]
        async with gateway.large:
            found = await costs(gateway.client.js, names, since=since)
        while len(gateway.sums) > 20:
            gateway.sums.pop(next(iter(gateway.sums)))
        kept = gateway.sums[wanted] = (time.monotonic(), found)
    return answer(kept[1])


async def _stats(call: Call) -> web.Response:
    return answer(await call.gateway.client.stats())


async def _batches(call: Call) -> web.Response:
    return answer(await call.gateway.client.batches())


async def _cancel_batch(call: Call) -> web.Response:
    return answer(await call.gateway.client.cancel_batch(call.name))


_QUEUE: Final = limits.QUEUE_PATTERN


def _read(path: str, do: Callable[[Call], Any], says: str, told: Any, **more: Any) -> Route:
    return Route(method="GET", path=path, do=do, says=says, answer=told, **more)


def _act(path: str, do: Callable[[Call], Any], says: str, told: Any, **more: Any) -> Route:
    more = {"method": "POST", "role": "operator", **more}
    return Route(path=path, do=do, says=says, answer=told, **more)


ROUTES: Final = [
    _read("/v1/queues", _queues, "The queues: what waits, who serves.", list[Queue], scoped=True),
    _act(
        "/v1/queues/{name}/pause",
        _pause_queue,
        "Let no task of a queue start.",
        GateView,
        names=_QUEUE,
        body=Reason,
        scoped=True,
    ),
    _act(
        "/v1/queues/{name}/resume",
        _resume_queue,
        "Let a paused queue go on.",
        Lifted,
        names=_QUEUE,
        scoped=True,
    ),
    _act(
        "/v1/queues/{name}/drain",
        _drain_queue,
        "Pause a queue, and wait until nothing of it runs.",
        DrainView,
        names=_QUEUE,
        body=Reason,
        scoped=True,
    ),
    _read("/v1/kinds", _kinds, "The kinds that workers run.", list[KindRow]),
    _act(
        "/v1/kinds/{name}/pause",
        _pause_kind,
        "Let no task of a kind start.",
        GateView,
        names=_KIND,
        body=Reason,
    ),
    _act("/v1/kinds/{name}/resume", _resume_kind, "Let it go on.", Lifted, names=_KIND),
    _act(
        "/v1/kinds/{name}/drain",
        _drain_kind,
        "Pause a kind, and wait until nothing of it runs.",
        DrainView,
        names=_KIND,
        body=Reason,
    ),
    _read("/v1/pauses", _pauses, "All that is paused or closed.", list[GateView]),
    _read("/v1/workers", _workers, "The workers, lost ones too.", list[Worker]),
    _act(
        "/v1/workers/{name}/drain",
        _drain_worker,
        "Let a worker finish what it runs, and exit.",
        list[WorkerView],
        names=_WORKER,
    ),
    _read("/v1/jobs", _jobs, "The jobs, the latest first.", list[JobRow]),
    _read("/v1/jobs/{name}", _job, "A job.", JobRow, names="[a-z0-9-]{1,24}"),
    _act(
        "/v1/jobs/{name}/withdraw",
        _withdraw,
        "Take back what waits of a job.",
        Withdrawn,
        names="[a-z0-9-]{1,24}",
    ),
    _act(
        "/v1/jobs/{name}/webhook",
        _hook_job,
        "Send the events of a job's tasks somewhere.",
        Webhook,
        method="PUT",
        names="[a-z0-9-]{1,24}",
        body=Webhook,
    ),
    _act(
        "/v1/jobs/{name}/webhook",
        _unhook_job,
        "Send them no longer.",
        None,
        method="DELETE",
        names="[a-z0-9-]{1,24}",
        status=204,
    ),
    _read("/v1/dead", _dead, "Dead letters.", DeadLetters, query=DeadQuery),
    _read("/v1/dead/groups", _groups, "Them by cause.", list[FailureGroup], query=DeadQuery),
    _act(
        "/v1/dead/retry",
        _retry,
        "Run their tasks again.",
        steering.Done,
        body=steering.LetterSelection,
        scoped=True,
    ),
    _act(
        "/v1/dead/drop",
        _drop,
        "Delete them: their tasks stay failed.",
        steering.Done,
        body=steering.LetterSelection,
        scoped=True,
    ),
    _read("/v1/limits", _limits, "Rate limits of all routes, and who waits.", list[RouteView]),
    _act(
        "/v1/limits/{name}/resume",
        _open,
        "Open a closed pool, or a pool and family with a dot between.",
        Lifted,
        names=r"[A-Za-z0-9_.-]{1,128}",
    ),
    _read("/v1/budgets", _budgets, "The budgets.", list[Standing]),
    _act(
        "/v1/budgets/{name}",
        _set_budget,
        "Set or raise a budget; its scope is queue:NAME, pool:NAME, job:ID, label=value or *.",
        Standing,
        method="PUT",
        role="admin",
        names=_SCOPE,
        body=BudgetLimit,
    ),
    _act(
        "/v1/budgets/{name}",
        _remove_budget,
        "Remove a budget.",
        None,
        method="DELETE",
        role="admin",
        names=_SCOPE,
        status=204,
    ),
    _read("/v1/costs", _costs, "What tasks have cost.", list[Spending], query=CostQuery),
    _read("/v1/stats", _stats, "Numbers of the whole, as a master has them.", StatsView),
    _read("/v1/batches", _batches, "The batches under way.", list[BatchView]),
    _act(
        "/v1/batches/{name}/cancel",
        _cancel_batch,
        "Have a batch cancelled.",
        BatchView,
        names="[A-Za-z0-9_-]{1,128}",
    ),
]
