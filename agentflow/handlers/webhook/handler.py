"""Sends an event as Standard Webhooks have it: a POST of JSON, signed, and an answer of 2xx.

It goes to hosts that AGENTFLOW_WEBHOOK_HOSTS lists, follows no redirect, and connects to no private
address but those listed: a name is resolved here, and what it has at that moment is connected to.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from agentflow.errors import InvalidTask, UsageError
from agentflow.handlers.contract import AttemptFailed, Outcome, Run
from agentflow.protocol import webhooks
from agentflow.protocol.record import Failure
from agentflow.protocol.task import Defaults
from agentflow.rules import destinations
from agentflow.rules.retry import Signal

SECRET: Final = "AGENTFLOW_WEBHOOK_SECRET"
WITHIN: Final = 20.0
"""Seconds that a receiver has for its answer."""
AGAIN: Final = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0)
"""Seconds until the next attempt, after each failure."""
PASSING: Final = frozenset({408, 409, 425, 429})
"""Statuses besides 5xx after which another attempt may do better."""
READ: Final = 4096
"""Bytes of an answer that are kept."""


class _Public(AbstractResolver):
    """Resolves names to those of their addresses that may be connected to."""

    def __init__(self, listed: tuple[str, ...]) -> None:
        self._listed = listed
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses. Raises OSError where there is none."""
        found = await self._resolver.resolve(host, port, family)
        allowed = [
            each for each in found if destinations.address_allowed(each["host"], self._listed, port)
        ]
        if not allowed:
            raise OSError(None, f"{host} has private addresses only, which are not listed")
        return allowed

    async def close(self) -> None:
        """Nothing is held."""


class WebhookHandler:
    """The handler; one session for all."""

    defaults = Defaults(timeout=60.0, max_attempts=len(AGAIN) + 1)

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._hosts = webhooks.hosts(environment)
        if not self._hosts:
            raise UsageError(
                f"kind webhook sends to hosts that {webhooks.HOSTS} lists, and it lists none"
            )
        self._key = webhooks.secret(environment.get(SECRET, ""))
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session."""
        connector = aiohttp.TCPConnector(resolver=_Public(self._hosts), use_dns_cache=False)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(WITHIN),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close it."""
        if self._session is not None:
            await self._session.close()

    async def __call__(self, run: Run) -> Outcome:
        """Value {"status": ...}. Raises InvalidTask, AttemptFailed."""
        sent = webhooks.delivery(run.task.params)
        try:
            destinations.check(sent.url, self._hosts)
        except UsageError as error:
            raise InvalidTask(str(error), reason="webhook_refused") from None
        body, now = sent.body(), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "agentflow",
            "webhook-id": sent.id,
            "webhook-timestamp": str(now),
            "webhook-signature": webhooks.signature(self._key, sent.id, now, body),
        }
        assert self._session is not None
        try:
            async with self._session.post(
                sent.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                text = (await answer.content.read(READ)).decode("utf-8", "replace")
                return self._judged(run, answer.status, text)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            text = f"{type(error).__name__}: {error}"
            raise _again(run, Failure(type="webhook", message=text)) from None

    def _judged(self, run: Run, status: int, text: str) -> Outcome:
        if 200 <= status < 300:
            return Outcome(value={"status": status}, text=text or None)
        said = f"the receiver answered {status}" + (f": {text[:200]}" if text else "")
        if status >= 500 or status in PASSING:
            raise _again(run, Failure(type="webhook", message=said, status=status))
        if 300 <= status < 400:
            said += "; redirects are not followed"
        raise InvalidTask(said, reason="webhook_refused")


def _again(run: Run, failure: Failure) -> AttemptFailed:
    delay = AGAIN[min(run.attempt, len(AGAIN)) - 1]
    return AttemptFailed(failure, Signal(exception="asked", retry_after=delay))
