"""The endpoints under /v1, and the knobs that bend them.

A POST /v1/messages passes, in this order: authentication, version, validation, the failure the
knobs ask for, the rate limits, the answer. A request that is wrong in itself or over a limit uses
up no scripted step, so that a script means the same whatever else is sent.
"""

from __future__ import annotations

import os
import time
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Final

from agentflow.simulator import answers, caching, catalogue, faults, messages, sse, wire
from agentflow.simulator import knobs as knob
from agentflow.simulator.batches import Batches
from agentflow.simulator.batching import Batching
from agentflow.simulator.http import LAST_CHUNK, ProtocolError, Request, response_head
from agentflow.simulator.knobs import Chance, KnobError, Knobs, Layer
from agentflow.simulator.limits import Limiter, Meter, retry_after
from agentflow.simulator.log import PROMPT_SHOWN, Entry, RequestLog
from agentflow.simulator.reply import JSON_LINES, SSE_LINES, Frame, Reply, whole, without_body
from agentflow.simulator.script import ScriptQueue
from agentflow.simulator.timing import StreamTiming, chunk_count, timing_of
from agentflow.simulator.wire import ENCODER, Message

_ORGANIZATION: Final = "00000000-0000-4000-8000-000051301a7e"
_WORKSPACE: Final = "wrkspc_simulated"
_KNOB_HEADER: Final = "x-fake"
_DRIPS: Final = 10
"""Moments at which the output of a JSON answer is taken from its bucket while it is written."""


class Ask:
    """A request being answered, and what it does to the log and the rate limits meanwhile."""

    __slots__ = ("_api", "_start", "caches", "entry", "meter", "reply")

    def __init__(self, api: Api, entry: Entry) -> None:
        self._api = api
        self._start = api.clock()
        self.entry = entry
        self.meter: Meter | None = None
        self.caches: list[bytes] = []
        """What is cached once its answer begins."""
        self.reply = Reply([])

    def produced(self, output_tokens: int) -> None:
        """See connection.Exchange."""
        self.entry.output_tokens += output_tokens
        if self.meter is not None:
            self.meter.produced(output_tokens, self._api.clock())

    def ended(self, *, disconnected: bool) -> None:
        """See connection.Exchange."""
        if self.caches and disconnected:
            self._api.cache.lose(self.caches, self._api.clock())
        seconds = self._api.clock() - self._start
        self._api.log.closed(self.entry, seconds=seconds, disconnected=disconnected)


