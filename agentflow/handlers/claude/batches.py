"""The Message Batches API: what a task is in a batch, creates, lists and results.

The SDK authenticates, sends and names errors, and repeats nothing: a create sent twice is two
batches. Its body is streamed, so that the lane can hold back the last byte until it has written
down that it may go; results are read line by line, because all of them may be 100 MB.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import anthropic
import msgspec
from anthropic.types.messages import MessageBatch

from agentflow.errors import InvalidTask
from agentflow.handlers.batching import (
    Answer,
    Batch,
    Ended,
    Gone,
    Listing,
    NotCreated,
    Refused,
    Unreached,
)
from agentflow.handlers.claude import turns
from agentflow.handlers.claude.headers import retry_after
from agentflow.handlers.claude.message import Message
from agentflow.handlers.claude.reader import loads
from agentflow.handlers.claude.request import SDK_ONLY, build
from agentflow.handlers.claude.secrets import Secrets
from agentflow.handlers.claude.structured import Structured, again
from agentflow.handlers.contract import WHOLE, Outcome
from agentflow.protocol.record import Failure
from agentflow.protocol.task import Task
from agentflow.rules.records import Spent
from agentflow.rules.retry import SCHEMA, Signal
from agentflow.rules.routes import prices as pricing
from agentflow.rules.routes import usage
from agentflow.rules.routes.prices import Prices

PATH: Final = "/v1/messages/batches"
PAGE: Final = 100
UNCERTAIN: Final = frozenset({408, 409, 499})
"""Refusals after which a create may have been done all the same."""

NOT_LET_IN: Final = frozenset({401, 403})
"""Of a credential: asking again now would be answered the same."""

_NAMED: Final = re.compile(r"requests\.(\d+)\b")
_LINE_MOST: Final = 64 * 1024 * 1024
_encode = msgspec.json.Encoder().encode


def request(task: Task, *, model: str, max_tokens: int, said: Outcome | None = None) -> bytes:
    """The params of a task in a batch, as JSON. Raises InvalidTask.

    `said` is an answer that broke its schema, and is to be shown its fault.
    """
    arguments = arguments_of(task, model=model, max_tokens=max_tokens, said=said)
    extra = arguments.pop("extra_body", None) or {}
    try:
        return _encode({**arguments, **extra})
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTask(f"task {task.id}: its params are no JSON: {error}") from None


def arguments_of(
    task: Task, *, model: str, max_tokens: int, said: Outcome | None = None
) -> dict[str, Any]:
    """What a task asks in a batch, as arguments of messages.create. Raises InvalidTask."""
    for name in ("betas", *SDK_ONLY):
        if name != "extra_body" and task.params.get(name):
            raise InvalidTask(
                f"task {task.id}: params.{name} cannot go into a batch, whose requests have no"
                " headers and no query of their own; submit it without batch"
            )
    arguments = build(task, _Everything(), model=model, max_tokens=max_tokens)
    if task.schema is None:
        return arguments
    wanted = Structured(task)
    asked = wanted.asked(arguments)
    fault = wanted.read(said)[1] if said is not None else None
    return asked if said is None or fault is None else again(asked, said, fault)


def checked(task: Task, answer: Answer) -> Answer:
    """An answer with its value where the task has a schema, or with what is wrong with it."""
    outcome = answer.outcome
    if task.schema is None or outcome is None or answer.signal is not None:
        return answer
    if outcome.stop_reason not in WHOLE:
        return answer  # a cut one and the like is what it is, as of a live request
    value, fault = Structured(task).read(outcome)
    if fault is None:
        return msgspec.structs.replace(
            answer, outcome=msgspec.structs.replace(outcome, value=value)
        )
    failure = Failure(
        type=SCHEMA,
        message=f"the answer breaks its schema: {fault}; its text is kept",
        status=200,
        request_id=answer.spent.request_id,
    )
    # Unlike a live answer, which was asked again in its attempt, it is worth another one.
    signal = Signal(status=200, type=SCHEMA, should_retry=True)
    return msgspec.structs.replace(answer, failure=failure, signal=signal)


class _Everything:
    """A request in a batch is JSON: what the SDK has no argument for needs no detour."""

    def __contains__(self, name: object) -> bool:
        return name not in ("extra_body", "betas")


class ClaudeBatches:
    """The batches of one client."""

    def __init__(self, client: anthropic.AsyncAnthropic, prices: Prices, secrets: Secrets) -> None:
        self._client = client
        self._batches = client.messages.batches
        self._prices = prices
        self._secrets = secrets

    async def listed(self, since: datetime | None = None) -> Listing:
        """See batching.Batching."""
        found: list[Batch] = []
        after: Any = anthropic.omit
        while True:
            with self._asking():
                raw = await self._batches.with_raw_response.list(limit=PAGE, after_id=after)
                page = await raw.parse()
            found += [_batch(told) for told in page.data]
            old = since is not None and any(batch.created < since for batch in found[-1:])
            if since is None or old or not page.has_more or not page.data:
                break
            after = page.data[-1].id
        if since is not None:
            found = [batch for batch in found if batch.created >= since]
        date = raw.headers.get("date")
        at = parsedate_to_datetime(date) if date else datetime.now(UTC)
        return Listing(
            batches=found, workspace=raw.headers.get("anthropic-workspace-id", ""), at=at
        )

    async def create(self, size: int, body: AsyncIterable[bytes]) -> Batch:
        """See batching.Batching."""
        headers = {"Content-Length": str(size), "Content-Type": "application/json"}
        try:
            told = await self._client.post(
                PATH,
                cast_to=MessageBatch,
                content=_once(body),
                options={"headers": headers, "max_retries": 0},
            )
        except anthropic.APIStatusError as error:
            raise self._refused(error) from None
        except _BROKEN as error:
            raise Unreached(self._hidden(f"the create was not answered: {error}")) from None
        return _batch(told)

    def _refused(self, error: anthropic.APIStatusError) -> NotCreated | Unreached:
        status = error.status_code
        text = self._hidden(error.api_message or error.message)
        if status >= 500 or status in UNCERTAIN:
            return Unreached(f"the create was answered with {status}: {text}")
        named = _NAMED.search(text) if status == 400 else None
        return NotCreated(
            _told(error, text),
            retry_after=retry_after(error.response.headers, time.time()),
            request=int(named[1]) if named else None,
        )

    async def get(self, batch_id: str) -> Batch:
        """See batching.Batching."""
        with self._asking():
            return _batch(await self._batches.retrieve(batch_id))

    async def cancel(self, batch_id: str) -> Batch:
        """See batching.Batching."""
        try:
            with self._asking():
                return _batch(await self._batches.cancel(batch_id))
        except Unreached:
            batch = await self.get(batch_id)
            if batch.ended:
                return batch
            raise

    async def results(self, batch_id: str) -> AsyncGenerator[Answer]:
        """See batching.Batching."""
        async with self._opened(batch_id) as (pieces, simulated):
            rest = b""
            while True:
                with self._asking():
                    piece = await anext(pieces, None)
                if piece is None:
                    break
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > _LINE_MOST:
                    raise Unreached(f"a line of the results of {batch_id} has no end")
                for line in lines:
                    if line.strip():
                        yield self._answer(batch_id, line, simulated)
            if rest.strip():
                yield self._answer(batch_id, rest, simulated)

    @asynccontextmanager
    async def _opened(self, batch_id: str) -> AsyncIterator[tuple[AsyncIterator[bytes], bool]]:
        with self._asking():
            manager = self._batches.with_streaming_response.results(batch_id)
            response = await manager.__aenter__()
        try:
            yield response.iter_bytes(), response.headers.get("x-simulated") == "true"
        finally:
            await manager.__aexit__(None, None, None)

    def _answer(self, batch_id: str, line: bytes, simulated: bool) -> Answer:
        try:
            told = loads(line)[0]
            custom_id, result = str(told["custom_id"]), told["result"]
            ended = Ended(result["type"])
        except (ValueError, TypeError, LookupError) as error:
            raise Unreached(
                f"a line of the results of {batch_id} cannot be read: {error}"
            ) from None
        request_id = f"{batch_id}:{custom_id}"
        match ended:
            case Ended.SUCCEEDED:
                return self._succeeded(custom_id, request_id, result.get("message"), simulated)
            case Ended.ERRORED:
                failure, signal = self._failure(result.get("error"), request_id)
            case Ended.EXPIRED:
                text = f"batch {batch_id} ended before this request was answered"
                failure = Failure(type="batch_expired", message=text, request_id=request_id)
                signal = Signal(exception="batch_expired")
            case _:
                text = f"batch {batch_id} was cancelled before this request was answered"
                failure = Failure(type="batch_canceled", message=text, request_id=request_id)
                signal = Signal(exception="batch_canceled")
        return Answer(custom_id=custom_id, ended=ended, failure=failure, signal=signal)

    def _succeeded(self, custom_id: str, request_id: str, told: object, simulated: bool) -> Answer:
        message = Message()
        if isinstance(told, dict):
            message.take("message", told, loose=True)
        # Whatever a gateway says of the tier: what comes out of a batch has a batch's price.
        message.told["service_tier"] = "batch"
        bought = usage.billed(message.model or "", message.told)
        cost = pricing.cost(bought.parts, self._prices)
        full = pricing.cost(
            [
                msgspec.structs.replace(
                    part, detail=msgspec.structs.replace(part.detail, batch=False)
                )
                for part in bought.parts
            ],
            self._prices,
        )
        known = cost.micro is not None and full.micro is not None
        spent = Spent(
            usage=bought.usage,
            cost_micro=cost.micro,
            saved_micro=full.micro - cost.micro if known else 0,  # type: ignore[operator]
            request_id=request_id,
            model=message.model,
            simulated=simulated,
            usage_told=usage.kept(message.told),
            unpriced=cost.unpriced,
            assumed=message.missing(bought.usage) or None,
        )
        outcome = message.outcome()
        failure = signal = None
        if not message.begun:
            text = "what came of this request in its batch is no message"
            failure = Failure(type="not_an_answer", message=text, request_id=request_id)
            signal = Signal(status=200, type="not_an_answer")
        elif outcome.stop_reason == turns.PAUSED:
            text = "the answer paused its turn, which a batch does not go on with; submit it live"
            failure = Failure(type="pause_turn", message=text, request_id=request_id)
            signal = Signal(status=200, type="pause_turn")
        return Answer(
            custom_id=custom_id,
            ended=Ended.SUCCEEDED,
            outcome=outcome,
            spent=spent,
            failure=failure,
            signal=signal,
        )

    def _failure(self, told: object, request_id: str) -> tuple[Failure, Signal]:
        body = told if isinstance(told, dict) else {}
        error = body.get("error")
        error = error if isinstance(error, dict) else body
        details = error.get("details")
        kind, text = str(error.get("type") or "error")[:200], str(error.get("message") or "")
        code = details.get("error_code") if isinstance(details, dict) else None
        code = code if isinstance(code, str) else None
        message = self._hidden(text)[:2_000] or "the request failed in its batch"
        failure = Failure(type=kind, message=message, code=code, request_id=request_id)
        return failure, Signal(status=None, type=kind, code=code, message=text)

    # Errors.

    def _hidden(self, text: str) -> str:
        return self._secrets.hidden(text)

    def _asking(self) -> _Asking:
        return _Asking(self._secrets)


_BROKEN: Final = (anthropic.AnthropicError, OSError)


class _Asking:
    """Names what goes wrong within it."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is None:
            return
        if isinstance(error, anthropic.NotFoundError):
            raise Gone(self._secrets.hidden(error.message)) from None
        if isinstance(error, anthropic.APIStatusError) and error.status_code in NOT_LET_IN:
            raise Refused(_told(error, self._secrets.hidden(error.message))) from None
        if isinstance(error, Exception) and not isinstance(error, Gone | Unreached):
            text = str(error) or type(error).__name__
            raise Unreached(self._secrets.hidden(f"batches: {text}")) from None


def _told(error: anthropic.APIStatusError, text: str) -> Failure:
    return Failure(
        type=error.type or f"http_{error.status_code}",
        message=text[:2_000],
        status=error.status_code,
        code=error.error_code,
        request_id=error.request_id,
    )


async def _once(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for piece in body:
        yield piece


def _batch(told: MessageBatch) -> Batch:
    counts = told.request_counts
    return Batch(
        id=told.id,
        status=told.processing_status,
        ended=told.processing_status == "ended",
        count=counts.processing
        + counts.succeeded
        + counts.errored
        + counts.canceled
        + counts.expired,
        created=told.created_at,
        expires=told.expires_at,
        ended_at=told.ended_at,
    )
