"""What a browser is given as it is: the page, its parts, the login, and the session's cookie.

Every path that is none of the interface's answers with the page, which shows the view that the path
names: so a link to a task leads there, and the back button works.
"""

from __future__ import annotations

import hashlib
import mimetypes
from functools import lru_cache
from importlib import resources
from typing import Final

import msgspec
from aiohttp import web

from agentflow.gateway.http.call import Call, answer
from agentflow.gateway.http.guard import COOKIE
from agentflow.gateway.http.problems import Refusal
from agentflow.gateway.http.route import Route
from agentflow.gateway.http.router import REST
from agentflow.protocol import tokens

CSP: Final = "; ".join(
    (
        "default-src 'none'",
        *(f"{what} 'self'" for what in ("script-src", "style-src", "connect-src", "font-src")),
        "img-src 'self' data:",
        "form-action 'self'",
        "base-uri 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A new version of the package must not meet the parts of the old one.
    "Cache-Control": "no-cache",
}
INDEX: Final = "index.html"
_PAGES: Final = {"login": "login.html", "docs": "docs.html"}
"""Paths with a page of their own."""
BASE: Final = b'<base href="/">'
SESSION: Final = 12 * 3600.0
"""Seconds of a session that a one-time link opens."""
_PARTS: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){0,4}"


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token, lasting or one that opens one session."""

    token: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Who one is here. `open`: nobody needs a token."""

    role: str
    queues: list[str]
    name: str
    open: bool


_login = msgspec.json.Decoder(Login)


@lru_cache(maxsize=256)
def _file(name: str) -> tuple[bytes, str, str] | None:
    """A part of the page: its bytes, its content type and its tag."""
    part = resources.files("agentflow.gateway.page").joinpath(*name.split("/"))
    try:
        data = part.read_bytes()
    except OSError:
        return None
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if kind.startswith("text/") or kind.endswith(("javascript", "json")):
        kind += "; charset=utf-8"
    return data, kind, f'"{hashlib.sha256(data).hexdigest()[:24]}"'


def _given(call: Call, name: str) -> web.Response:
    found = _file(name)
    if found is None:
        raise Refusal(404, f"there is no {name}")
    data, kind, tag = found
    headers = {**HEADERS, "Content-Type": kind, "ETag": tag}
    if call.header("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    if name.endswith(".html"):
        data = data.replace(BASE, f'<base href="{call.gateway.settings.path}/">'.encode())
    return web.Response(body=data, headers=headers)


async def _part(call: Call) -> web.Response:
    return _given(call, call.name)


async def _page(call: Call) -> web.Response:
    return _given(call, _PAGES.get(call.name, INDEX))


async def _log_in(call: Call) -> web.Response:
    gateway = call.gateway
    text = (await call.body(_login)).token
    who = gateway.identify(text)
    if who is None:
        raise Refusal(401, "this token does not hold: it is wrong, has expired or was revoked")
    lasts = None
    token_id = tokens.token_id(text)
    token = gateway.token(token_id) if token_id else None
    if token is not None and token.once:
        kept = gateway.client.operate.tokens
        if not await kept.revoke(token.id):
            raise Refusal(401, "this link has been used already")
        text, _ = await kept.create(
            token.role, queues=token.queues, ttl=SESSION, name=f"session of {token.by}"
        )
        lasts = int(SESSION)
        await gateway.hears_of(text)
    response = answer(_session(who.role, who.queues, who.name, False))
    response.set_cookie(
        COOKIE,
        text,
        max_age=lasts,
        path=f"{gateway.settings.path}/",
        httponly=True,
        samesite="Strict",
        secure=gateway.scheme(call.request) == "https",
    )
    return response


async def _log_out(call: Call) -> web.Response:
    response = web.Response(status=204)
    response.del_cookie(COOKIE, path=f"{call.gateway.settings.path}/")
    return response


async def _who(call: Call) -> web.Response:
    who = call.who
    return answer(_session(who.role, who.queues, who.name, not call.gateway.settings.secured))


def _session(role: str, queues: frozenset[str], name: str, open: bool) -> Session:
    return Session(role=role, queues=sorted(queues), name=name, open=open)


ROUTES: Final = [
    Route(method="GET", path="/", do=_page, says="The page.", role=None, hidden=True),
    Route(
        method="GET",
        path=f"/{REST}",
        do=_page,
        says="The page, at a view.",
        role=None,
        names=r"(?!v1(/|$)|ws$)[^.]*",
        hidden=True,
    ),
    Route(
        method="GET",
        path=f"/page/{REST}",
        do=_part,
        says="A part of the page.",
        role=None,
        names=_PARTS,
        hidden=True,
    ),
    Route(
        method="GET",
        path="/v1/session",
        do=_who,
        says="Who one is here, and what one may.",
        scoped=True,
        answer=Session,
    ),
    Route(
        method="POST",
        path="/v1/session",
        do=_log_in,
        says="Log in with a token: it is kept in a cookie.",
        role=None,
        body=Login,
        answer=Session,
    ),
    Route(
        method="DELETE",
        path="/v1/session",
        do=_log_out,
        says="Log out.",
        role=None,
        status=204,
    ),
]
