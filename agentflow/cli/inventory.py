"""The streams and consumers that the server has, beside their definitions. Changes nothing."""

from __future__ import annotations

from typing import Final

import msgspec

from agentflow.bus.streams.jetstream import JetStream, Json
from agentflow.errors import NotFound, PermissionDenied
from agentflow.protocol import streams, subjects
from agentflow.protocol.streams import Field

STRANGER: Final = "is not one of ours and takes tasks away from the workers"


class StreamStatus(msgspec.Struct, kw_only=True):
    """A stream as the server has it."""

    name: str
    exists: bool = False
    messages: int = 0
    bytes: int = 0
    consumers: int = 0
    replicas: int = 0
    max_age_s: float = 0.0
    leaderless: bool = False
    away: list[str] = []
    """Servers whose copy cannot be reached or is not current."""
    differences: list[str] = []


class ConsumerStatus(msgspec.Struct, kw_only=True):
    """A consumer of AGENTFLOW_TASKS as the server has it."""

    name: str
    pending: int = 0
    unacknowledged: int = 0
    redelivered: int = 0
    waiting: int = 0
    lease_s: float = 0.0
    differences: list[str] = []


class Inventory(msgspec.Struct, kw_only=True):
    """All of them, as the server has them."""

    streams: list[StreamStatus]
    consumers: list[ConsumerStatus]

    def differences(self) -> list[tuple[str, str]]:
        """Names, and sentences about them."""
        statuses: list[StreamStatus | ConsumerStatus] = [*self.streams, *self.consumers]
        return [(status.name, text) for status in statuses for text in status.differences]


class Drift(msgspec.Struct, kw_only=True):
    """A stream or consumer, setting by setting; without settings it is missing or not ours."""

    name: str
    text: str = ""
    fields: list[Field] = []

    @property
    def drifted(self) -> bool:
        """Whether something is to be put right."""
        return bool(self.text) or any(field.drift for field in self.fields)


async def read(js: JetStream) -> Inventory:
    """Every stream and consumer, compared with its definition. Raises BusError."""
    return Inventory(
        streams=[await _stream(js, definition) for definition in await _wanted(js)],
        consumers=[_consumer(info) for info in await _consumers(js)],
    )


async def _wanted(js: JetStream) -> list[Json]:
    """All definitions; that of the cache only where there is one that this user may see."""
    try:
        await js.stream_info(subjects.CACHE_STREAM)
    except (NotFound, PermissionDenied):
        return streams.streams()
    return [*streams.streams(), streams.cache()]


async def _stream(js: JetStream, definition: Json) -> StreamStatus:
    name = definition["name"]
    try:
        info = await js.stream_info(name)
    except NotFound:
        return StreamStatus(name=name, differences=["does not exist"])
    config, state = info["config"], info["state"]
    cluster: Json = info.get("cluster") or {}
    return StreamStatus(
        name=name,
        exists=True,
        messages=state["messages"],
        bytes=state["bytes"],
        consumers=state["consumer_count"],
        replicas=config.get("num_replicas", 1),
        max_age_s=config.get("max_age", 0) / 1e9,
        leaderless=bool(cluster) and not cluster.get("leader"),
        away=[str(copy["name"]) for copy in cluster.get("replicas") or [] if _away(copy)],
        differences=streams.differences(definition, config),
    )


def _away(copy: Json) -> bool:
    return bool(copy.get("offline")) or not copy.get("current")


def _consumer(info: Json) -> ConsumerStatus:
    config = info["config"]
    own = streams.own_consumer(config)
    return ConsumerStatus(
        name=info["name"],
        pending=info.get("num_pending", 0),
        unacknowledged=info.get("num_ack_pending", 0),
        redelivered=info.get("num_redelivered", 0),
        waiting=info.get("num_waiting", 0),
        lease_s=config.get("ack_wait", 0) / 1e9,
        differences=[STRANGER] if own is None else streams.differences(own, config),
    )


async def drifts(js: JetStream) -> list[Drift]:
    """Every stream and consumer beside its definition. Raises BusError."""
    drifts = []
    for definition in await _wanted(js):
        name = definition["name"]
        try:
            info = await js.stream_info(name)
        except NotFound:
            drifts.append(Drift(name=name, text="does not exist"))
            continue
        drifts.append(Drift(name=name, fields=streams.compare(definition, info["config"])))
    for info in await _consumers(js):
        name, config = info["name"], info["config"]
        own = streams.own_consumer(config)
        if own is None:
            drifts.append(Drift(name=name, text=STRANGER))
        else:
            drifts.append(Drift(name=name, fields=streams.compare(own, config)))
    return drifts


async def _consumers(js: JetStream) -> list[Json]:
    try:
        consumers = await js.consumers(subjects.TASKS)
    except NotFound:
        return []
    return sorted(consumers, key=lambda info: str(info["name"]))
