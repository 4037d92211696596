"""Kind `claude`: one request to the Messages API, streamed, in this process.

One client a process (a client costs 22 ms and 0.8 MB), no retries inside it: a retry belongs into
the task's log, where it is durable and visible, and where it frees the slot. Answers are always
streamed, as raw events: they show progress, they keep usage when a connection breaks, and the SDK
forbids long answers otherwise. Silence for `stall` seconds is a failure; how long a whole try may
take is the worker's business.

The SDK raises more than its own exceptions. What each becomes (`_failure`, `_lost`):

    before the answer                            signal
    APIStatusError                               its status, type, code, retry headers
    APITimeoutError: connecting / waiting        connection / stalled
    APIConnectionError: never sent / sent        connection / dropped
    TypeError, ValueError                        none: InvalidTask, the SDK rejects the parameters
    AnthropicError                               authentication_error: credentials unusable

    within the stream
    APIStatusError (an `error` event)            status 200: its type decides
    httpx2.TimeoutException / other httpx2       stalled / dropped; both bypass the SDK's classes
    an end without message_stop                  dropped
    JSONDecodeError, what makes no sense         broken_json

This module alone imports anthropic, which takes 1.2 s and 74 MB; handlers/registry.py imports it
only for a worker that runs this kind.
"""

from __future__ import annotations

import gc
import inspect
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import anthropic
import httpx2
from anthropic.resources.messages import AsyncMessages

from agentflow.errors import InvalidTask, KeyMissing, UsageError
from agentflow.handlers import price_file
from agentflow.handlers.claude import transport
from agentflow.handlers.claude.headers import rate_limits, retry_after, should_retry
from agentflow.handlers.claude.message import Message
from agentflow.handlers.claude.request import (
    DEFAULT_MAX_TOKENS,
    DEFAULT_MODEL,
    build,
)
from agentflow.handlers.contract import AttemptFailed, Outcome, Run
from agentflow.handlers.credential import checked_pool, pool_of
from agentflow.protocol import limits
from agentflow.protocol.record import Failure
from agentflow.protocol.task import Task
from agentflow.rules.retry import Signal
from agentflow.rules.routes.models import family
from agentflow.rules.routes.prices import Prices, cost_micro
from agentflow.rules.routes.route import Route

STALL: Final = 120.0
"""Seconds without a byte after which an answer counts as stalled; the API sends pings meanwhile."""
CONNECT: Final = 10.0
"""Seconds a connection may take to be made."""

_Stream = anthropic.AsyncStream[anthropic.types.RawMessageStreamEvent]

_KNOWN: Final = frozenset(inspect.signature(AsyncMessages.create).parameters) - {
    "self",
    "stream",
    "timeout",
    "extra_body",
}
_SECRET: Final = 12
"""Shorter keys are no secret, and taking them out of a text would spoil words."""

# What the SDK raises for arguments of a wrong shape before anything is sent, and what events of a
# wrong shape raise; JSONDecodeError and pydantic's ValidationError are ValueErrors.
_MISSHAPEN: Final = (TypeError, ValueError, AttributeError, LookupError, RecursionError)
# Failures before a request was on its way, so that nothing can have been billed.
_UNSENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


class _Family:
    """Requests of one model family with this credential."""

    __slots__ = ("headers", "headers_at", "in_flight", "refused")

    def __init__(self) -> None:
        self.in_flight = 0
        self.refused = 0
        self.headers: Mapping[str, str] = {}
        self.headers_at = 0.0

    def answered(self, headers: Mapping[str, str]) -> None:
        # The whole object is kept and read only for a heartbeat: parsing twelve headers of every
        # answer would cost more than all the rest of this handler.
        self.headers = headers
        self.headers_at = time.time()


