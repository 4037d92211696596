"""Whether more than one set of streams takes the same subjects, as where a leaf node has its own.

Servers that are joined as hub and leaf pass on what is published, and where both have JetStream
each has streams of its own. With a set of ours on both sides every task is stored twice, and run
twice. A client sees one of them only; but what expects a stream of another name is refused by every
stream that has its subject, so it is answered as often as there are such streams.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

import msgspec

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.message import Message
from agentflow.protocol import headers, subjects

LISTEN: Final = 0.6
"""Seconds for the answer of the other one, over a leaf node's connection."""
_NOWHERE: Final = headers.encode({"Nats-Expected-Stream": "agentflow-doctor"})


class _Answer(msgspec.Struct):
    stream: str = ""


async def takers(js: JetStream) -> int:
    """How many streams take a task's subject, ours included. Raises BusError."""
    connection, count = js.connection, 0
    inbox = f"{connection.options.inbox_prefix}.{secrets.token_hex(11)}"

    def answered(message: Message) -> None:
        nonlocal count
        try:
            count += bool(msgspec.json.decode(message.data, type=_Answer).stream)
        except msgspec.DecodeError:
            return  # nobody listens

    subscription = await connection.subscribe(inbox, answered)
    try:
        await connection.flush()
        connection.publish(subjects.task("doctor"), b"", reply=inbox, block=_NOWHERE)
        await asyncio.sleep(LISTEN)
    finally:
        await subscription.close()
    return count


def warning(count: int, *, here: bool) -> str:
    """What is wrong where so many take it; `here`: the server that we are at has ours."""
    if count <= int(here):
        return ""
    who = f"{count} sets of streams take" if here else "a set of streams elsewhere takes"
    return (
        f"{who} {subjects.task('>')}: a hub and a leaf node with JetStream each, as it seems, and "
        "every task would be stored, and run, in each"
    )


REMEDY: Final = (
    "keep one set: without JetStream a leaf node carries workers and clients (docs/scaling.md, "
    "Leaf nodes); or deny agentflow.> on the leaf node's connection"
)
