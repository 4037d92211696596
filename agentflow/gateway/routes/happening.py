"""What happens, pushed: server-sent events of all tasks or of one, and the web socket."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from agentflow.errors import TaskNotFound
from agentflow.gateway.events import streams
from agentflow.gateway.events.frames import Happened
from agentflow.gateway.events.hub import Filter
from agentflow.gateway.events.socket import Socket
from agentflow.gateway.http.call import Call
from agentflow.gateway.http.problems import Refusal
from agentflow.gateway.http.route import Route
from agentflow.gateway.routes.reading import known


class EventQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events; all conditions must hold, and of several values one of any.

    `type` is task.progress and the like, `label` name=value. `after` resumes behind a sequence, as
    Last-Event-ID does. `records`: with the whole record of each; `tokens`: also the text that is
    generated for all tasks, where there is no filter.
    """

    type: list[str] = []
    state: list[str] = []
    queue: list[str] = []
    kind: list[str] = []
    label: list[str] = []
    job: str = ""
    after: int | None = None
    records: bool = False
    tokens: bool = False


class TaskEventQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`tokens` false: only the lifecycle. `after` and `records` as for all events."""

    tokens: bool = True
    after: int | None = None
    records: bool = False


async def _all(call: Call) -> web.StreamResponse:
    wanted = call.query(EventQuery)
    pairs = (pair.partition("=") for pair in wanted.label)
    chosen = Filter(
        types=frozenset(wanted.type),
        state=frozenset(wanted.state),
        queue=frozenset(wanted.queue),
        kind=frozenset(wanted.kind),
        labels=frozenset((name, value) for name, _, value in pairs),
        job=wanted.job,
        whole=wanted.records,
        reach=call.who.queues,
    )
    after = streams.resumed_after(call, wanted.after)
    return await streams.of_all(call, chosen, after, tokens=wanted.tokens)


async def _one(call: Call) -> web.StreamResponse:
    wanted = call.query(TaskEventQuery)
    try:
        await known(call, call.name)
    except TaskNotFound:
        if call.who.queues:
            raise  # it may come later, in a queue that is not the caller's
    after = streams.resumed_after(call, wanted.after)
    chosen = Filter(whole=wanted.records)
    return await streams.of_one(call, call.name, chosen, after, tokens=wanted.tokens)


async def _socket(call: Call) -> web.StreamResponse:
    if call.header("Upgrade") is None:
        raise Refusal(426, "this is a web socket", headers={"Upgrade": "websocket"})
    return await Socket(call).run()


ROUTES: Final = [
    Route(
        method="GET",
        path="/v1/events",
        do=_all,
        says="What happens to all tasks, as server-sent events; resumed by Last-Event-ID.",
        scoped=True,
        query=EventQuery,
        answer=Happened,
        kind=streams.SSE,
    ),
    Route(
        method="GET",
        path="/v1/tasks/{name}/events",
        do=_one,
        says="What happens to one task until it ends; of one that runs the text so far first.",
        scoped=True,
        query=TaskEventQuery,
        answer=Happened,
        kind=streams.SSE,
    ),
    Route(
        method="GET",
        path="/ws",
        do=_socket,
        says="The same events as JSON frames, with subscriptions.",
        scoped=True,
        status=101,
    ),
]
