"""The bare protocol without the framework: what the server and nats-py allow.

Fenced claim, fenced finish, ack, results over the republished copy, and nothing else: no parsing of
tasks, no decisions, no heartbeats, no renewal, no recovery. It is the yardstick of `bench core`.
The worker is a process of its own: `python -m bench.core.bare URL SLOTS`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from agentflow.protocol import streams, subjects
from agentflow.protocol.subjects import Priority

QUEUE = "bare"
CONSUMER = subjects.consumer(QUEUE, Priority.NORMAL)
LIVE = "agentflow.live.results."


class BareTask(msgspec.Struct, omit_defaults=True):
    """The least a task needs."""

    id: str
    prompt: str
    seconds: float = 0.0


class BareRecord(msgspec.Struct):
    """The least a record needs."""

    id: str
    state: str
    actor: str
    text: str = ""


class Pipeline:
    """Publishes with acknowledgement, many at once, over one inbox."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0

    async def start(self) -> Pipeline:
        await self._client.subscribe(self._inbox + ".*", cb=self._answered)
        return self

    async def _answered(self, message: Msg) -> None:
        future = self._waiting.pop(message.subject, None)
        if future is not None and not future.done():
            future.set_result(json.loads(message.data))

    async def store(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None
    ) -> asyncio.Future[dict[str, Any]]:
        self._count += 1
        reply = f"{self._inbox}.{self._count}"
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[reply] = future
        await self._client.publish(subject, data, reply=reply, headers=headers)
        return future


async def set_up(client: Client) -> None:
    """The real streams and one consumer; raises AssertionError when the server refuses."""
    for definition in streams.streams():
        answer = await client.request(
            f"$JS.API.STREAM.CREATE.{definition['name']}",
            json.dumps(definition).encode(),
            timeout=5,
        )
        assert "error" not in json.loads(answer.data), answer.data
    body = {
        "stream_name": subjects.TASKS,
        "config": streams.consumer(QUEUE, Priority.NORMAL),
        "action": "create",
    }
    answer = await client.request(
        f"$JS.API.CONSUMER.CREATE.{subjects.TASKS}.{CONSUMER}", json.dumps(body).encode(), timeout=5
    )
    assert "error" not in json.loads(answer.data), answer.data


async def work(url: str, slots: int) -> None:
    """The worker; runs until it is killed."""
    client = await nats.connect(url)
    pipeline = await Pipeline(client).start()
    inbox = client.new_inbox()
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(BareTask).decode
    free, asked = slots, 0
    running: set[asyncio.Task[None]] = set()

    async def pull(count: int) -> None:
        nonlocal asked
        asked += count
        body = b'{"batch":%d,"expires":30000000000}' % count
        await client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{subjects.TASKS}.{CONSUMER}", body, reply=inbox
        )

    async def run(message: Msg) -> None:
        nonlocal free
        task = decode(message.data)
        fence = {
            "Nats-Expected-Last-Subject-Sequence": "0",
            "Nats-Expected-Last-Subject-Sequence-Subject": subjects.log(task.id),
        }
        record = BareRecord(task.id, "running", "bare")
        ack = await (await pipeline.store(subjects.progress(task.id), encode(record), fence))
        if task.seconds:
            await asyncio.sleep(task.seconds)
        fence["Nats-Expected-Last-Subject-Sequence"] = str(ack["seq"])
        record = BareRecord(task.id, "succeeded", "bare", task.prompt)
        await (await pipeline.store(subjects.result(task.id), encode(record), fence))
        await client.publish(message.reply, b"+ACK")
        free += 1
        if free - asked >= min(64, slots):
            await pull(free - asked)

    async def arrived(message: Msg) -> None:
        nonlocal free, asked
        if message.headers and message.headers.get("Status"):
            return
        asked -= 1
        free -= 1
        task = asyncio.create_task(run(message))
        running.add(task)
        task.add_done_callback(running.discard)

    await client.subscribe(inbox, cb=arrived)
    await pull(slots)
    await asyncio.Event().wait()


async def submitter(
    url: str,
) -> tuple[Client, Callable[[str, float], Coroutine[Any, Any, None]]]:
    """A client, and a function that submits one task and returns when its result is here."""
    client = await nats.connect(url)
    pipeline = await Pipeline(client).start()
    waiting: dict[str, asyncio.Future[None]] = {}
    decode = msgspec.json.Decoder(BareRecord).decode
    encode = msgspec.json.Encoder().encode
    count = 0

    async def ended(message: Msg) -> None:
        record = decode(message.data)
        future = waiting.pop(record.id, None)
        if future is not None and not future.done():
            future.set_result(None)

    await client.subscribe(LIVE + "*", cb=ended)
    await client.flush()

    async def one(prompt: str, seconds: float) -> None:
        nonlocal count
        count += 1
        task = BareTask(f"bare-{count}", prompt, seconds)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting[task.id] = future
        await (await pipeline.store(subjects.task(QUEUE), encode(task)))
        await future

    return client, one


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))