class Api:
    """The Messages API with its state: mode, script, buckets, log."""

    def __init__(self, default: Layer, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.log = RequestLog(clock)
        self.scripts = ScriptQueue()
        self.cache = caching.PromptCache()
        self.batches = Batches(clock, self.scripts)
        self._batching = Batching(self.batches)
        self._default = default
        self._run = os.urandom(5).hex()
        self._seen: Counter[int] = Counter()
        self._limiter = Limiter(None)
        self.set_mode({})

    @property
    def mode(self) -> Layer:
        """The sticky layer."""
        return self._mode

    @property
    def effective(self) -> Layer:
        """Default and mode as one."""
        return self._sticky

    def set_mode(self, mode: Layer) -> None:
        """Replaces the sticky layer. Where limits were and change, their buckets keep what they
        held: an administrator has lowered or raised them."""
        self._mode = knob.checked(mode, sticky=True)
        self._sticky = knob.overlay(self._default, self._mode)
        self._sticky_knobs = knob.knobs_of(self._sticky)
        if self._limiter.limits != self._sticky_knobs.limits:
            self._limiter = self._limiter.changed(self._sticky_knobs.limits, self.clock())

    def reset(self) -> None:
        """Back to the server default: no mode, no script, full buckets, empty log."""
        self.log.clear()
        self.scripts.clear()
        self.cache.clear()
        self.batches.clear()
        self._seen.clear()
        self._limiter = Limiter(None)
        self.set_mode({})

    def answer(self, request: Request) -> Ask:
        """The exchange that answers a request to anything but `/_fake/`."""
        number = self.log.requests + 1
        name = f"sim{self._run}{number:08d}"
        ask = Ask(self, self.log.opened(request.method, request.path, f"req_{name}"))
        ask.reply = self._route(request, ask)
        ask.entry.status = ask.reply.status
        ask.entry.fault = ask.reply.fault
        return ask

    def refuse(self, error: ProtocolError) -> Reply:
        """The answer to bytes that are no request."""
        name = f"req_sim{self._run}refused"
        lines = self._lines(name) + "connection: close\r\n"
        return faults.error(error.status, str(error), lines, name)

    # --- what every endpoint does

    def _lines(self, request_id: str, meter: Meter | None = None) -> str:
        now, wall = self.clock(), time.time()
        limits = meter.header_lines(now, wall) if meter else self._limiter.idle_lines(wall)
        return (
            f"request-id: {request_id}\r\n"
            f"anthropic-organization-id: {_ORGANIZATION}\r\n"
            f"anthropic-workspace-id: {_WORKSPACE}\r\n"
            f"x-simulated: true\r\n{limits}"
        )

    def _error(self, ask: Ask, status: int, message: str) -> Reply:
        request_id = ask.entry.request_id
        return faults.error(status, message, self._lines(request_id), request_id)

    def _json(self, ask: Ask, body: bytes) -> Reply:
        return whole(200, JSON_LINES + self._lines(ask.entry.request_id), body)

    def _route(self, request: Request, ask: Ask) -> Reply:
        if request.method in ("GET", "HEAD") and request.path in ("/", "/api/hello"):
            reply = self._json(ask, b'{"message":"hello"}')
            return without_body(reply) if request.method == "HEAD" else reply
        match request.method, request.path.split("/")[1:]:
            case "POST", ["v1", "messages"]:
                endpoint = self._messages
            case "POST", ["v1", "messages", "count_tokens"]:
                endpoint = self._count_tokens
            case _, ["v1", "messages", "batches", *rest]:
                return self._refused(request, ask) or self._batch(request, ask, rest)
            case "GET", ["v1", "models"]:
                endpoint = self._models
            case "GET", ["v1", "models", _]:
                endpoint = self._model
            case _:
                return self._error(ask, 404, f"Not found: {request.method} {request.path}")
        return self._refused(request, ask) or endpoint(request, ask)

    def _refused(self, request: Request, ask: Ask) -> Reply | None:
        headers = request.headers
        bearer = headers.get("authorization", "").partition(" ")
        if not headers.get("x-api-key") and (bearer[0].lower() != "bearer" or not bearer[2]):
            return self._error(ask, 401, "x-api-key or authorization: Bearer header is required")
        version = headers.get("anthropic-version")
        if version is None:
            return self._error(ask, 400, "anthropic-version: header is required")
        if version not in messages.VERSIONS:
            return self._error(ask, 400, f"anthropic-version: {version!r} is not a valid version")
        if request.too_large:
            return self._error(ask, 413, "Request exceeds the maximum size of 32 MB")
        return None

    def _knobs(self, step: Layer, header: Layer) -> Knobs:
        if not step and not header:
            return self._sticky_knobs
        return knob.knobs_of(knob.overlay(self._sticky, step, header))

    # --- the endpoints

    def _plain(self, request: Request, ask: Ask, answer: Callable[[], bytes]) -> Reply:
        """An endpoint that takes no scripted step but shares the failures of mode and header."""
        try:
            knobs = self._knobs({}, _header_layer(request))
        except KnobError as error:
            return self._error(ask, 400, str(error))
        body = answer()
        if Chance(knobs.seed, request.path, self._times_seen(request.path)).fails(knobs):
            request_id = ask.entry.request_id
            failure = faults.instead(knobs, self._lines(request_id), request_id)
            if failure is not None:
                return failure
        return self._json(ask, body)

    def _models(self, request: Request, ask: Ask) -> Reply:
        try:
            page = catalogue.page(request.query)
        except catalogue.InvalidPage as error:
            return self._error(ask, 400, str(error))
        return self._plain(request, ask, lambda: ENCODER.encode(page))

    def _model(self, request: Request, ask: Ask) -> Reply:
        name = request.path.rpartition("/")[2]
        model = catalogue.find(name)
        if model is None:
            return self._error(ask, 404, f"model: {name}")
        return self._plain(request, ask, lambda: ENCODER.encode(model))

    def _count_tokens(self, request: Request, ask: Ask) -> Reply:
        try:
            counted = messages.parse_count(request.body)
        except messages.InvalidRequest as error:
            return self._error(ask, 400, str(error))
        ask.entry.model = counted.model
        count = wire.TokenCount(messages.input_tokens(counted))
        return self._plain(request, ask, lambda: ENCODER.encode(count))

    def _batch(self, request: Request, ask: Ask, rest: list[str]) -> Reply:
        try:
            knobs = self._knobs({}, _header_layer(request))
        except KnobError as error:
            return self._error(ask, 400, str(error))
        if not Chance(knobs.seed, request.path, self._times_seen(request.path)).fails(knobs):
            knobs = knob.without_failure(knobs)
        request_id = ask.entry.request_id
        lines = self._lines(request_id)
        return self._batching.answer(request, rest, knobs, lines, request_id)

    def _messages(self, request: Request, ask: Ask) -> Reply:
        version = request.headers["anthropic-version"]
        try:
            asked = messages.parse_messages(request.body, version)
            header = _header_layer(request)
        except (messages.InvalidRequest, KnobError) as error:
            return self._error(ask, 400, str(error))
        entry, prompt = ask.entry, messages.last_user_text(asked)
        entry.model, entry.stream = asked.model, bool(asked.stream)
        entry.prompt = prompt[:PROMPT_SHOWN]
        script = self.scripts.find(lambda: messages.prompt_text(asked))
        knobs = self._knobs(script.next if script else {}, header)
        chance = Chance(knobs.seed, prompt, self._times_seen(prompt))
        if not chance.fails(knobs):
            knobs = knob.without_failure(knobs)
        lines = self._lines(entry.request_id)
        if (failure := faults.instead(knobs, lines, entry.request_id)) is not None:
            self.scripts.step_done(script)
            return failure
        name, breaks = entry.request_id.removeprefix("req_"), chance.breaks(knobs)
        marked = caching.steps(request.body) if knobs.usage is None else []
        cached = self.cache.look(marked, messages.input_tokens(asked), self.clock())
        message = answers.compose(asked, knobs, prompt, name, breaks=breaks, cached=cached)
        usage = message.usage
        ask.meter = meter = self._limiter.meter(asked.model, self.clock())
        if meter is not None:
            charged = usage.input_tokens + usage.cache_creation_input_tokens
            if wait := meter.admit(charged, self.clock()):
                return self._over_limit(entry.request_id, meter, wait)
            lines = self._lines(entry.request_id, meter)
        self.scripts.step_done(script)
        entry.input_tokens = usage.input_tokens
        timing = timing_of(knobs, chance.latency(knobs), usage.output_tokens)
        begins = self.clock() + (timing.first if asked.stream else timing.last)
        ask.caches = self.cache.keep(marked, self.clock(), begins)
        if not asked.stream:
            reply = _json_answer(message, timing, knobs, lines, entry.request_id)
            return _dripping(reply, timing) if meter is not None else reply
        count = chunk_count(knobs, timing, usage.output_tokens)
        return faults.spoiled_stream(_stream(message, timing, count, lines), knobs)

    def _over_limit(self, request_id: str, meter: Meter, wait: float) -> Reply:
        lines = self._lines(request_id, meter) + f"retry-after: {retry_after(wait)}\r\n"
        message = "This request would exceed a rate limit of the simulator"
        return faults.error(429, message, lines, request_id)

    def _times_seen(self, prompt: str) -> int:
        key = zlib.crc32(prompt.encode("utf-8", "replace"))
        self._seen[key] += 1
        return self._seen[key]


def _header_layer(request: Request) -> Layer:
    text = request.headers.get(_KNOB_HEADER)
    if text is None:
        return {}
    try:
        return knob.parse_layer(text)
    except KnobError as error:
        raise KnobError(f"{_KNOB_HEADER}: {error}") from None


def _stream(message: Message, timing: StreamTiming, chunks: int, lines: str) -> Reply:
    frames = sse.frames(message, timing, chunks)
    frames[0].data = response_head(200, SSE_LINES + lines, length=None) + frames[0].data
    frames[-1].data += LAST_CHUNK
    return Reply(frames, status=200)


def _json_answer(
    message: Message, timing: StreamTiming, knobs: Knobs, lines: str, request_id: str
) -> Reply:
    tokens = message.usage.output_tokens
    body = ENCODER.encode(message)
    return faults.spoiled_json(body, timing.last, tokens, knobs, lines, request_id)


def _dripping(reply: Reply, timing: StreamTiming) -> Reply:
    """The same reply, its output produced bit by bit until then, as a limit counts it."""
    frames = list(reply.frames)
    last = frames[-1]
    if timing.last == 0.0:
        return reply
    total, last.output_tokens = last.output_tokens, 0
    shares = [total * i // _DRIPS for i in range(_DRIPS + 1)]
    drips = [
        Frame(timing.due(i / _DRIPS, i), b"", shares[i] - shares[i - 1])
        for i in range(1, _DRIPS + 1)
    ]
    reply.frames = [*drips, *frames]
    return reply
