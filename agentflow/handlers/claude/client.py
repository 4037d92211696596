"""The SDK's client: its credential, its connections, and the way through a proxy.

Connections are aiohttp's, by the SDK's own extra. The SDK's first choice, httpx, walks all of its
connections whenever a request begins or ends; aiohttp's connector costs the same at a thousand in
flight as at one, and half the CPU a call. Its session is made here, as aiohttp's own would have a
hundred connections, refuse an answer for a header of 8 KiB, and send 30 MB for ever to who reads
nothing.
"""

from __future__ import annotations

import functools
import importlib.util
import socket
import ssl
import urllib.request
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import anthropic
import httpx2

from agentflow.errors import KeyMissing, UsageError
from agentflow.rules.credentials import usable

CONNECT: Final = 10.0
"""Seconds a connection to one address may take, TLS included."""
REACH: Final = 30.0
"""Seconds until there is a connection at all: names, every address, a proxy's answer."""
KEPT: Final = 5.0
"""Seconds that an unused connection is kept: a balancer must not be the first to close it."""
HEADER: Final = 128 * 1024
"""Bytes of an answer's header: gateways add cookies and policies of many."""


def make(api_key: str | None, base_url: str | None, stall: float) -> anthropic.AsyncAnthropic:
    """A client that never retries by itself. Raises KeyMissing, UsageError."""
    try:
        # The pool's time is, with aiohttp, that of the whole way to a connection.
        timeout = httpx2.Timeout(stall, connect=CONNECT, pool=REACH)
        client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            timeout=timeout,
            http_client=_http_client(timeout),
        )
    except anthropic.AnthropicError as error:
        raise KeyMissing(f"the credentials for Claude cannot be used: {error}") from None
    except (ValueError, httpx2.InvalidURL) as error:
        raise UsageError(f"no client for Claude can be made: {error}") from None
    if client.base_url.scheme not in ("http", "https"):
        raise UsageError(
            f"no client for Claude can be made: {client.base_url} is no http(s) address"
        )
    client.api_key = usable(client.api_key, "ANTHROPIC_API_KEY")
    client.auth_token = usable(client.auth_token, "ANTHROPIC_AUTH_TOKEN")
    if not client.api_key and not client.auth_token and client.credentials is None:
        raise KeyMissing
    return client


def _http_client(timeout: httpx2.Timeout) -> httpx2.AsyncClient:
    if _socks():
        if importlib.util.find_spec("socksio") is None:
            raise UsageError(
                "the environment names a SOCKS proxy, which needs a package that is not installed:"
                " pip install socksio"
            )
        return anthropic.DefaultAsyncHttpxClient(timeout=timeout)
    context = httpx2.create_ssl_context()  # one for the plain way and all proxies: 22 ms, 0.8 MB
    client = anthropic.DefaultAioHttpClient(timeout=timeout, verify=context)
    make_session = functools.partial(_session, context, timeout.read or 0.0)
    transports: list[Any] = [client._transport, *client._mounts.values()]
    for transport in filter(None, transports):
        transport.client = make_session  # called with the first request, which has a loop
    return client


def _session(context: ssl.SSLContext, stall: float) -> aiohttp.ClientSession:
    def connecting(address: aiohttp.AddrInfoType) -> socket.socket:
        made = socket.socket(*address[:3])
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # A peer that takes nothing of a request is as silent as one that says nothing.
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall * 1_000))
        return made

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, keepalive_timeout=KEPT, ssl=context, socket_factory=connecting
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=HEADER,
        max_field_size=HEADER,
    )


def _socks() -> bool:
    return any(
        scheme in ("http", "https", "all") and urlsplit(proxy).scheme.startswith("socks")
        for scheme, proxy in urllib.request.getproxies().items()
    )
