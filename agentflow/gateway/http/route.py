"""A route as data: what the server registers and what /openapi.json tells are one table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from agentflow.gateway.http.call import JSON, Call
from agentflow.protocol.tokens import Role

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A method and a path, who may, and what goes in and out.

    `{name}` in the path is a part of it, of what `names` matches. `role` None: anybody, without a
    token. `scoped`: it looks at the caller's queues itself; any other is for who is bound to none.
    `query` and `body` are Structs, `answer` any type, `kinds` the content types in and out.
    """

    method: str
    path: str
    do: Handler
    says: str
    role: Role | None = "viewer"
    scoped: bool = False
    names: str = "[A-Za-z0-9_-]{1,64}"
    query: type | None = None
    body: Any = None
    answer: Any = None
    status: int = 200
    kind: str = JSON
    takes: str = JSON
    hidden: bool = False
    """It is no part of the described interface."""
