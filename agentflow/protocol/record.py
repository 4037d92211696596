"""Records: the entries of a task's log.

A record is complete: the last one alone decides what may happen next. Usage and cost are sums over
the attempts so far. A reader ignores fields it does not know; a record whose `v` or `state` it does
not know is not terminal and must not be followed (`readable`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

from agentflow.protocol import subjects
from agentflow.protocol.subjects import Priority

VERSION: Final = 1
ID_REUSED: Final = "id_reused"
"""Reason of what was failed under a derived id, because its own belongs to another request."""

TOKENS_MOST: Final = 10**12
"""More tokens than anybody buys: a count above is nonsense, and must fit every sum and reader."""

NOTHING_SAVED: Final = 0.0
"""This very object is left out of a record: what is equal to it is not."""

# Whoever may write a record may write any number. One that no column and no clock can hold makes
# the record unreadable, and nothing else.
Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Times = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
Tokens = Annotated[int, msgspec.Meta(ge=-1000 * TOKENS_MOST, le=1000 * TOKENS_MOST)]
Dollars = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
Seconds = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]


class State(StrEnum):
    """Where a task stands. A task without a record is queued too: its message waits."""

    QUEUED = "queued"
    RUNNING = "running"
    SCHEDULED = "scheduled"
    RETRYING = "retrying"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens, in Anthropic's own names; all input is the sum of the three input fields."""

    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cache_creation_input_tokens: Tokens = 0
    cache_read_input_tokens: Tokens = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_creation_input_tokens + other.cache_creation_input_tokens,
            self.cache_read_input_tokens + other.cache_read_input_tokens,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.cache_creation_input_tokens - other.cache_creation_input_tokens,
            self.cache_read_input_tokens - other.cache_read_input_tokens,
        )

    @property
    def cached(self) -> int:
        """Those written to the prompt cache and read from it."""
        return self.cache_creation_input_tokens + self.cache_read_input_tokens

    @property
    def total(self) -> int:
        """All tokens, in and out."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.cache_creation_input_tokens
            + self.cache_read_input_tokens
        )


class Repair(msgspec.Struct, frozen=True, gc=False):
    """What of usage and cost went into asking again for answers that broke their schema."""

    turns: int = 0
    usage: Usage = Usage()
    cost_usd: float | None = 0.0


def counted(told: object) -> int | None:
    """A count as a service told it, from 0 to TOKENS_MOST; None where it told none.

    Gateways send counts as floats and as digits, and some send nonsense.
    """
    if isinstance(told, str):
        told = int(told) if told.isdecimal() and len(told) < 32 else None
    if isinstance(told, bool) or not isinstance(told, int | float) or not told >= 0:
        return None
    return int(min(told, TOKENS_MOST))


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong in an attempt: `type` and `code` are the API's or the exception's name.

    Where a handler raised it, `at` is the line at fault (`file:line in function`), and `traceback`
    the way there.
    """

    type: str
    message: str
    status: int | None = None
    code: str | None = None
    request_id: str | None = None
    at: str | None = None
    traceback: str | None = None


class Timings(msgspec.Struct, frozen=True, omit_defaults=True):
    """When and how long: instants in UTC, durations in seconds.

    `submitted` is when the first message was stored, `started` and `ended` are of the last attempt,
    `run_s` sums the attempts, `first_token_s` is of the last attempt. `due` is when that might have
    started, where it had to wait for an instant.
    """

    submitted: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    run_s: Seconds = 0.0
    first_token_s: Seconds | None = None
    due: datetime | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of a log. Fields without a default are in every record.

    `title` is how lists call the task; `by` who cancelled it, or dropped (`dropped`) its dead
    letter: it is still failed then, and cannot be retried.
    """

    v: int
    id: str
    state: str
    attempt: Times
    failures: Times
    actor: str
    follows: Sequence
    message: str
    time: datetime
    queue: str
    priority: str
    kind: str
    labels: dict[str, str]
    usage: Usage
    cost_usd: Dollars | None
    timings: Timings
    model: str | None = None
    title: str | None = None
    asked: dict[str, str | int] | None = None
    resume_at: datetime | None = None
    reason: str | None = None
    error: Failure | None = None
    request_id: str | None = None
    progress: float | None = None
    note: str | None = None
    text: str | None = None
    truncated: bool = False
    content: Any = None
    stop_reason: str | None = None
    value: Any = None
    simulated: bool = False
    usage_told: Any = None
    unpriced: str | None = None
    estimated: bool = False
    partial: bool = False
    assumed: list[str] | None = None
    saved_usd: float = NOTHING_SAVED
    pool: str | None = None
    repair: Repair | None = None
    lane: str = ""
    by: str | None = None
    dropped: bool = False
    traceparent: str | None = None
    carry: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def readable(self) -> bool:
        """Whether this version knows what the record means and may follow it."""
        return self.v <= VERSION and self.state in _STATES

    @property
    def subject(self) -> str:
        """Where the record is stored: `results` once the task has ended."""
        return subjects.result(self.id) if self.terminal else subjects.progress(self.id)

    @property
    def terminal(self) -> bool:
        """Whether the task has ended; a failed one may be continued by hand.

        A record of a later version has not, whatever its state is called.
        """
        return self.state in TERMINAL and self.readable

    @property
    def failed(self) -> bool:
        """Whether the task ended without success and may be retried by hand."""
        return self.terminal and self.state == State.FAILED


_STATES: Final = frozenset(State)
TERMINAL: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
PARKED: Final = frozenset({State.SCHEDULED, State.RETRYING})
"""Until an instant; `waiting` is parked too, and nobody knows until when."""


class Last(msgspec.Struct, frozen=True):
    """The last record of a log and its sequence; sequence 0 and no record: the log is empty."""

    sequence: int = 0
    record: Record | None = None

    @property
    def state(self) -> str | None:
        """State of the last record, None for an empty log."""
        return self.record.state if self.record else None


EMPTY: Final = Last()


class _Head(msgspec.Struct):
    v: int = VERSION + 1
    state: str = "unreadable"


_NAMEABLE: Final = re.compile("[a-z_-]{1,24}")
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)
_head = msgspec.json.Decoder(_Head)

# msgspec lets the error of a text that is not UTF-8 through as it is.
_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(record: Record) -> bytes:
    """The record as JSON."""
    return _encoder.encode(record)


def decode(data: bytes, subject: str = "") -> Record:
    """The record in `data`; what cannot be read becomes one that is not `readable`."""
    try:
        return _decoder.decode(data)
    except _BAD:
        return unreadable(data, subject)


def unreadable(data: bytes, subject: str) -> Record:
    """A stand-in for a record of another version: its v and state, and nothing else to rely on."""
    try:
        head = _head.decode(data)
    except _BAD:
        head = _Head()
    return Record(
        v=max(head.v, VERSION + 1),
        id=subjects.record_id(subject) if subject else "",
        state=head.state if _NAMEABLE.fullmatch(head.state) else _Head().state,
        attempt=0,
        failures=0,
        actor="",
        follows=0,
        message="",
        time=datetime.fromtimestamp(0, UTC),
        queue="",
        priority=Priority.NORMAL,
        kind="",
        labels={},
        usage=Usage(),
        cost_usd=None,
        timings=Timings(),
    )
