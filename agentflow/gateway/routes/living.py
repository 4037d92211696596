"""Is it alive, is it ready, and its metrics."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from agentflow.gateway.http.call import Call, answer
from agentflow.gateway.http.route import Route
from agentflow.version import __version__


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """The process answers."""

    alive: bool
    version: str


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests are served well, and why not."""

    ready: bool
    reasons: list[str]


async def _alive(call: Call) -> web.Response:
    return answer(Alive(alive=True, version=__version__))


async def _ready(call: Call) -> web.Response:
    reasons = call.gateway.unready()
    return answer(Ready(ready=not reasons, reasons=reasons), 503 if reasons else 200)


async def _metrics(call: Call) -> web.Response:
    kind, body = call.gateway.metrics(call.header("Accept") or "")
    return web.Response(body=body, headers={"Content-Type": kind})


ROUTES: Final = [
    Route(
        method="GET", path="/livez", do=_alive, says="The process answers.", role=None, answer=Alive
    ),
    Route(
        method="GET",
        path="/readyz",
        do=_ready,
        says="Whether requests are served well: 503 with the reasons where not.",
        role=None,
        answer=Ready,
    ),
    Route(
        method="GET",
        path="/metrics",
        do=_metrics,
        says="The gateway's metrics, for Prometheus.",
        kind="text/plain",
        answer=str,
    ),
]