class ClaudeHandler:
    """Runs tasks of kind `claude`. Call `start` before the first and `close` after the last.

    The credential is `api_key`, else what the SDK finds in the environment; `pool` names it where
    limits are shared, else a part of the key's digest does.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        model: str = DEFAULT_MODEL,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        stall: float = STALL,
        pool: str | None = None,
        prices: Prices | None = None,
    ) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._model = model
        self._max_tokens = max_tokens
        self._stall = stall
        self._prices = prices
        self._client: anthropic.AsyncAnthropic | None = None
        self._messages: AsyncMessages | None = None
        self._secrets: tuple[str, ...] = ()
        self._families: dict[str, _Family] = {}
        self.pool = checked_pool(pool) or ""

    async def start(self) -> None:
        """Read prices, make the client. Raises KeyMissing, UsageError."""
        prices = self._prices or price_file.load()
        timeout = httpx2.Timeout(self._stall, connect=CONNECT, pool=None)
        try:
            client = anthropic.AsyncAnthropic(
                api_key=self._api_key,
                base_url=self._base_url,
                max_retries=0,
                timeout=timeout,
                http_client=None
                if transport.proxied()
                else anthropic.DefaultAsyncHttpxClient(
                    timeout=timeout, transport=transport.Pools()
                ),
            )
        except anthropic.AnthropicError as error:
            raise KeyMissing(f"the credentials for Claude cannot be used: {error}") from None
        except (ValueError, httpx2.InvalidURL) as error:
            raise UsageError(f"no client for Claude can be made: {error}") from None
        if client.base_url.scheme not in ("http", "https"):
            await client.close()
            raise UsageError(
                f"no client for Claude can be made: {client.base_url} is no http(s) address"
            )
        key = client.api_key or client.auth_token
        if not key and client.credentials is None:
            await client.close()
            raise KeyMissing
        self._client, self._messages, self._prices = client, client.messages, prices
        self._secrets = tuple(
            secret
            for secret in (client.api_key, client.auth_token)
            if secret and len(secret) >= _SECRET
        )
        self.pool = self.pool or pool_of(key)
        # The SDK leaves 146,000 objects behind: walking them stops the loop for 90 ms each time.
        gc.collect()
        gc.freeze()

    async def close(self) -> None:
        """End the client and what is in flight."""
        client, self._client, self._messages = self._client, None, None
        if client is not None:
            await client.close()

    def pools(self) -> dict[str, Any]:
        """For heartbeats, by pool and family: in flight, refused with 429, last rate limits."""
        return {self.pool: {name: _shown(state) for name, state in self._families.items()}}

    def route(self, task: Task) -> Route:
        """The pool, and the family of the model that a task would ask."""
        model = task.model or task.params.get("model") or self._model
        return Route(self.pool, family(model if isinstance(model, str) else ""))

    async def __call__(self, run: Run) -> Outcome:
        """One request. Raises InvalidTask and AttemptFailed."""
        task = run.task
        arguments = build(task, _KNOWN, model=self._model, max_tokens=self._max_tokens)
        model: str = arguments["model"]
        run.model = model
        state = self._families.setdefault(family(model), _Family())
        message = Message()
        began = time.monotonic()
        state.in_flight += 1
        try:
            stream = await self._open(arguments, run, state)
            try:
                await self._read(stream, message, run, began)
            finally:
                # Whatever happened, cancellation too: the API stops generating when we hang up.
                await stream.close()
        finally:
            state.in_flight -= 1
        return message.outcome()

    async def _open(self, arguments: dict[str, Any], run: Run, state: _Family) -> _Stream:
        if self._messages is None:
            raise RuntimeError("the handler is not started")
        try:
            stream: _Stream = await self._messages.create(**arguments, stream=True)
        except anthropic.APIStatusError as error:
            state.answered(error.response.headers)
            state.refused += error.status_code == 429
            run.simulated = _simulated(error.response.headers)
            run.request_id = error.request_id
            raise self._refused(error) from error
        except anthropic.APIConnectionError as error:
            raise self._unreached(error, run) from error
        except anthropic.AnthropicError as error:
            text = f"the credentials for Claude cannot be used: {error}"
            raise self._failed(error, text, Signal(type="authentication_error")) from error
        except _MISSHAPEN as error:
            text = self._clean(f"task {run.task.id}: the SDK rejects its parameters: {error}")
            raise InvalidTask(text) from error
        headers = stream.response.headers
        state.answered(headers)
        run.simulated = _simulated(headers)
        run.request_id = headers.get("request-id")
        return stream

    async def _read(
        self,
        stream: _Stream,
        message: Message,
        run: Run,
        began: float,
    ) -> None:
        problem: Exception | None = None
        try:
            async for event in stream:
                if event.type == "content_block_delta":
                    if run.first_token_s is None:
                        run.first_token_s = time.monotonic() - began
                    text = message.delta(event)
                    if text:
                        run.emit(text)
                elif message.take(event):
                    self._spent(run, message)
        except anthropic.APIStatusError as error:
            raise self._refused(error) from error
        except (httpx2.HTTPError, anthropic.APIResponseValidationError, *_MISSHAPEN) as error:
            problem = error
        # After message_stop nothing is missing, whatever the connection does then.
        if not message.complete:
            raise self._lost(problem, run) from problem

    def _spent(self, run: Run, message: Message) -> None:
        """Write usage and cost into the run as they come, so that a drop does not lose them."""
        assert self._prices is not None
        run.usage = message.usage
        run.model = message.model or run.model
        run.cost_micro = cost_micro(run.model or "", run.usage, self._prices, message.detail)

    # What went wrong.

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return text[: limits.ERROR_TEXT]

    def _failed(
        self,
        error: BaseException | None,
        text: str,
        signal: Signal,
        request_id: str | None = None,
    ) -> AttemptFailed:
        name = signal.type or (type(error).__name__ if error else "IncompleteStream")
        failure = Failure(
            type=name,
            message=self._clean(text),
            status=signal.status,
            code=signal.code,
            request_id=request_id,
        )
        return AttemptFailed(failure, signal)

    def _refused(self, error: anthropic.APIStatusError) -> AttemptFailed:
        """For an error the API sent, before the stream or in it."""
        headers = error.response.headers
        in_stream = error.status_code < 400  # the headers then belong to an answer that began well
        signal = Signal(
            status=error.status_code,
            type=_text(error.type),
            code=_text(error.error_code),
            retry_after=None if in_stream else retry_after(headers, time.time()),
            should_retry=None if in_stream else should_retry(headers),
        )
        text = _text(error.api_message) or error.message
        return self._failed(error, text, signal, error.request_id)

    def _unreached(self, error: anthropic.APIConnectionError, run: Run) -> AttemptFailed:
        """For a failure before the answer's head."""
        cause = error.__cause__ or error
        if isinstance(cause, httpx2.LocalProtocolError | httpx2.InvalidURL):
            # Our own request is not HTTP: a header of params.extra_headers, as a rule.
            text = f"task {run.task.id}: its request cannot be sent: {cause}"
            raise InvalidTask(self._clean(text)) from error
        if isinstance(cause, _UNSENT):
            return self._failed(
                cause, f"Claude cannot be reached: {_said(cause)}", Signal(exception="connection")
            )
        if isinstance(cause, httpx2.TimeoutException):
            text = f"no answer from Claude within {self._stall:g} s: {_said(cause)}"
            return self._failed(cause, text, Signal(exception="stalled"))
        text = f"the connection to Claude broke before an answer: {_said(cause)}"
        return self._failed(cause, text, Signal(exception="dropped"))

    def _lost(self, error: Exception | None, run: Run) -> AttemptFailed:
        """For an answer that began and never came to its end."""
        if error is None:
            text, category = "the answer ended before its last event", "dropped"
        elif isinstance(error, httpx2.TimeoutException):
            text, category = f"the answer stalled: no byte for {self._stall:g} s", "stalled"
        elif isinstance(error, httpx2.HTTPError):
            text, category = f"the connection broke within the answer: {_said(error)}", "dropped"
        else:
            text, category = f"the answer cannot be read: {_said(error)}", "broken_json"
        return self._failed(error, text, Signal(exception=category), run.request_id)


def _simulated(headers: Mapping[str, str]) -> bool:
    return headers.get("x-simulated") == "true"


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _text(value: object) -> str | None:
    """A field of an error's body, which a proxy may have filled with anything."""
    return value if isinstance(value, str) and value else None


def _shown(state: _Family) -> dict[str, Any]:
    shown: dict[str, Any] = {"in_flight": state.in_flight, "refused": state.refused}
    found = rate_limits(state.headers)
    if found:
        shown["limits"] = found
        shown["limits_at"] = datetime.fromtimestamp(state.headers_at, UTC).isoformat()
    return shown
