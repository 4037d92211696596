"""Kind `claude`: one request to the Messages API, streamed, in this process.

One client a process (a client costs 22 ms and 0.8 MB), no retries inside it: a retry belongs into
the task's log, where it is durable and visible, and where it frees the slot. The SDK authenticates,
builds, sends and names errors. Answers are always streamed: they show progress, they keep usage
when a connection breaks, and the SDK forbids long answers otherwise. Their events are decoded here
and not by the SDK (reader.py, message.py): a third of the CPU, and no answer that is paid for is
lost to a shape that the SDK's types do not have.

A stream that delivers is healthy. Silence for `stall` seconds is a failure; how long a whole try
may take is the worker's business. Once all of an answer came, its connection is waited for only
that it can be used again.

This folder alone imports anthropic, which takes 1.2 s and 74 MB; handlers/registry.py imports it
only for a worker that runs this kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import time
import urllib.request
from collections.abc import AsyncIterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

import aiohttp
import anthropic
import httpx2
import msgspec
from anthropic.resources.messages import AsyncMessages

from agentflow.handlers import price_file
from agentflow.handlers.batching import Answer, Batching
from agentflow.handlers.claude import batches, secrets, turns
from agentflow.handlers.claude import client as clients
from agentflow.handlers.claude.estimate import Prompts, Ratio
from agentflow.handlers.claude.failures import MISSHAPEN, Failures, unbilled
from agentflow.handlers.claude.headers import rate_limits, reading
from agentflow.handlers.claude.message import Message, Refused
from agentflow.handlers.claude.prefixes import Lead, Prefixes, marks
from agentflow.handlers.claude.reader import Reader, Unreadable
from agentflow.handlers.claude.request import (
    DEFAULT_MAX_TOKENS,
    DEFAULT_MODEL,
    build,
)
from agentflow.handlers.claude.structured import Structured, again
from agentflow.handlers.contract import WHOLE, Outcome, Run
from agentflow.handlers.credential import checked_pool, pool_of
from agentflow.protocol.record import Repair, Usage
from agentflow.protocol.task import Defaults, Task
from agentflow.rules.records import add_repair
from agentflow.rules.routes import estimates, usage
from agentflow.rules.routes import prices as pricing
from agentflow.rules.routes.dearest import dearest, weigh
from agentflow.rules.routes.models import family
from agentflow.rules.routes.prices import Cost, Prices
from agentflow.rules.routes.route import Route

STALL: Final = 120.0
"""Seconds without a byte after which an answer counts as stalled; the API sends pings meanwhile."""
HOUR: Final = 3_600.0
"""Seconds of a try whose task names no timeout: silence bounds it before that."""
LINGER: Final = 0.1
"""Seconds that the end of a body is waited for after an answer's last event."""
LAST_EVENT: Final = 5.0
"""Seconds that the last event is waited for once the reason to stop came."""

_KNOWN: Final = frozenset(inspect.signature(AsyncMessages.create).parameters) - {
    "self",
    "stream",
    "timeout",
    "extra_body",
}
_CUT: Final = (httpx2.HTTPError, httpx2.StreamError, aiohttp.ClientError, OSError)
_BROKEN: Final = (*_CUT, *MISSHAPEN)


