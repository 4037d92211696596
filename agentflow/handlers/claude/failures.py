"""What each thing that goes wrong becomes: a failure for people, and a signal for the retry table.

The SDK raises more than its own exceptions, and aiohttp's come through its translation to httpx2,
which calls a connection lost before an answer one that was never made. So causes are looked at:

    before the answer                            signal
    APIStatusError                               its status, type, code, retry headers
    an error whose body never ended              stalled / dropped
    407                                          connection: the proxy's, no request reached the API
    never sent                                   connection
    no answer in time                            stalled
    sent, and then lost                          dropped
    TypeError, ValueError                        none: InvalidTask, the SDK rejects the parameters
    AnthropicError                               authentication_error: credentials unusable

    within the answer
    an error instead of its rest                 status 200: its type decides
    silence / a broken connection / its end      stalled / dropped / dropped
    what cannot be read                          broken_json
    a page, or JSON that is no message           status 200, type not_an_answer
"""

from __future__ import annotations

import html
import re
import time
from typing import Any, Final

import aiohttp
import anthropic
import httpx2

from agentflow.errors import InvalidTask
from agentflow.handlers.claude.headers import retry_after, should_retry
from agentflow.handlers.claude.reader import BEGINNING
from agentflow.handlers.claude.secrets import Secrets
from agentflow.handlers.contract import AttemptFailed, Run
from agentflow.protocol.record import Failure
from agentflow.rules.retry import SCHEMA, Signal

NOT_AN_ANSWER: Final = "not_an_answer"
_PROXY_AUTHENTICATION: Final = 407
_UNHEARD: Final = (408, 499, 504, 524)
"""Answers of those on the way who did not wait for the API's."""

# What the SDK raises for arguments of a wrong shape before anything is sent; JSONDecodeError and
# pydantic's ValidationError are ValueErrors.
MISSHAPEN: Final = (TypeError, ValueError, AttributeError, LookupError, RecursionError)

# Failures before a request was on its way, so that nothing can have been billed.
_UNSENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
_OWN: Final = (httpx2.LocalProtocolError, httpx2.InvalidURL, ValueError, TypeError)
"""Our own request is no HTTP: a header of params.extra_headers, as a rule."""


