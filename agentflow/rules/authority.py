"""Who may do what at the gateway: roles, queues, origins and hosts. Pure.

A role may what the roles before it may. A token of some queues reaches the tasks of these and
nothing that is about the whole.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from datetime import datetime
from typing import Final

import msgspec

from agentflow.protocol import tokens
from agentflow.protocol.tokens import ROLES, Role, Token

_HOST: Final = re.compile(r"(\[[0-9a-f:.%]+\]|[a-z0-9._-]+)(?::\d{1,5})?")


class Identity(msgspec.Struct, frozen=True):
    """Who asks: a role, the queues it is bound to (none: all), and a name for records."""

    role: Role
    queues: frozenset[str] = frozenset()
    name: str = ""

    def may(self, role: Role) -> bool:
        """Whether its role is this one or more."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def reaches(self, queue: str) -> bool:
        """Whether the tasks of a queue are its business."""
        return not self.queues or queue in self.queues


def of_token(token: Token | None, text: str, now: datetime) -> Identity | None:
    """Who a token stands for, None where it is wrong or has expired."""
    if token is None or not token.holds(now) or not tokens.matches(token, text):
        return None
    return Identity(token.role, frozenset(token.queues), token.name or f"token {token.id}")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str | None:
    """The host in a Host header, in lower case, without its port; None for what is none."""
    found = _HOST.fullmatch(header.lower())
    return found[1].strip("[]") if found else None


def host_allowed(header: str, names: Collection[str]) -> bool:
    """Whether a request to this Host is meant for us.

    A page of another site can have its own name point here (DNS rebinding), but no bare address.
    """
    host = host_of(header)
    if not host:
        return False
    if host == "localhost" or host in names:
        return True
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def origin_allowed(
    origin: str | None, site: str | None, own: str, others: Collection[str], *, cookie: bool
) -> bool:
    """Whether an act, or a socket, may come from the page at `origin`.

    `own` is the origin at which we were asked, `site` the header Sec-Fetch-Site. A client that is
    no browser has neither, and then no cookie either.
    """
    if origin is not None:
        return origin == own or origin in others
    if site is not None:
        return site in ("same-origin", "none")
    return not cookie
