"""The dashboard's views, pushed: a snapshot and then patches; and acts as the dashboard does them.

An act is previewed (what it would do, and the command line that does the same), then done; its
receipt comes as lines of JSON that tell how far it is, up to its effect.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from aiohttp import web

from agentflow.dashboard.feed.acting import Acting
from agentflow.dashboard.reader import acts
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.gateway.events.streams import ALIVE_EVERY, SSE, Stream
from agentflow.gateway.http.call import Call, answer
from agentflow.gateway.http.problems import Refusal
from agentflow.gateway.http.route import Route
from agentflow.gateway.routes.submitting import LINES
from agentflow.gateway.views import VIEWS, Choice, Viewer, checked, sse
from agentflow.protocol.record import State
from agentflow.views import query

TARGETS: Final = 10_000
VALUES: Final = 200
"""Values of a field that a completion is offered."""


class ViewQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a view is wanted; see /docs. `q` filters, `sort` is a column (`-` turns it round)."""

    q: str = ""
    sort: str = ""
    first: int = 0
    number: int = 100
    by: str = ""
    inside: str = ""
    period: str = ""
    fields: str = ""


class ActRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An act of the dashboard and what it is done to: ids of tasks, queues, actors of workers."""

    act: str
    targets: list[str]


class Run(msgspec.Struct, frozen=True):
    """A piece of text and what it means: dim, warn, crit, ok, ..."""

    text: str
    token: str


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What an act would do. `possible` are the targets that it can be done to, `said` why not to
    the others; `command` does the same from a shell."""

    act: str
    title: str
    lines: list[list[Run]]
    command: str
    nats: str
    count: int
    danger: bool
    possible: list[str]
    said: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """How far an act has come; `token` is ok, warn, crit or dim."""

    command: str
    text: str
    token: str
    ended: bool


class FilterCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a filter can be applied, and what may be typed: fields, and values of each."""

    problem: str
    fields: list[str]
    values: dict[str, list[str]]


class FilterQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A filter of the dashboard's query language."""

    q: str = ""


_act = msgspec.json.Decoder(ActRequest)
_encoder = msgspec.json.Encoder()


async def _view(call: Call) -> web.StreamResponse:
    chosen = call.query(ViewQuery)
    choice = checked(Choice(view=call.name, **msgspec.structs.asdict(chosen)))
    pictures, viewer = call.gateway.pictures, Viewer()
    if SSE not in (call.header("Accept") or ""):
        snapshot = pictures.look(choice, viewer)
        pictures.leave(choice, viewer)
        return answer(snapshot)
    stream = Stream(call)
    snapshot = pictures.look(choice, viewer)
    try:
        response = await stream.open()
        await stream.write(sse("snapshot", snapshot))
        while stream.going:
            piece = await viewer.next(ALIVE_EVERY)
            await stream.write(piece if piece is not None else b": \n\n")
    finally:
        pictures.leave(choice, viewer)
    return response


def _dashboard(call: Call) -> Dashboard:
    return Dashboard(store=call.gateway.store)


def _checked(act: ActRequest) -> acts.Act:
    known = acts.ACTS.get(act.act)
    if known is None:
        raise Refusal(422, f"there is no act {act.act[:40]!r}; there are {', '.join(acts.ACTS)}")
    if not 0 < len(act.targets) <= TARGETS:
        raise Refusal(422, f"an act is done to 1 to {TARGETS:,} targets")
    return known


async def _preview(call: Call) -> web.Response:
    wanted = await call.body(_act)
    known = _checked(wanted)
    scene = _dashboard(call).scene(call.gateway.now)
    targets = list(dict.fromkeys(wanted.targets))
    possible = [target for target in targets if known.possible(scene, target)]
    shown = acts.preview(scene, wanted.act, possible or targets)
    left = len(targets) - len(possible)
    return answer(
        Preview(
            act=wanted.act,
            title=shown.title,
            lines=[[Run(*run) for run in line.runs] for line in shown.lines],
            command=shown.command,
            nats=shown.nats,
            count=shown.count,
            danger=shown.danger,
            possible=possible,
            said=f"{left:,} left out: {known.refusal}" if left else "",
        )
    )


async def _do(call: Call) -> web.StreamResponse:
    wanted = await call.body(_act)
    _checked(wanted)
    dash, changed = _dashboard(call), asyncio.Event()
    acting = Acting(call.gateway.client, dash, lambda: call.gateway.now, changed.set)
    response = web.StreamResponse(
        headers={"Content-Type": LINES, "Cache-Control": "no-store", **call.cors}
    )
    await response.prepare(call.request)
    work = asyncio.get_running_loop().create_task(acting.perform(wanted.act, wanted.targets))
    work.add_done_callback(lambda _: changed.set())
    told = ""
    try:
        while True:
            await changed.wait()
            changed.clear()
            over = work.done()
            for receipt in dash.receipts[-1:]:
                if receipt.text != told or over:
                    told = receipt.text
                    await response.write(_line(receipt))
            if over:
                work.result()
                return response
    finally:
        # Whoever asked may leave: what was begun is done, only nobody follows it.
        work.add_done_callback(lambda done: done.cancelled() or done.exception())


def _line(receipt: Any) -> bytes:
    told = Receipt(
        command=receipt.command, text=receipt.text, token=receipt.token, ended=receipt.ended
    )
    return _encoder.encode(told) + b"\n"


async def _query(call: Call) -> web.Response:
    text, store = call.query(FilterQuery).q, call.gateway.store
    problem = ""
    try:
        query.parse(text)
    except query.QueryError as error:
        problem = str(error)
    workers = store.workers()
    accounts = [account for _, account, _ in store.totals.booked()]
    values = {
        "state": [str(state) for state in State],
        "queue": store.queues(),
        "kind": sorted({kind for actor in workers for kind in actor.beat.kinds}),
        "model": sorted({model for model, _, _ in accounts if model}),
        "worker": sorted({actor.beat.actor for actor in workers}),
        "priority": ["high", "normal", "low"],
    }
    return answer(
        FilterCheck(
            problem=problem,
            fields=list(query.FIELDS),
            values={name: some[:VALUES] for name, some in values.items()},
        )
    )


ROUTES: Final = [
    Route(
        method="GET",
        path="/v1/views/{name}",
        do=_view,
        says="A view of the dashboard as typed rows and cells: with Accept: text/event-stream a "
        "`snapshot` and then each `patch`, else as it is.",
        names="|".join(VIEWS),
        query=ViewQuery,
        answer=dict[str, Any],
    ),
    Route(
        method="GET",
        path="/v1/query",
        do=_query,
        says="Whether a filter can be applied, and what may be typed in it.",
        query=FilterQuery,
        answer=FilterCheck,
    ),
    Route(
        method="POST",
        path="/v1/acts/preview",
        do=_preview,
        says="What an act of the dashboard would do, and the command line that does the same.",
        role="operator",
        body=ActRequest,
        answer=Preview,
    ),
    Route(
        method="POST",
        path="/v1/acts",
        do=_do,
        says="Do it; its receipt comes as JSON lines, up to its effect.",
        role="operator",
        body=ActRequest,
        answer=Receipt,
        kind=LINES,
    ),
]
