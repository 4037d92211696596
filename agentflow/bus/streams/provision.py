"""Make the streams and consumers what protocol/streams.py says.

Whoever may, creates what is missing. What exists is never changed silently: differences are
reported, and `apply` (the command `agentflow streams apply`) is how they are put right.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec

from agentflow.bus.streams import lanes
from agentflow.bus.streams.jetstream import JetStream, Json
from agentflow.errors import BusError, NoAnswer, NotConnected, NotFound, PermissionDenied, Refused
from agentflow.protocol import limits, streams, subjects

_EXISTS = frozenset({10058, 10065, 10148, 10013})
"""Another process created it first."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not as defined: a stream or consumer, and a sentence."""

    name: str
    text: str
    missing: bool = False


async def ensure_streams(
    js: JetStream, *, retention: float = limits.RETENTION, replicas: int = 1
) -> list[Difference]:
    """Create the streams that are missing; what differs, or may not be created, is returned."""
    return await _streams(js, streams.streams(retention=retention, replicas=replicas), change=False)


async def apply_streams(
    js: JetStream, *, retention: float = limits.RETENTION, replicas: int = 1
) -> list[Difference]:
    """Create what is missing and change what differs; what could not be changed is returned."""
    wanted = streams.streams(retention=retention, replicas=replicas)
    with contextlib.suppress(NotFound, PermissionDenied):
        await js.stream_info(subjects.CACHE_STREAM)
        wanted.append(streams.cache(replicas=replicas))
    return await _streams(js, wanted, change=True)


async def make(js: JetStream, definition: Json) -> list[Difference]:
    """Create one stream where it is missing; what may not be created is returned."""
    return await _streams(js, [definition], change=False)


async def check_streams(js: JetStream, *, retention: float = limits.RETENTION) -> list[Difference]:
    """What differs or is missing, changing nothing."""
    differences = []
    for wanted in streams.streams(retention=retention):
        name = wanted["name"]
        try:
            info = await js.stream_info(name)
        except NotFound:
            differences.append(Difference(name, "does not exist", missing=True))
            continue
        differences += [
            Difference(name, text) for text in streams.differences(wanted, info["config"])
        ]
    return differences


async def _streams(js: JetStream, wanted: list[Json], *, change: bool) -> list[Difference]:
    notes: list[Difference] = []
    made = set()
    for definition in wanted:
        name = definition["name"]
        try:
            info = await js.stream_info(name)
        except NotFound:
            refused = await _create(js, f"STREAM.CREATE.{name}", definition, name)
            notes += refused
            made |= set() if refused else {name}
            continue
        except (PermissionDenied, NoAnswer) as error:
            notes.append(Difference(name, f"cannot be inspected: {error}"))
            continue
        texts = streams.differences(definition, info["config"])
        replicas = info["config"].get("num_replicas", 1)
        if change and (texts or replicas != definition["num_replicas"]):
            try:
                await js.api(f"STREAM.UPDATE.{name}", streams.corrected(definition, info["config"]))
            except (Refused, PermissionDenied) as error:
                notes.append(Difference(name, f"could not be changed: {error}"))
            continue
        notes += [Difference(name, text) for text in texts]
    if change or subjects.TASKS in made:
        try:
            await lanes.restore(js)
        except BusError as error:
            notes.append(Difference(subjects.TASKS, f"its lanes could not be restored: {error}"))
    return notes


async def _create(js: JetStream, verb: str, body: Json, name: str) -> list[Difference]:
    try:
        await js.api(verb, body)
    except Refused as error:
        if error.code not in _EXISTS:
            raise
    except PermissionDenied:
        return [
            Difference(
                name,
                "does not exist and this NATS user may not create it; "
                "run `agentflow streams apply` as an administrator",
                missing=True,
            )
        ]
    return []


async def ensure_consumers(
    js: JetStream, queue: str, *, lease: float | None = None
) -> tuple[list[Difference], float]:
    """Create a queue's consumers where missing.

    Returns what differs, and the lease in seconds that the server's consumers really have: an
    existing consumer's ack_wait is the truth, whatever this worker was told. A `lease` that is
    given and differs changes them.
    """
    notes: list[Difference] = []
    actual = lease or limits.LEASE
    for definition in streams.consumers(queue, lease=actual):
        name = definition["name"]
        try:
            info = await js.consumer_info(subjects.TASKS, name)
        except NotFound:
            notes += await _create_consumer(js, definition)
            continue
        except (PermissionDenied, NoAnswer) as error:
            notes.append(Difference(name, f"cannot be inspected: {error}"))
            continue
        config: dict[str, Any] = info["config"]
        wait = config.get("ack_wait", 0)
        if lease is not None and wait != definition["ack_wait"]:
            config = {**config, "ack_wait": definition["ack_wait"]}
            body = {"stream_name": subjects.TASKS, "config": config, "action": "update"}
            await js.api(f"CONSUMER.CREATE.{subjects.TASKS}.{name}", body)
        elif lease is None:
            definition["ack_wait"] = wait
            actual = wait / 1e9
        notes += [Difference(name, text) for text in streams.differences(definition, config)]
    return notes, actual


async def ensure_lane(js: JetStream, definition: Json) -> None:
    """Create the consumer of a lane where it is missing. Raises BusError."""
    for difference in await _create_consumer(js, definition):
        raise PermissionDenied(f"consumer {difference.name} {difference.text}")


async def cap_lane(js: JetStream, definition: Json) -> None:
    """Have the consumer of a lane hand out as many tasks at once as defined. Raises BusError."""
    name = definition["name"]
    config: dict[str, Any] = (await js.consumer_info(subjects.TASKS, name))["config"]
    if config.get("max_ack_pending") != definition["max_ack_pending"]:
        config = {**config, "max_ack_pending": definition["max_ack_pending"]}
        body = {"stream_name": subjects.TASKS, "config": config, "action": "update"}
        await js.api(f"CONSUMER.CREATE.{subjects.TASKS}.{name}", body)


async def _create_consumer(js: JetStream, definition: Json) -> list[Difference]:
    name = definition["name"]
    body = {"stream_name": subjects.TASKS, "config": definition, "action": "create"}
    verb = f"CONSUMER.CREATE.{subjects.TASKS}.{name}"
    if "filter_subject" in definition:
        # With one filter the server wants it in the subject, so that permissions can name it.
        verb = f"{verb}.{definition['filter_subject']}"
    return await _create(js, verb, body, name)


async def wait_ready(js: JetStream, deadline: float = 10.0) -> None:
    """Wait until JetStream answers; after a server's start it loads its streams first."""
    async with asyncio.timeout(deadline):
        while True:
            try:
                await js.api("INFO", timeout=1.0)
            except (NoAnswer, NotConnected, Refused):
                await asyncio.sleep(0.05)
            else:
                return
