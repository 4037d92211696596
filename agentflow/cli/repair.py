"""Make streams and consumers what they should be, and tell what was done."""

from __future__ import annotations

from typing import Any

import msgspec

from agentflow.bus.streams import provision, twins
from agentflow.bus.streams.jetstream import JetStream, Json
from agentflow.bus.streams.provision import Difference
from agentflow.cli import output
from agentflow.cli.inventory import StreamStatus, read
from agentflow.errors import BusError, PermissionDenied, Refused
from agentflow.protocol import limits, streams, subjects


class Applied(msgspec.Struct, kw_only=True):
    """What `apply` did, and what it could not."""

    done: list[str]
    failed: list[str]


async def put_right(js: JetStream, *, replicas: int | None, retention: int | None) -> Applied:
    """Make streams and consumers what they should be. Raises BusError."""
    before = await read(js)
    here = any(stream.exists for stream in before.streams if stream.name == subjects.TASKS)
    if text := twins.warning(await twins.takers(js), here=here):
        return Applied(done=[], failed=[f"{text}. Nothing was changed: {twins.REMEDY}"])
    # Not asked for means as it is: a stream of three replicas must not shrink to the default.
    copies = replicas or max((stream.replicas for stream in before.streams), default=0) or 1
    seconds = float(retention * limits.DAY) if retention else float(limits.RETENTION)
    failed = await provision.apply_streams(js, retention=seconds, replicas=copies)
    if retention:
        failed += await _retain(js, seconds)
    for info in await js.consumers(subjects.TASKS):
        failed += await _mend(js, info)
    after = await read(js)
    done = [
        text
        for old, new in zip(before.streams, after.streams, strict=True)
        for text in _changes(old, new)
    ]
    mended = {item.name: item.differences for item in after.consumers}
    done += [
        f"{item.name}: corrected, it {'; '.join(item.differences)}"
        for item in before.consumers
        if item.differences and not mended.get(item.name)
    ]
    told = {item.name for item in failed}
    left = [f"{name} {text}" for name, text in after.differences() if name not in told]
    return Applied(done=done, failed=[f"{item.name} {item.text}" for item in failed] + left)


def _changes(old: StreamStatus, new: StreamStatus) -> list[str]:
    if new.exists and not old.exists:
        return [f"{new.name}: created, {new.replicas} replica{'s' * (new.replicas != 1)}"]
    changes = [text for text in old.differences if text not in new.differences]
    told = [f"{new.name}: corrected, its {text}" for text in changes]
    if old.replicas != new.replicas:
        told.append(f"{new.name}: {new.replicas} replicas instead of {old.replicas}")
    if old.max_age_s != new.max_age_s:
        told.append(
            f"{new.name}: messages are kept {output.seconds(new.max_age_s)} "
            f"instead of {output.seconds(old.max_age_s)}"
        )
    return told


async def _retain(js: JetStream, seconds: float) -> list[Difference]:
    """Set how long records are kept; said explicitly it may also become shorter."""
    config: dict[str, Any] = (await js.stream_info(subjects.RECORDS))["config"]
    wanted = int(seconds * 1e9)
    if config.get("max_age", 0) == wanted:
        return []
    return await _update(
        js, f"STREAM.UPDATE.{subjects.RECORDS}", {**config, "max_age": wanted}, subjects.RECORDS
    )


async def _mend(js: JetStream, info: Json) -> list[Difference]:
    """Correct one consumer; one that is not ours is left alone, somebody wants it."""
    config = info["config"]
    own = streams.own_consumer(config)
    if own is None or not streams.differences(own, config):
        return []
    body = {
        "stream_name": subjects.TASKS,
        "config": {
            "inactive_threshold": 0,
            **streams.corrected(own, config),
            "backoff": [],
        },
        "action": "update",
    }
    name = info["name"]
    return await _update(js, f"CONSUMER.CREATE.{subjects.TASKS}.{name}", body, name)


async def _update(js: JetStream, verb: str, body: Json, name: str) -> list[Difference]:
    try:
        await js.api(verb, body)
    except (Refused, PermissionDenied) as error:
        return [Difference(name, f"could not be changed: {error}")]
    except BusError as error:
        return [Difference(name, f"may or may not have been changed: {error}")]
    return []
