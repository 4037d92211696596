"""Message Batches: what was asked for, what became of each request, and when. No sockets here.

A batch is made, is listed (perhaps later), runs for a while, and ends with an outcome for each of
its requests. Nothing happens at a time of its own: whoever asks about a batch first lets it become
what it must be by then, so a test that hands in a clock moves batches without waiting.

What a request costs is bought when its batch ends: `paid` counts the answers by prompt.
"""

from __future__ import annotations

import enum
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw

from agentflow.simulator import answers, messages, wire
from agentflow.simulator.knobs import BatchKnobs, Chance, Knobs, knobs_of, overlay
from agentflow.simulator.log import PROMPT_SHOWN
from agentflow.simulator.messages import InvalidRequest, MessagesRequest
from agentflow.simulator.script import ScriptQueue
from agentflow.simulator.wire import ENCODER

REQUESTS_MOST: Final = 100_000
PAGE_MOST: Final = 1_000
PAGE: Final = 20
_VERSION: Final = messages.VERSIONS[0]
_REFUSED: Final = "SIMULATED overloaded"


class _Asked(msgspec.Struct):
    custom_id: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z")]
    params: Raw


class _Create(msgspec.Struct):
    requests: Annotated[list[_Asked], Meta(min_length=1)]


class Counts(msgspec.Struct):
    """How many requests stand where; all are `processing` until the batch has ended."""

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class Shown(msgspec.Struct, tag="message_batch"):
    """A batch as the API tells it."""

    id: str
    processing_status: str
    request_counts: Counts
    created_at: str
    expires_at: str
    ended_at: str | None = None
    cancel_initiated_at: str | None = None
    archived_at: str | None = None
    results_url: str | None = None


class Deleted(msgspec.Struct, tag="message_batch_deleted"):
    id: str


class Page(msgspec.Struct):
    data: list[Shown]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Told(msgspec.Struct):
    """What a test is told of a batch: more than the API tells."""

    id: str
    first: str
    status: str
    counts: Counts
    bytes: int
    deleted: bool


class Ledger(msgspec.Struct):
    """The answer of GET /_fake/batches.

    `paid` counts bought answers by prompt, `calls` names them: `<batch>:<custom_id>`.
    """

    batches: list[Told]
    paid: dict[str, int]
    calls: list[str]
    input_tokens: int
    output_tokens: int


class Conflict(Exception):
    """The batch is not in a state for this; the text goes into the 400."""


class _Outcome(enum.IntEnum):
    SUCCEEDED = 0
    ERRORED = 1
    CANCELED = 2
    EXPIRED = 3
    INVALID = 4  # errored: its params are no request


class Batch:
    """One batch. Times are seconds of the simulator's clock; `wall` is the Unix time of `made`."""

    def __init__(self, batch_id: str, asked: list[_Asked], size: int, knobs: Knobs) -> None:
        self.id = batch_id
        self.asked = asked
        self.size = size
        self.knobs = knobs
        self.made = 0.0
        self.wall = 0.0
        self.listed = 0.0
        self.ends = 0.0
        self.expires = 0.0
        self.canceled: float | None = None
        self.deleted = False
        self.outcomes: list[_Outcome] = []
        self.special: dict[int, Knobs] = {}

    @property
    def ended(self) -> bool:
        """Whether each request has its outcome."""
        return bool(self.outcomes)

    def counts(self) -> Counts:
        """As the API tells them."""
        if not self.ended:
            return Counts(processing=len(self.asked))
        found = Counter(self.outcomes)
        return Counts(
            succeeded=found[_Outcome.SUCCEEDED],
            errored=found[_Outcome.ERRORED] + found[_Outcome.INVALID],
            canceled=found[_Outcome.CANCELED],
            expired=found[_Outcome.EXPIRED],
        )

    @property
    def status(self) -> str:
        """`processing_status`."""
        if self.ended:
            return "ended"
        return "in_progress" if self.canceled is None else "canceling"

    def shown(self, url: str) -> Shown:
        """As the API tells it; `url` is the API's own."""

        def at(seconds: float | None) -> str | None:
            return None if seconds is None else _rfc3339(self.wall + seconds - self.made)

        return Shown(
            id=self.id,
            processing_status=self.status,
            request_counts=self.counts(),
            created_at=_rfc3339(self.wall),
            expires_at=_rfc3339(self.wall + self.expires - self.made),
            ended_at=at(self.ends) if self.ended else None,
            cancel_initiated_at=at(self.canceled),
            results_url=f"{url}/v1/messages/batches/{self.id}/results" if self.ended else None,
        )

    def told(self) -> Told:
        """For tests."""
        first = self.asked[0].custom_id
        return Told(self.id, first, self.status, self.counts(), self.size, self.deleted)

    def line(self, index: int) -> bytes:
        """The line of results of one request, with its newline."""
        outcome, asked = self.outcomes[index], self.asked[index]
        match outcome:
            case _Outcome.SUCCEEDED:
                message = answer_of(self, index)
                result = b'{"type":"succeeded","message":' + ENCODER.encode(message) + b"}"
            case _Outcome.ERRORED | _Outcome.INVALID:
                result = b'{"type":"errored","error":' + self._error(index) + b"}"
            case _Outcome.CANCELED:
                result = b'{"type":"canceled"}'
            case _:
                result = b'{"type":"expired"}'
        return b'{"custom_id":"%b","result":%b}\n' % (asked.custom_id.encode(), result)

    def _error(self, index: int) -> bytes:
        name = f"req_{self.id.removeprefix('msgbatch_')}{index:06d}"
        if self.outcomes[index] is _Outcome.INVALID:
            try:
                messages.parse_messages(bytes(self.asked[index].params), _VERSION)
            except InvalidRequest as error:
                return wire.error_body(400, str(error), name)
        special = self.special.get(index)
        if special is None or special.status is None:
            return wire.error_body(529, _REFUSED, name)
        text = special.error_message or f"SIMULATED {wire.error_type(special.status)}"
        kind, code = special.error_type, special.error_code
        return wire.error_body(special.status, text, name, kind=kind, code=code)


