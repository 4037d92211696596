"""What actors say to each other outside the log: heartbeats, questions, hints. Nothing is stored.

Control messages are one tagged union, so that a mailbox is opened with `match`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from agentflow.protocol.batches import Progress


class RunningTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task a worker is at: since when, which attempt, and the tokens so far."""

    id: str
    kind: str
    queue: str
    attempt: int
    since: datetime
    output_tokens: int = 0


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an actor is; `interval_s` says when the next is due, `stopping` that it is the last ones.

    `running` counts all tasks, `work` the same by queue and kind, and `tasks` names at most 200 of
    them. `pools` holds, by pool and model
    family, requests in flight, held, refused with 429 and the last rate limit headers.
    """

    v: int = 1
    role: str
    actor: str
    name: str
    host: str
    pid: int
    version: str
    started: datetime
    time: datetime
    interval_s: float
    queues: list[str] = []
    kinds: list[str] = []
    slots: int = 0
    running: int = 0
    held: int = 0
    work: dict[str, dict[str, int]] = {}
    done: int = 0
    failed: int = 0
    stopping: bool = False
    simulated: bool = False
    lease_s: float | None = None
    rss_bytes: int | None = None
    loop_lag_ms: float | None = None
    tasks: list[RunningTask] = []
    notes: list[str] = []
    pools: dict[str, Any] = {}
    batches: list[Progress] = []


class RouteWait(msgspec.Struct, frozen=True, omit_defaults=True):
    """Requests of a route that wait: how many, on which axis, seconds until the first starts."""

    waiting: int
    axis: str = ""
    seconds: float = 0.0


class Holds(msgspec.Struct, frozen=True, tag="holds"):
    """Do you hold this task message? Answered with Held."""

    message: str


class Held(msgspec.Struct, frozen=True, tag="held"):
    """The answer: whether the message is run, or waits locally, here."""

    holds: bool


class Cancel(msgspec.Struct, frozen=True, tag="cancel", omit_defaults=True):
    """Stop running a task and write `cancelled`; a hint, the log is the truth.

    Answered with Held: true once the record is written, false where the task does not run. `by`
    is who asked for it.
    """

    id: str
    by: str | None = None


class Waits(msgspec.Struct, frozen=True, tag="waits", omit_defaults=True):
    """For what does this task wait with you? Without an id: who waits with you for limits?

    Answered with Waiting, where any does.
    """

    id: str = ""


class Waiting(msgspec.Struct, frozen=True, tag="waiting", kw_only=True, omit_defaults=True):
    """Who waits for the limits of routes.

    `routes` has of each by name (`<pool>.<family>`) how many requests wait, on which axis, and in
    how many seconds the first is expected to start; `route`, `axis` and `seconds` are of the task
    that was asked for.
    """

    actor: str = ""
    route: str = ""
    axis: str = ""
    seconds: float = 0.0
    routes: dict[str, RouteWait] = {}


class Said(msgspec.Struct, frozen=True, tag="said"):
    """What text has this task generated with you so far? Answered with Text, where it runs."""

    id: str


class Text(msgspec.Struct, frozen=True, tag="text"):
    """The answer: the text of an attempt, but for what is only being sent.

    `offset` counts the UTF-8 bytes of the attempt before it: of a long text only the end is kept.
    """

    id: str
    attempt: int
    offset: int
    text: str


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Stop pulling, finish or hand back what runs, and exit."""


Control = Holds | Held | Cancel | Drain | Waits | Waiting | Said | Text

_encoder = msgspec.json.Encoder()
_control: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Control)
_heartbeat = msgspec.json.Decoder(Heartbeat)

# msgspec lets the error of a text that is not UTF-8 through as it is.
_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(message: Control | Heartbeat) -> bytes:
    """A message as JSON."""
    return _encoder.encode(message)


def decode(data: bytes) -> Control | None:
    """The control message in `data`, None for one this version does not know."""
    try:
        return _control.decode(data)
    except _BAD:
        return None


def decode_heartbeat(data: bytes) -> Heartbeat | None:
    """The heartbeat in `data`, None where it is none."""
    try:
        return _heartbeat.decode(data)
    except _BAD:
        return None
