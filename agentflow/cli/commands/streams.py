"""`agentflow streams`: what the server has, and how to put it right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec

from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream, Json
from agentflow.bus.streams.provision import Difference
from agentflow.bus.wire.connection import Connection
from agentflow.cli import output
from agentflow.cli.options import connection_options, json_option, resolve, run_async
from agentflow.errors import BusError, NotFound, PermissionDenied, Refused
from agentflow.protocol import limits, streams, subjects
from agentflow.protocol.streams import Field

STRANGER: Final = "is not one of ours and takes tasks away from the workers"
DAYS = click.IntRange(limits.RETENTION // limits.DAY, 365)


class StreamFacts(msgspec.Struct, kw_only=True):
    """A stream as the server has it."""

    name: str
    exists: bool = False
    messages: int = 0
    bytes: int = 0
    consumers: int = 0
    replicas: int = 0
    max_age_s: float = 0.0
    differences: list[str] = []


class ConsumerFacts(msgspec.Struct, kw_only=True):
    """A consumer of AGENTFLOW_TASKS as the server has it."""

    name: str
    pending: int = 0
    unacknowledged: int = 0
    redelivered: int = 0
    waiting: int = 0
    lease_s: float = 0.0
    differences: list[str] = []


class Facts(msgspec.Struct, kw_only=True):
    """All of them."""

    streams: list[StreamFacts]
    consumers: list[ConsumerFacts]

    def differences(self) -> list[tuple[str, str]]:
        """Names, and sentences about them."""
        items: list[StreamFacts | ConsumerFacts] = [*self.streams, *self.consumers]
        return [(item.name, text) for item in items for text in item.differences]


class Applied(msgspec.Struct, kw_only=True):
    """What `apply` did, and what it could not."""

    done: list[str]
    failed: list[str]


@click.group("streams")
def command() -> None:
    """Show, compare or repair the streams and consumers."""


@command.command("show")
@connection_options
@json_option
def show(as_json: bool, **connection: str | None) -> None:
    """Show streams and consumers, and where they differ from their definitions."""
    facts = run_async(_show(connection))
    if as_json:
        output.show_json(facts)
        return
    output.table(
        ["stream", "messages", "size", "consumers", "replicas", "kept"],
        [
            [
                stream.name,
                f"{stream.messages:,}" if stream.exists else "missing",
                _size(stream.bytes),
                str(stream.consumers),
                str(stream.replicas),
                output.seconds(stream.max_age_s) if stream.max_age_s else "for ever",
            ]
            for stream in facts.streams
        ],
    )
    if facts.consumers:
        output.show()
        output.table(
            ["consumer", "pending", "in work", "redelivered", "waiting", "lease"],
            [
                [
                    consumer.name,
                    f"{consumer.pending:,}",
                    f"{consumer.unacknowledged:,}",
                    f"{consumer.redelivered:,}",
                    f"{consumer.waiting:,}",
                    output.seconds(consumer.lease_s),
                ]
                for consumer in facts.consumers
            ],
        )
    notes = [f"{name} {text}" for name, text in facts.differences()]
    output.show()
    if notes:
        output.show("\n".join(notes))
        output.show("To put this right: agentflow streams apply")
    else:
        output.show("All as defined.")


async def _show(connection: Mapping[str, str | None]) -> Facts:
    async with await Connection.open(resolve(connection)) as opened:
        return await read(JetStream(opened))


class Drift(msgspec.Struct, kw_only=True):
    """A stream or consumer, setting by setting; without settings it is missing or not ours."""

    name: str
    text: str = ""
    fields: list[Field] = []

    @property
    def drifted(self) -> bool:
        """Whether something is to be put right."""
        return bool(self.text) or any(field.drift for field in self.fields)


@command.command("diff")
@click.option("--all", "everything", is_flag=True, help="Show what is as defined, too.")
@connection_options
@json_option
def diff(everything: bool, as_json: bool, **connection: str | None) -> int:
    """Compare streams and consumers with their definitions, setting by setting.

    Exits 1 when one has drifted. What an administrator may set is shown, and is no drift.
    Durations are nanoseconds, as NATS has them.
    """
    found = run_async(_diff(connection))
    drifted = any(item.drifted for item in found)
    if as_json:
        for item in found:
            output.show_json({**msgspec.to_builtins(item), "drifted": item.drifted})
        return 1 if drifted else 0
    rows = [row for item in found for row in _rows(item, everything)]
    if rows:
        output.table(["name", "setting", "definition", "server", "verdict"], rows)
        output.show()
    if drifted:
        output.show("To put this right: agentflow streams apply")
    else:
        output.show(f"All {len(found)} as defined.")
    return 1 if drifted else 0


def _rows(item: Drift, everything: bool) -> list[tuple[str, ...]]:
    if item.text:
        return [(item.name, "", "", "", item.text)]
    return [
        (
            item.name,
            field.name,
            _setting(field.defined),
            _setting(field.server),
            "differs" if field.drift else field.verdict,
        )
        for field in item.fields
        if everything or field.verdict != streams.AS_DEFINED
    ]


def _setting(value: object) -> str:
    return "not set" if value is None else str(value)


async def _diff(connection: Mapping[str, str | None]) -> list[Drift]:
    async with await Connection.open(resolve(connection)) as opened:
        return await compared(JetStream(opened))


async def compared(js: JetStream) -> list[Drift]:
    """Every stream and consumer beside its definition. Raises BusError."""
    found = []
    for wanted in streams.streams():
        name = wanted["name"]
        try:
            info = await js.stream_info(name)
        except NotFound:
            found.append(Drift(name=name, text="does not exist"))
            continue
        found.append(Drift(name=name, fields=streams.compare(wanted, info["config"])))
    try:
        consumers = await js.consumers(subjects.TASKS)
    except NotFound:
        consumers = []
    for info in sorted(consumers, key=lambda each: str(each["name"])):
        name, config = info["name"], info["config"]
        own = streams.own_consumer(config)
        if own is None:
            found.append(Drift(name=name, text=STRANGER))
        else:
            found.append(Drift(name=name, fields=streams.compare(own, config)))
    return found


async def read(js: JetStream) -> Facts:
    """Every stream and consumer, compared with its definition. Raises BusError."""
    found = [await _stream(js, wanted) for wanted in streams.streams()]
    try:
        consumers = await js.consumers(subjects.TASKS)
    except NotFound:
        consumers = []
    consumers.sort(key=lambda info: str(info["name"]))
    return Facts(streams=found, consumers=[_consumer(info) for info in consumers])


async def _stream(js: JetStream, wanted: Json) -> StreamFacts:
    name = wanted["name"]
    try:
        info = await js.stream_info(name)
    except NotFound:
        return StreamFacts(name=name, differences=["does not exist"])
    config, state = info["config"], info["state"]
    return StreamFacts(
        name=name,
        exists=True,
        messages=state["messages"],
        bytes=state["bytes"],
        consumers=state["consumer_count"],
        replicas=config.get("num_replicas", 1),
        max_age_s=config.get("max_age", 0) / 1e9,
        differences=streams.differences(wanted, config),
    )


def _consumer(info: Json) -> ConsumerFacts:
    config = info["config"]
    wanted = streams.own_consumer(config)
    return ConsumerFacts(
        name=info["name"],
        pending=info.get("num_pending", 0),
        unacknowledged=info.get("num_ack_pending", 0),
        redelivered=info.get("num_redelivered", 0),
        waiting=info.get("num_waiting", 0),
        lease_s=config.get("ack_wait", 0) / 1e9,
        differences=[STRANGER] if wanted is None else streams.differences(wanted, config),
    )


@command.command("apply")
@click.option("--replicas", type=click.IntRange(1, 5), help="Copies of each stream. [as it is]")
@click.option(
    "--retention",
    type=DAYS,
    metavar="DAYS",
    help="How long records are kept. [as it is, 7 at least]",
)
@connection_options
@json_option
def apply(
    replicas: int | None, retention: int | None, as_json: bool, **connection: str | None
) -> int:
    """Create what is missing and change what differs; say what was done.

    Limits that an administrator raised stay. Exits 1 when something could not be put right.
    """
    applied = run_async(_apply(connection, replicas, retention))
    if as_json:
        output.show_json(applied)
    else:
        if applied.done or not applied.failed:
            output.show("\n".join(applied.done) or "All as defined; nothing was changed.")
        for text in applied.failed:
            output.warn(text)
    return 1 if applied.failed else 0


async def _apply(
    connection: Mapping[str, str | None], replicas: int | None, retention: int | None
) -> Applied:
    async with await Connection.open(resolve(connection)) as opened:
        return await put_right(JetStream(opened), replicas=replicas, retention=retention)


async def put_right(js: JetStream, *, replicas: int | None, retention: int | None) -> Applied:
    """Make streams and consumers what they should be. Raises BusError."""
    before = await read(js)
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


def _changes(old: StreamFacts, new: StreamFacts) -> list[str]:
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
    found, wanted = info["config"], streams.own_consumer(info["config"])
    if wanted is None or not streams.differences(wanted, found):
        return []
    body = {
        "stream_name": subjects.TASKS,
        "config": {**streams.corrected(wanted, found), "backoff": [], "inactive_threshold": 0},
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


def _size(count: int) -> str:
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
