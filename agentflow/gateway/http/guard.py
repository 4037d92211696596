"""The door: who may come in, from which page, called by which name, and what becomes of errors."""

from __future__ import annotations

import asyncio
import logging
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Final

from aiohttp import web

from agentflow.errors import AgentFlowError
from agentflow.gateway.http import problems
from agentflow.gateway.http.call import Call
from agentflow.gateway.http.problems import Refusal
from agentflow.gateway.http.route import Route
from agentflow.rules import authority
from agentflow.rules.authority import Identity

if TYPE_CHECKING:
    from agentflow.gateway.gateway import Gateway

_log = logging.getLogger(__name__)

COOKIE: Final = "agentflow"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
ANYBODY: Final = Identity("viewer")
_CLOSES: Final = frozenset({408, 413})
"""What of the body has not come is not waited for."""
_LOGIN: Final = {"WWW-Authenticate": 'Bearer realm="agentflow"'}


async def answered(
    gateway: Gateway, route: Route, request: web.BaseRequest, name: str
) -> web.StreamResponse:
    """What the route answers, behind the door."""
    try:
        who = admitted(gateway, route, request)
        response = await route.do(Call(gateway, request, who, name))
    except Refusal as refusal:
        response = problems.answer(problems.of_refusal(refusal), refusal.headers)
        if refusal.status in _CLOSES:
            response.force_close()
    except AgentFlowError as error:
        response = problems.answer(problems.of_error(error))
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception as error:
        _log.exception("%s %s failed", route.method, route.path)
        text = f"unexpected {type(error).__name__}; the gateway's log has more"
        response = problems.answer(problems.of_refusal(Refusal(500, text)))
    gateway.count(f"{route.method} {route.path}", response.status)
    return response


def admitted(gateway: Gateway, route: Route, request: web.BaseRequest) -> Identity:
    """Who asks. Raises Refusal where that may not be."""
    settings, headers = gateway.settings, request.headers
    if not authority.host_allowed(headers.get("Host", ""), gateway.names):
        raise Refusal(421, "this Host is none of ours; name it with --allow-host", name="BadHost")
    if "Content-Encoding" in headers:
        raise Refusal(415, "bodies are not compressed here; send it as it is")
    cookie = _cookie(headers.get("Cookie"))
    if request.method not in SAFE or route.path == "/ws":
        own = f"{gateway.scheme(request)}://{gateway.host(request)}"
        if not authority.origin_allowed(
            headers.get("Origin"),
            headers.get("Sec-Fetch-Site"),
            own,
            settings.origins,
            cookie=cookie is not None,
        ):
            raise Refusal(403, "a page of another site may not do this", name="BadOrigin")
    if route.role is None:
        return ANYBODY
    who = gateway.identify(_bearer(headers.get("Authorization")) or cookie)
    if who is None:
        raise Refusal(
            401,
            "this needs a token that holds: `agentflow token create` makes one, and it is sent as "
            "Authorization: Bearer TOKEN",
            name="Unauthorized",
            headers=_LOGIN,
        )
    if not who.may(route.role):
        raise Refusal(403, f"this needs the role {route.role}; the token's is {who.role}")
    if who.queues and not route.scoped:
        raise Refusal(403, f"the token is bound to {', '.join(sorted(who.queues))}")
    return who


def _bearer(header: str | None) -> str | None:
    if not header:
        return None
    kind, _, token = header.partition(" ")
    if kind.lower() != "bearer":
        raise Refusal(401, "only Bearer tokens are known here", headers=_LOGIN)
    return token.strip()


def _cookie(header: str | None) -> str | None:
    if not header or COOKIE not in header:
        return None
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except Exception:
        return None
    return morsel.value if morsel is not None else None