class _Family:
    """Requests of one model family with this credential."""

    __slots__ = ("headers", "headers_at", "in_flight", "prompts", "ratio", "refused")

    def __init__(self) -> None:
        self.in_flight = 0
        self.refused = 0
        self.headers: Mapping[str, str] = {}
        self.headers_at = 0.0
        self.ratio = Ratio()
        self.prompts = Prompts()

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

    defaults = Defaults(timeout=HOUR)
    metered = True

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
        self._secrets = secrets.Secrets()
        self._failures = Failures(self._secrets, stall)
        self._families: dict[str, _Family] = {}
        self._prefixes = Prefixes()
        self.pool = checked_pool(pool) or ""

    async def start(self) -> None:
        """Read prices, make the client. Raises KeyMissing, UsageError."""
        prices = self._prices or price_file.load()
        client = clients.make(self._api_key, self._base_url, self._stall)
        self._client, self._messages, self._prices = client, client.messages, prices
        self._secrets = secrets.of_client(client, urllib.request.getproxies(), self._api_key)
        self._failures = Failures(self._secrets, self._stall)
        secrets.watch_logs(self._secrets)
        self.pool = self.pool or pool_of(client.api_key or client.auth_token)
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

    def batch_request(self, task: Task, said: Outcome | None = None) -> bytes:
        """What a task is in a batch, as JSON. Raises InvalidTask."""
        return batches.request(task, model=self._model, max_tokens=self._max_tokens, said=said)

    def batch_most(self, task: Task, said: Outcome | None = None) -> Cost:
        """What this request may cost in a batch. Raises InvalidTask."""
        arguments = batches.arguments_of(
            task, model=self._model, max_tokens=self._max_tokens, said=said
        )
        state = self._families.get(family(arguments["model"]))
        return self._dearest(arguments, state, batch=True)

    def batch_answer(self, task: Task, answer: Answer) -> Answer:
        """An answer with its value, or with what is wrong with it."""
        return batches.checked(task, answer)

    def batching(self) -> Batching:
        """The batches of this credential."""
        if self._client is None or self._prices is None:
            raise RuntimeError("the handler is not started")
        return batches.ClaudeBatches(self._client, self._prices, self._secrets)

    def most(self, task: Task) -> Cost:
        """What a task's first request may cost. Raises InvalidTask."""
        arguments = self._arguments(task)
        if task.schema is not None:
            arguments = Structured(task).asked(arguments)
        return self._dearest(arguments, self._families.get(family(arguments["model"])))

    def _arguments(self, task: Task) -> dict[str, Any]:
        return build(task, _KNOWN, model=self._model, max_tokens=self._max_tokens)

    def _dearest(
        self, arguments: dict[str, Any], state: _Family | None, *, batch: bool = False
    ) -> Cost:
        assert self._prices is not None
        seen = state.prompts if state is not None else Prompts()
        return dearest(
            arguments, self._prices, a_byte=seen.a_byte, overhead=seen.overhead, batch=batch
        )

    async def __call__(self, run: Run) -> Outcome:
        """One answer, of as many requests as it takes. Raises InvalidTask, AttemptFailed.

        An answer that breaks the task's schema is asked for again, as often as the task says.
        """
        arguments = self._arguments(run.task)
        run.model = arguments["model"]
        state = self._families.setdefault(family(arguments["model"]), _Family())
        state.in_flight += 1
        try:
            if run.task.schema is None:
                return await self._answer(arguments, run, state)
            wanted = Structured(run.task)
            return await self._fitting(wanted, wanted.asked(arguments), run, state)
        finally:
            state.in_flight -= 1

    async def _fitting(
        self, wanted: Structured, arguments: dict[str, Any], run: Run, state: _Family
    ) -> Outcome:
        """An answer with its value; or a cut one and the like, which is what it is."""
        asked, repairs = arguments, 0
        while True:
            with _repairing(run, repairs):
                outcome = await self._answer(asked, run, state)
            if outcome.stop_reason not in WHOLE:
                return outcome
            value, fault = wanted.read(outcome)
            if fault is None:
                return msgspec.structs.replace(outcome, value=value)
            if repairs == run.task.repair:
                run.partial = outcome
                raise self._failures.breaking(fault, repairs, run)
            repairs += 1
            asked = again(arguments, outcome, fault)

    async def _answer(self, arguments: dict[str, Any], run: Run, state: _Family) -> Outcome:
        """One answer, of as many requests as it pauses for."""
        said: list[Outcome] = []
        while True:
            said.append(await self._turn(arguments, run, state, said))
            if said[-1].stop_reason != turns.PAUSED:
                return turns.joined(said)
            if len(said) == turns.TURNS_MOST:
                run.partial = turns.joined(said)
                raise self._failures.paused(len(said), run)
            arguments = turns.continued(arguments, said[-1])

    async def _turn(
        self, arguments: dict[str, Any], run: Run, state: _Family, said: list[Outcome]
    ) -> Outcome:
        """One request, and its money; what it used is added to what the turns before it used."""
        bill = _Bill(run)
        if run.purse is None:
            return await self._request(arguments, run, state, said, bill)
        async with run.purse.hold(self._dearest(arguments, state)) as payment:
            try:
                outcome = await self._request(arguments, run, state, said, bill)
            except BaseException as error:
                payment.cost = bill.cost.micro if bill.cost else 0 if unbilled(error) else None
                raise
            payment.cost = bill.cost.micro if bill.cost else None
        prompt = run.usage.total - run.usage.output_tokens
        before = bill.usage.total - bill.usage.output_tokens
        state.prompts.learn(weigh(arguments), prompt - before)
        return outcome

    async def _request(
        self,
        arguments: dict[str, Any],
        run: Run,
        state: _Family,
        said: list[Outcome],
        bill: _Bill,
    ) -> Outcome:
        message = Message()
        marked = marks(arguments)
        lead = bill.lead = await self._prefixes.turn(marked) if marked else None
        began = time.monotonic()
        try:
            response = await self._open(arguments, run, state)
            try:
                await self._read(response, message, run, bill, began)
            finally:
                # Whatever happened, cancellation too: the API stops generating when we hang up.
                # What is wrong with a connection that is given up is nothing to the answer.
                with contextlib.suppress(Exception):
                    await response.aclose()
        except BaseException:
            if message.begun:
                self._account(message, run, bill, state.ratio)
                said = [*said, message.outcome()]
            run.partial = _some(turns.joined(said)) if said else None
            raise
        finally:
            if lead is not None:
                lead.end()
        self._account(message, run, bill, state.ratio)
        if not run.estimated:
            bought = run.usage.output_tokens - bill.usage.output_tokens
            state.ratio.learn(message.characters, bought)
        return message.outcome()

    async def _open(self, arguments: dict[str, Any], run: Run, state: _Family) -> httpx2.Response:
        if self._messages is None:
            raise RuntimeError("the handler is not started")
        sent = time.time()
        # Raised from None: a traceback shows the SDK's own errors, which may quote a key.
        try:
            stream = await self._messages.create(**arguments, stream=True)
        except anthropic.APIStatusError as error:
            state.refused += error.status_code == 429
            self._answered(error.response.headers, run, state, sent)
            raise self._failures.refused(error, run) from None
        except anthropic.APIConnectionError as error:
            raise self._failures.unreached(error, run) from None
        except anthropic.AnthropicError as error:
            raise self._failures.credentials(error, run) from None
        except _CUT as error:
            raise self._failures.lost(error, False, run) from None
        except MISSHAPEN as error:
            raise self._failures.misshapen(error, run) from None
        response: httpx2.Response = stream.response
        self._answered(response.headers, run, state, sent)
        return response

    def _answered(self, headers: httpx2.Headers, run: Run, state: _Family, sent: float) -> None:
        state.answered(headers)
        run.reading = reading(headers.raw, sent)
        run.simulated = headers.get("x-simulated") == "true"
        run.request_id = self._secrets.name(headers.get("request-id"))

    async def _read(
        self, response: httpx2.Response, message: Message, run: Run, bill: _Bill, began: float
    ) -> None:
        reader = Reader()
        problem: Exception | None = None
        begun, before = False, run.characters
        now = asyncio.get_running_loop().time
        waits = (LAST_EVENT, LINGER)
        limit = asyncio.timeout(None)
        try:
            async with limit:
                async for piece in _pieces(response):
                    if message.complete:
                        continue
                    for event in reader.feed(piece):
                        text = message.take(*event)
                        if text:
                            run.emit(text)
                    if message.begun and not begun:
                        begun = True
                        run.counted = _counted(message)
                        if bill.lead is not None:
                            bill.lead.began()
                        run.answered()
                    run.characters = before + message.characters
                    if run.first_token_s is None and message.characters:
                        run.first_token_s = time.monotonic() - began
                        run.usage = bill.usage + usage.counts(message.told)
                    if message.ended and waits[message.complete]:
                        # Once for each: neither pings nor anything else make it longer.
                        limit.reschedule(now() + waits[message.complete])
                        waits = (0.0, 0.0 if message.complete else LINGER)
        except Refused as error:
            if not message.ended:
                raise self._failures.told(error.error, run) from None
        except _BROKEN as error:
            if not (isinstance(error, TimeoutError) and limit.expired()):
                problem = error
        if not message.complete and not isinstance(problem, Unreadable):
            rest = self._rest(reader, message, run)
            problem = problem or rest
        if message.ended and message.begun:
            return
        life = message.begun or message.pinged or message.complete
        if reader.page or (reader.beginning and not life and problem is None):
            kind = response.headers.get("content-type", "")
            raise self._failures.no_answer(reader.beginning, kind, run)
        raise self._failures.lost(problem, message.begun, run) from None

    def _rest(self, reader: Reader, message: Message, run: Run) -> Exception | None:
        """What the end of the body made whole; returns what of it cannot be read."""
        try:
            for event in reader.end():
                text = message.take(*event)
                if text:
                    run.emit(text)
        except Refused as error:
            if not message.ended:
                raise self._failures.told(error.error, run) from None
        except MISSHAPEN as error:
            return error
        return None

    def _account(self, message: Message, run: Run, bill: _Bill, ratio: Ratio) -> None:
        """What was bought, as far as it was told, and the rest by what came."""
        assert self._prices is not None
        told = message.told
        run.model = message.model or run.model
        bought = usage.billed(run.model or "", told)
        parts, missing = list(bought.parts), message.missing(bought.usage)
        if "output_tokens" in missing:
            estimate = ratio.tokens(message.characters) - bought.usage.output_tokens
            if estimate > 0:
                run.estimated = True
                more = Usage(output_tokens=estimate)
                parts[0] = msgspec.structs.replace(parts[0], usage=parts[0].usage + more)
                bought = usage.Billed(bought.usage + more, tuple(parts))
        if bought.usage.total == bought.usage.output_tokens:
            # A prompt of no tokens does not exist.
            cost = Cost(None, "the answer told no usage")
        else:
            cost = pricing.cost(parts, self._prices)
        run.assumed = [*run.assumed, *(name for name in missing if name not in run.assumed)]
        bill.add(run, bought.usage, usage.kept(told), cost)


