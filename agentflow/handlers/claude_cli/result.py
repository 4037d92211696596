"""What Claude Code says on its way, line by line, and what it comes to. Pure.

Its output is one JSON object a line (`--output-format stream-json --verbose
--include-partial-messages`). Only a line `"type": "result"` ends it well or badly: interrupted it
may exit 0 without a word, and `subtype` says "success" of errors too, so `is_error` decides.

Tokens are counted twice, by us from the streams of its requests and by its own `modelUsage`, since
neither knows all. Ours lacks subagents and what it asks on the side; its own lacks requests that
broke, and comes only at the end. Per model and kind of token the greater holds, and what broke is
added. A request of ours has a price by itself, with its own tier; of its sums only the sum has. It
prices models that it does not know by a guess: its total is used only where it says that all of it
is by list prices (`costBasis`), and where our table, which the user may have changed, has no price.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from agentflow.handlers.claude_cli.arguments import plain_model
from agentflow.handlers.contract import AttemptFailed, Outcome
from agentflow.protocol import limits
from agentflow.protocol.record import TOKENS_MOST, Failure, Usage, counted
from agentflow.rules.retry import Signal
from agentflow.rules.routes.models import undated
from agentflow.rules.routes.prices import Detail, Prices, cost_micro
from agentflow.rules.routes.usage import detail_of

OWN_DELAY: Final = 1000.0
"""Its own first pause is shorter (milliseconds); one that is not was told by the API."""
DENIALS: Final = 20
_INPUT: Final = 2_000
_KINDS: Final = ("input", "output", "cacheCreationInput", "cacheReadInput")

_STOPS: Final = {"error_max_turns": "max_turns", "error_max_budget_usd": "max_budget"}
"""Ends that were asked for: results, as an answer cut at max_tokens is one."""

# Its words for what the API said, where a status alone would mislead or is missing.
_TYPES: Final = {
    "authentication_failed": "authentication_error",
    "billing_error": "billing_error",
}
_NOT_LOGGED_IN: Final = ("Not logged in", "Invalid API key", "Please run /login")
_API_TYPE: Final = re.compile(r"\b(overloaded_error|rate_limit_error|api_error|timeout_error)\b")


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """It says that it will ask again: `status` was the answer, None where there was none."""

    status: int | None
    error: str
    retry_after: float | None


class _Request(msgspec.Struct):
    """One request as its stream tells."""

    model: str
    usage: Usage
    detail: Detail


class Conversation:
    """What has been said so far."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.session_id: str | None = None
        self.request_id: str | None = None
        self.error: str | None = None
        """Its short word for the last request that failed."""
        self.retry: Retry | None = None
        """The last announcement to ask again."""
        self.result: dict[str, Any] | None = None
        self.last_text: str | None = None
        self.stop_details: Any = None
        self._whole: list[_Request] = []
        self._broken: list[_Request] = []
        self._open: dict[str | None, _Request] = {}

    @property
    def has_turns(self) -> bool:
        """Whether an answer has come whole: to begin anew would be to pay for it again."""
        return bool(self._whole)

    def take(self, line: bytes | bytearray) -> str | None:
        """Take a line; returns text that a person may see as it is generated."""
        try:
            event = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None  # a warning of a tool, as likely as not
        if not isinstance(event, dict):
            return None
        match event.get("type"):
            case "stream_event":
                return self._stream(_object(event, "event"), _text(event, "parent_tool_use_id"))
            case "assistant":
                self._assistant(event)
            case "system":
                self._system(event)
            case "result":
                self.result = event
                self.session_id = _text(event, "session_id") or self.session_id
        return None

    def _system(self, event: dict[str, Any]) -> None:
        self.session_id = _text(event, "session_id") or self.session_id
        if event.get("subtype") == "api_retry":
            delay = _number(event.get("retry_delay_ms")) or 0.0
            told = event.get("attempt") == 1 and delay >= OWN_DELAY
            self.error = _text(event, "error")
            self.retry = Retry(
                status=_whole(event.get("error_status")),
                error=self.error or "unknown",
                retry_after=delay / 1000 if told else None,
            )

    def _assistant(self, event: dict[str, Any]) -> None:
        message = _object(event, "message")
        self.request_id = _text(event, "request_id") or self.request_id
        if event.get("parent_tool_use_id") is not None:
            return
        self.error = _text(event, "error")
        details = message.get("stop_details")
        if isinstance(details, dict):
            self.stop_details = details
        blocks = message.get("content")
        texts = [
            text
            for block in (blocks if isinstance(blocks, list) else ())
            if isinstance(block, dict) and (text := _text(block, "text"))
        ]
        if texts and not self.error:
            self.last_text = "".join(texts)

    def _stream(self, event: dict[str, Any], parent: str | None) -> str | None:
        match event.get("type"):
            case "content_block_delta":
                text = _text(_object(event, "delta"), "text")
                return text if parent is None else None
            case "message_start":
                self._close(parent)
                message = _object(event, "message")
                usage = _object(message, "usage")
                model = plain_model(_text(message, "model") or "")
                if parent is None:
                    self.model = model or self.model
                self._open[parent] = _Request(model, _usage(usage, Usage()), detail_of(usage))
            case "message_delta":
                request = self._open.get(parent)
                if request is not None:
                    usage = _object(event, "usage")
                    request.usage = _usage(usage, request.usage)
                    searches = _searches(usage)
                    if searches:
                        request.detail = msgspec.structs.replace(request.detail, searches=searches)
            case "message_stop":
                request = self._open.pop(parent, None)
                if request is not None:
                    self._whole.append(request)
        return None

    def _close(self, parent: str | None) -> None:
        request = self._open.pop(parent, None)
        if request is not None:
            self._broken.append(request)

    # What it came to.

    def spent(self, prices: Prices) -> tuple[Usage, int | None]:
        """Tokens and micro-USD so far; the latter is None where something has no price."""
        broken = [*self._broken, *self._open.values()]
        usage = _sum(request.usage for request in broken)
        cost = _cost(broken, prices)
        told = self._told()
        ours: dict[str, list[_Request]] = {}
        for request in self._whole:
            ours.setdefault(undated(request.model), []).append(request)
        for model in {**ours, **told}:
            requests = ours.get(model, [])
            seen = _sum(request.usage for request in requests)
            theirs, searches = told.get(model, (Usage(), 0))
            whole = _greater(seen, theirs)
            usage = usage + whole
            if whole == seen and searches <= sum(one.detail.searches for one in requests):
                part = _cost(requests, prices)
            else:
                part = self._cost_of_sum(model, whole, searches, requests, prices)
            cost = None if cost is None or part is None else cost + part
        if cost is None and not broken:
            cost = self._listed()
        return usage, cost

    def _told(self) -> dict[str, tuple[Usage, int]]:
        by_model: dict[str, tuple[Usage, int]] = {}
        for name, told in _object(self.result or {}, "modelUsage").items():
            if isinstance(told, dict):
                model = undated(plain_model(name))
                before, searched = by_model.get(model, (Usage(), 0))
                counts = Usage(*(_count(told, f"{name}Tokens") for name in _KINDS))
                by_model[model] = (before + counts, searched + _count(told, "webSearchRequests"))
        return by_model

    def _cost_of_sum(
        self,
        model: str,
        usage: Usage,
        searches: int,
        requests: list[_Request],
        prices: Prices,
    ) -> int | None:
        price = prices.models.get(model)
        prompts = usage.total - usage.output_tokens
        if price is not None and price.long_above is not None and prompts > price.long_above:
            return None  # which of its requests were long, the sum does not tell
        written = _object(_object(self.result or {}, "usage"), "cache_creation")
        detail = Detail(
            written_1h=max(
                _count(written, "ephemeral_1h_input_tokens"),
                sum(request.detail.written_1h for request in requests),
            ),
            searches=searches,
            unlisted=next((r.detail.unlisted for r in requests if r.detail.unlisted), ""),
        )
        return cost_micro(model, usage, prices, detail)

    def _listed(self) -> int | None:
        models = list(_object(self.result or {}, "modelUsage").values())
        total = _number((self.result or {}).get("total_cost_usd"))
        listed = all(isinstance(one, dict) and one.get("costBasis") == "list" for one in models)
        return round(total * 1e6) if models and listed and total is not None else None

    def outcome(self) -> Outcome:
        """The result. Raises AttemptFailed where there is none, or it is an error."""
        result = self.result
        if result is None:
            raise ValueError("it has not ended")
        stop = _STOPS.get(_text(result, "subtype") or "") or _text(result, "stop_reason")
        if result.get("is_error") is not False and stop not in ("refusal", *_STOPS.values()):
            raise self._failed(result)
        text = _text(result, "result")
        value: dict[str, Any] = {
            "session_id": self.session_id,
            "num_turns": result.get("num_turns"),
            "duration_ms": result.get("duration_ms"),
            "duration_api_ms": result.get("duration_api_ms"),
            "permission_denials": _denials(result),
        }
        if "structured_output" in result:
            value["structured_output"] = result["structured_output"]
        if self.stop_details is not None:
            value["stop_details"] = self.stop_details
        return Outcome(text=self.last_text if text is None else text, stop_reason=stop, value=value)

    def _failed(self, result: dict[str, Any]) -> AttemptFailed:
        errors = result.get("errors")
        text = _text(result, "result") or (
            "; ".join(map(str, errors)) if isinstance(errors, list) else ""
        )
        return self.failed(
            text or f"Claude Code ended with {_text(result, 'subtype')}",
            status=_whole(result.get("api_error_status")),
        )

    def refused(self) -> AttemptFailed:
        """For the first request, which the API refused and Claude Code would send again."""
        retry = self.retry
        assert retry is not None
        if retry.status is None:
            text = "Claude cannot be reached, or broke the connection before an answer"
            failure = Failure(type="connection", message=text)
            return AttemptFailed(failure, Signal(exception="connection"))
        told = f" and asks for {retry.retry_after:g} s" if retry.retry_after is not None else ""
        text = f"the API answered {retry.status} ({retry.error}){told}"
        return self.failed(text, status=retry.status, retry_after=retry.retry_after)

    def failed(
        self, text: str, *, status: int | None = None, retry_after: float | None = None
    ) -> AttemptFailed:
        """The failure that its words and the status mean."""
        signal = _signal(text, self.error, status, retry_after)
        name = signal.type or self.error or signal.exception or "api_error"
        failure = Failure(
            type=name,
            message=text[: limits.ERROR_TEXT],
            status=status,
            request_id=self.request_id,
        )
        return AttemptFailed(failure, signal)