class Batches:
    """All batches of a workspace, newest last."""

    def __init__(self, clock: Callable[[], float], scripts: ScriptQueue) -> None:
        self._clock = clock
        self._scripts = scripts
        self.clear()

    def clear(self) -> None:
        """Forget all of them."""
        self._batches: dict[str, Batch] = {}
        self._open: set[str] = set()
        self._results_read: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.calls: list[str] = []
        self.input_tokens = 0
        self.output_tokens = 0

    # What the API does.

    def parse(self, body: bytes, *, strict: bool) -> list[_Asked]:
        """The requests of a create; with `strict` their params too. Raises InvalidRequest."""
        asked = messages.decode(_create, body).requests
        if len(asked) > REQUESTS_MOST:
            raise InvalidRequest(f"requests: at most {REQUESTS_MOST:,} are allowed")
        seen: set[str] = set()
        for number, one in enumerate(asked):
            if one.custom_id in seen:
                raise InvalidRequest(f"requests.{number}.custom_id: {one.custom_id} stands twice")
            seen.add(one.custom_id)
            if strict:
                try:
                    messages.parse_messages(bytes(one.params), _VERSION)
                except InvalidRequest as error:
                    raise InvalidRequest(f"requests.{number}.params.{error}") from None
        return asked

    def waits(self, asked: list[_Asked], most: int | None) -> bool:
        """Whether so many more requests are more than may be in the queue."""
        if most is None:
            return False
        self._settle()
        queued = sum(len(self._batches[name].asked) for name in self._open)
        return queued + len(asked) > most

    def create(self, name: str, asked: list[_Asked], size: int, knobs: Knobs) -> Batch:
        """A new batch, as its knobs say."""
        told, now = knobs.batches or BatchKnobs(), self._clock()
        batch = Batch(f"msgbatch_{name}", asked, size, knobs)
        chance = Chance(knobs.seed, batch.id, 0)
        batch.made, batch.wall = now, time.time()
        batch.listed = now + told.listed_after
        batch.ends = now + chance.seconds(told.processing)
        batch.expires = now + told.expires
        self._batches[batch.id] = batch
        self._open.add(batch.id)
        return batch

    def find(self, batch_id: str) -> Batch | None:
        """A batch that is listed by now and not deleted."""
        self._settle()
        batch = self._batches.get(batch_id)
        if batch is None or batch.deleted or batch.listed > self._clock():
            return None
        return batch

    def cancel(self, batch: Batch) -> None:
        """Begin to cancel. Raises Conflict where it has ended."""
        if batch.ended:
            raise Conflict(f"Batch {batch.id} has ended and cannot be canceled")
        if batch.canceled is None:
            told = batch.knobs.batches or BatchKnobs()
            batch.canceled = self._clock()
            batch.ends = min(batch.ends, batch.canceled + told.canceling)
            self._settle()

    def delete(self, batch: Batch) -> Deleted:
        """Forget one that has ended. Raises Conflict."""
        if not batch.ended:
            raise Conflict(f"Batch {batch.id} is {batch.status}: cancel it before it is deleted")
        batch.deleted = True
        return Deleted(batch.id)

    def page(self, query: dict[str, str], url: str) -> Page:
        """A page of what is listed, newest first. Raises InvalidRequest."""
        self._settle()
        text = query.get("limit", str(PAGE))
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= PAGE_MOST):
            raise InvalidRequest(f"limit: Expected a number from 1 to {PAGE_MOST}")
        limit, now = int(text), self._clock()
        there = [b for b in self._batches.values() if not b.deleted and b.listed <= now][::-1]
        names = [batch.id for batch in there]
        for cursor in ("after_id", "before_id"):
            if cursor in query and query[cursor] not in names:
                raise InvalidRequest(f"{cursor}: no such batch")
        if "before_id" in query:
            stop = names.index(query["before_id"])
            start = max(0, stop - limit)
            more = start > 0
        else:
            start = names.index(query["after_id"]) + 1 if "after_id" in query else 0
            stop = start + limit
            more = stop < len(names)
        shown = [batch.shown(url) for batch in there[start:stop]]
        ends = (shown[0].id, shown[-1].id) if shown else (None, None)
        return Page(shown, more, *ends)

    def read(self, batch: Batch) -> int:
        """How often its results were read before."""
        self._results_read[batch.id] += 1
        return self._results_read[batch.id] - 1

    # What a test is told.

    def __iter__(self) -> Iterator[Batch]:
        self._settle()
        return iter(list(self._batches.values()))

    def ledger(self) -> Ledger:
        """Everything that was made and bought."""
        return Ledger(
            batches=[batch.told() for batch in self],
            paid=dict(self.paid),
            calls=list(self.calls),
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
        )

    # What time does.

    def _settle(self) -> None:
        now = self._clock()
        for name in sorted(self._open):
            batch = self._batches[name]
            if min(batch.ends, batch.expires) <= now:
                self._open.discard(name)
                self._end(batch)

    def _end(self, batch: Batch) -> None:
        """Give each request its outcome, and buy what was answered."""
        told = batch.knobs.batches or BatchKnobs()
        over = min(batch.ends, batch.expires)
        planned = max(batch.ends, over) - batch.made
        late = _Outcome.CANCELED if batch.canceled is not None else _Outcome.EXPIRED
        done = len(batch.asked)
        if batch.canceled is not None:
            done = 0
        elif batch.ends > batch.expires:
            done = int(done * (over - batch.made) / planned)
        batch.ends = over
        for index, asked in enumerate(batch.asked):
            batch.outcomes.append(late if index >= done else self._outcome(batch, index, told))
            if batch.outcomes[-1] is _Outcome.SUCCEEDED:
                self._buy(batch, index, asked)

    def _outcome(self, batch: Batch, index: int, told: BatchKnobs) -> _Outcome:
        try:
            request = messages.parse_messages(bytes(batch.asked[index].params), _VERSION)
        except InvalidRequest:
            return _Outcome.INVALID
        script = self._scripts.find(lambda: messages.prompt_text(request))
        if script is not None:
            knobs = batch.special[index] = knobs_of(script.next)
            self._scripts.step_done(script)
            if knobs.status not in (None, 200):
                return _Outcome.ERRORED
        chance = Chance(batch.knobs.seed, f"{batch.id}.{index}", 0).share()
        if chance < told.errored:
            return _Outcome.ERRORED
        if chance < told.errored + told.expired:
            return _Outcome.EXPIRED
        return _Outcome.SUCCEEDED

    def _buy(self, batch: Batch, index: int, asked: _Asked) -> None:
        request = messages.parse_messages(bytes(asked.params), _VERSION)
        usage = answer_of(batch, index, request).usage
        self.paid[messages.last_user_text(request)[:PROMPT_SHOWN]] += 1
        self.calls.append(f"{batch.id}:{asked.custom_id}")
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens


def answer_of(batch: Batch, index: int, request: MessagesRequest | None = None) -> wire.Message:
    """What a request that succeeded was answered; the same whenever it is read."""
    if request is None:
        request = messages.parse_messages(bytes(batch.asked[index].params), _VERSION)
    knobs = batch.knobs
    if (special := batch.special.get(index)) is not None:
        knobs = knobs_of(overlay(msgspec.to_builtins(knobs), msgspec.to_builtins(special)))
    name = f"{batch.id.removeprefix('msgbatch_')}{index:06d}"
    message = answers.compose(request, knobs, messages.last_user_text(request), name)
    message.usage.service_tier = "batch"
    return message


_create: Final = msgspec.json.Decoder(_Create)


def _rfc3339(wall: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall))
    return f"{whole}.{int(wall % 1 * 1e6):06d}Z"