@contextlib.contextmanager
def _repairing(run: Run, repairs: int) -> Iterator[None]:
    """Count apart what is used within, where something is repaired."""
    usage, micro = run.usage, run.cost_micro
    try:
        yield
    finally:
        if repairs:
            known = micro is not None and run.cost_micro is not None
            cost = (run.cost_micro - micro) / 1_000_000 if known else None  # type: ignore[operator]
            run.repair = add_repair(run.repair, Repair(1, run.usage - usage, cost))


class _Bill:
    """What the turns before this one used."""

    def __init__(self, run: Run) -> None:
        self.cost: Cost | None = None
        """Of this turn, once something of its answer came."""
        self.lead: Lead | None = None
        """Of this turn, where it marks what is to be cached."""
        self.usage = run.usage
        self._micro = run.cost_micro
        self._unpriced = run.unpriced
        self._told = run.usage_told

    def add(self, run: Run, used: Usage, told: dict[str, Any] | None, cost: Cost) -> None:
        """Write into the run what all turns have used."""
        self.cost = cost
        run.usage = self.usage + used
        known = self._micro is not None and cost.micro is not None
        run.cost_micro = self._micro + cost.micro if known else None  # type: ignore[operator]
        run.unpriced = self._unpriced or cost.unpriced
        before = (self._told or {}).get("turns", [self._told]) if self._told else []
        run.usage_told = {"turns": [*before, told]} if before else told


def _pieces(response: httpx2.Response) -> AsyncIterable[bytes]:
    """The body; its decoders cost as much as reading it, so only what is packed passes them."""
    packed = "content-encoding" in response.headers
    return response.aiter_bytes() if packed else cast(httpx2.AsyncByteStream, response.stream)


def _counted(message: Message) -> int | None:
    """Input tokens that count on a limit, as the beginning of an answer tells them."""
    return estimates.counted_input(usage.counts(message.told)) or None


def _some(outcome: Outcome) -> Outcome | None:
    return outcome if outcome.text or outcome.content else None


def _shown(state: _Family) -> dict[str, Any]:
    shown: dict[str, Any] = {"in_flight": state.in_flight, "refused": state.refused}
    limits = rate_limits(state.headers)
    if limits:
        shown["limits"] = limits
        shown["limits_at"] = datetime.fromtimestamp(state.headers_at, UTC).isoformat()
    return shown
