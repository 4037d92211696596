"""All routes, and the two that tell of them."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from agentflow.gateway import openapi
from agentflow.gateway.http.call import Call, answer
from agentflow.gateway.http.route import Route
from agentflow.gateway.routes import (
    happening,
    living,
    looking,
    operating,
    pages,
    reading,
    steering,
    submitting,
    watching,
)


def routes() -> list[Route]:
    """Every route of a gateway."""
    told: list[Route] = [
        *living.ROUTES,
        *submitting.ROUTES,
        *reading.ROUTES,
        *steering.ROUTES,
        *operating.ROUTES,
        *happening.ROUTES,
        *looking.ROUTES,
        *watching.ROUTES,
        *pages.ROUTES,
    ]
    described: dict[str, Any] = {}

    async def describe(call: Call) -> web.Response:
        if not described:
            described.update(openapi.document(told, call.gateway.settings.path or "/"))
        return answer(described)

    told.append(
        Route(
            method="GET",
            path="/openapi.json",
            do=describe,
            says="The description of this interface.",
            role=None,
            answer=dict[str, Any],
            hidden=True,
        )
    )
    return told