def _signal(text: str, error: str | None, status: int | None, retry_after: float | None) -> Signal:
    kind = _TYPES.get(error or "")
    if kind is None and any(words in text for words in _NOT_LOGGED_IN):
        kind = "authentication_error"
    if kind or status is not None:
        return Signal(status=status, type=kind, retry_after=retry_after)
    if "Unable to connect" in text:
        # A connection refused and one that broke before its answer look alike to it.
        return Signal(exception="connection" if "Refused" in text else "dropped")
    if named := _API_TYPE.search(text):
        return Signal(type=named[1])  # an error within a stream, which has no status
    if "timed out" in text or "timeout" in text:
        return Signal(exception="stalled")
    if error == "invalid_request":
        return Signal(type="invalid_request_error")
    if "Connection" in text or error == "server_error":
        return Signal(exception="dropped")
    return Signal(exception="handler")


def _cost(requests: Iterable[_Request], prices: Prices) -> int | None:
    total = 0
    for request in requests:
        cost = cost_micro(request.model, request.usage, prices, request.detail)
        if cost is None:
            return None
        total += cost
    return total


def _sum(usages: Iterable[Usage]) -> Usage:
    return sum(usages, Usage())


def _greater(one: Usage, other: Usage) -> Usage:
    return Usage(*map(max, msgspec.structs.astuple(one), msgspec.structs.astuple(other)))


def _usage(counts: dict[str, Any], before: Usage) -> Usage:
    """Counts are sums from the start of the stream; one left out has not changed."""

    def count(name: str) -> int:
        told = counted(counts.get(name))
        return int(getattr(before, name)) if told is None else told

    return Usage(
        count("input_tokens"),
        count("output_tokens"),
        count("cache_creation_input_tokens"),
        count("cache_read_input_tokens"),
    )


def _searches(usage: dict[str, Any]) -> int:
    return _count(_object(usage, "server_tool_use"), "web_search_requests")


def _denials(result: dict[str, Any]) -> list[dict[str, Any]]:
    denials = result.get("permission_denials")
    shown = []
    for denial in (denials if isinstance(denials, list) else [])[:DENIALS]:
        if isinstance(denial, dict):
            one = {"tool_name": denial.get("tool_name")}
            tool_input = denial.get("tool_input")
            if len(msgspec.json.encode(tool_input)) <= _INPUT:
                one["tool_input"] = tool_input
            shown.append(one)
    return shown


# Its output is another program's: a field may be missing, and may be anything.


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _count(fields: dict[str, Any], name: str) -> int:
    return min(max(0, _whole(fields.get(name)) or 0), TOKENS_MOST)


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
