"""What a live feed tells, as data: a dashboard folds it, a recording holds an item a line.

The items come in the order in which they became known, which for rows need not be that of the
stream: the newest part of a stream may be read first. Of two rows of a task the one with the higher
sequence counts (`row.supersedes`), so what a reader makes of all of them is the same in any
order. `at` is when an item became known, in seconds since 1970 by the server's clock.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agentflow.protocol.api import GateView
from agentflow.protocol.control import Heartbeat
from agentflow.views.row import Row


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="link"):
    """How the connection is: `up`, and when not, why. `url` has no password in it."""

    at: float
    up: bool
    url: str = ""
    server: str = ""
    detail: str = ""


class Rows(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="rows"):
    """Tasks as they stand now, and steps on their way that ended an attempt.

    Of a task there may be several rows, and older ones after newer ones. `live`: they have become
    so within the last seconds; False: read from the stream.
    """

    at: float
    rows: list[Row]
    live: bool = False


class Loading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="loading"):
    """How far the streams have been read: `done` of `total` messages. Equal: all is known.

    `older`: messages of AGENTFLOW_RECORDS before those that are read at all.
    """

    at: float
    done: int
    total: int
    older: int = 0


class Anew(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="anew"):
    """A stream was made anew: forget the rows from it (records: all; tasks: those not seen)."""

    at: float
    stream: str


class Beat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="beat"):
    """An actor's heartbeat; `interval_s` 0 in it says goodbye."""

    at: float
    beat: Heartbeat


class Gates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="gates"):
    """All that is paused or closed now."""

    at: float
    gates: list[GateView]


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What AGENTFLOW_TASKS holds of a queue.

    `messages` counts those in workers' hands too, `waiting` by priority those that no worker has;
    `oldest` is when the oldest waiting one was stored, in seconds since 1970. `pulls` are requests
    of workers that wait for a task.
    """

    queue: str
    messages: int = 0
    waiting: dict[str, int] = {}
    oldest: float | None = None
    pulls: int = 0


class Depths(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="depths"):
    """The queues, read every few seconds. `first` is the lowest sequence AGENTFLOW_TASKS still has:
    a task known only by an older message is queued no more. `dead` counts the dead letters.
    """

    at: float
    queues: list[QueueDepth]
    first: int = 0
    dead: int = 0


class Tokens(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="tokens"):
    """Text as it is generated; `offset` counts the UTF-8 bytes of the attempt before it."""

    at: float
    id: str
    text: str
    attempt: int = 0
    offset: int = 0


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="note"):
    """What a part of the feed cannot do, such as for want of a permission; no text: it can again.

    Parts: records, tasks, gates, depths, dead letters, permissions, and those of the older part of
    what is read ("older records", "older task messages", "older tasks").
    """

    at: float
    part: str
    text: str = ""


Item = Link | Rows | Loading | Anew | Beat | Gates | Depths | Tokens | Note

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Item] = msgspec.json.Decoder(Item)
_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(item: Item) -> bytes:
    """An item as one line of JSON, without the line's end."""
    return _encoder.encode(item)


def decode(line: bytes) -> Item | None:
    """The item in a line, None for one that this version does not know."""
    try:
        return _decoder.decode(line)
    except _BAD:
        return None