class Failures:
    """Makes failures whose texts hold no secret."""

    def __init__(self, secrets: Secrets, stall: float) -> None:
        self._secrets = secrets
        self._stall = stall

    def refused(self, error: anthropic.APIStatusError, run: Run) -> AttemptFailed:
        """For an error that came as the answer."""
        headers = error.response.headers
        text = _text(error.api_message) or _page(error.message) or error.message
        if error.status_code == _PROXY_AUTHENTICATION:
            text = f"the proxy wants to know who asks (407): {text}"
            return self._failed(error, text, Signal(exception="connection"), run)
        signal = Signal(
            status=error.status_code,
            type=self._secrets.name(_text(error.type)),
            code=self._secrets.name(_text(error.error_code)),
            retry_after=retry_after(headers, time.time()),
            should_retry=should_retry(headers),
        )
        return self._failed(error, text, signal, run)

    def told(self, event: dict[str, Any], run: Run) -> AttemptFailed:
        """For an error that came instead of an answer's rest.

        The headers then belong to an answer that began well, and say nothing of it.
        """
        error = event.get("error")
        if not isinstance(error, dict):
            error = {"message": error} if isinstance(error, str) else event
        details, kind = error.get("details"), _text(error.get("type"))
        signal = Signal(
            status=200,
            type=self._secrets.name(kind if kind != "error" else None),
            code=self._secrets.name(
                _text(details.get("error_code")) if isinstance(details, dict) else None
            ),
        )
        text = _text(error.get("message")) or "an error without a message came within the answer"
        return self._failed(None, text, signal, run)

    def credentials(self, error: anthropic.AnthropicError, run: Run) -> AttemptFailed:
        """For credentials that the SDK cannot use."""
        text = f"the credentials for Claude cannot be used: {error}"
        return self._failed(error, text, Signal(type="authentication_error"), run)

    def misshapen(self, error: Exception, run: Run) -> InvalidTask:
        """For parameters that are no request."""
        text = f"task {run.task.id}: the SDK rejects its parameters: {error}"
        return InvalidTask(self._secrets.hidden(text))

    def unreached(
        self, error: anthropic.APIConnectionError, run: Run
    ) -> AttemptFailed | InvalidTask:
        """For a failure before the answer's head."""
        cause = error.__cause__ or error
        origin = cause.__cause__ or cause
        if isinstance(cause, _OWN) and not isinstance(origin, aiohttp.ClientError):
            text = f"task {run.task.id}: its request cannot be sent: {cause}"
            return InvalidTask(self._secrets.hidden(text))
        if isinstance(origin, _UNSENT) or isinstance(cause, _UNSENT) or _plain_connect(cause):
            text = f"Claude cannot be reached: {_said(cause)}"
            return self._failed(cause, text, Signal(exception="connection"), run)
        if isinstance(cause, httpx2.TimeoutException):
            text = f"no answer from Claude within {self._stall:g} s: {_said(cause)}"
            return self._failed(cause, text, Signal(exception="stalled"), run)
        text = f"the connection to Claude broke before an answer: {_said(cause)}"
        return self._failed(cause, text, Signal(exception="dropped"), run)

    def lost(self, error: Exception | None, begun: bool, run: Run) -> AttemptFailed:
        """For an answer that began and never came to its end."""
        if error is None:
            end = "last" if begun else "first"
            text, category = f"the answer ended before its {end} event", "dropped"
        elif isinstance(error, httpx2.TimeoutException):
            text, category = f"the answer stalled: no byte for {self._stall:g} s", "stalled"
        elif isinstance(error, httpx2.HTTPError | aiohttp.ClientError | OSError):
            text, category = f"the connection broke within the answer: {_said(error)}", "dropped"
        else:
            text, category = f"the answer cannot be read: {_said(error)}", "broken_json"
        return self._failed(error, text, Signal(exception=category), run)

    def no_answer(self, beginning: bytes, content_type: str, run: Run) -> AttemptFailed:
        """For a body that is something else: the page of a gateway or a login, foreign JSON."""
        text = beginning[:BEGINNING].decode("utf-8", "replace")
        what = _page(text) or text
        kind = content_type.partition(";")[0] or "no content type"
        return self._failed(
            None,
            f"what came is not an answer of the Messages API ({kind}): {what[:500]}",
            Signal(status=200, type=NOT_AN_ANSWER),
            run,
        )

    def paused(self, turns: int, run: Run) -> AttemptFailed:
        """For an answer that pauses its turn again and again: it is not whole, and is paid."""
        text = f"the answer paused its turn {turns} times and is not complete; what came is kept"
        return self._failed(None, text, Signal(status=200, type="pause_turn"), run)

    def breaking(self, fault: str, repairs: int, run: Run) -> AttemptFailed:
        """For a whole answer that does not fit its schema, also when asked again."""
        often = f" after it was asked {repairs} more time{'s' * (repairs > 1)}" if repairs else ""
        text = f"the answer breaks its schema{often}: {fault}; its text is kept"
        return self._failed(None, text, Signal(status=200, type=SCHEMA), run)

    def _failed(
        self, error: BaseException | None, text: str, signal: Signal, run: Run
    ) -> AttemptFailed:
        name = signal.type or (type(error).__name__ if error else "IncompleteStream")
        failure = Failure(
            type=name,
            message=self._secrets.hidden(text),
            status=signal.status,
            code=signal.code,
            request_id=run.request_id,
        )
        return AttemptFailed(failure, signal)


def unbilled(error: BaseException) -> bool:
    """Whether nothing can have been bought by a request that ended so, before any of its answer."""
    if isinstance(error, InvalidTask):
        return True
    if not isinstance(error, AttemptFailed):
        return False
    signal = error.signal
    if signal.status is None:
        return signal.exception in ("connection", None)
    return signal.status not in _UNHEARD and signal.type != NOT_AN_ANSWER


def _plain_connect(cause: BaseException) -> bool:
    """Without aiohttp beneath it (a SOCKS proxy), a connect error is what it says."""
    return isinstance(cause, httpx2.ConnectError) and not isinstance(
        cause.__cause__, aiohttp.ClientError
    )


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _text(value: object) -> str | None:
    """A field of an error's body, which a proxy may have filled with anything."""
    return value if isinstance(value, str) and value else None


_INVISIBLE: Final = re.compile(r"(?is)<(script|style)\b.*?(</\1>|\Z)|<!--.*?(-->|\Z)|<[^>]*(>|\Z)")


def _page(text: str) -> str | None:
    """What a page says to a person; None where the text is none."""
    if text.lstrip()[:1] != "<":
        return None
    return " ".join(html.unescape(_INVISIBLE.sub(" ", text[:65_536])).split()) or None
