"""`agentflow streams`: what the server has, and how to put it right."""

from __future__ import annotations

from collections.abc import Mapping

import click
import msgspec

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.cli import inventory, output
from agentflow.cli.inventory import Drift, Inventory
from agentflow.cli.options import connection_options, json_option, resolve, run_async
from agentflow.cli.repair import Applied, put_right
from agentflow.protocol import limits, streams

DAYS = click.IntRange(limits.RETENTION // limits.DAY, 365)


@click.group("streams")
def command() -> None:
    """Show, compare or repair the streams and consumers."""


@command.command("show")
@connection_options
@json_option
def show(as_json: bool, **connection: str | None) -> None:
    """Show streams and consumers, and where they differ from their definitions."""
    stock = run_async(_show(connection))
    if as_json:
        output.show_json(stock)
        return
    _show_tables(stock)
    notes = [f"{name} {text}" for name, text in stock.differences()]
    output.show()
    if notes:
        output.show("\n".join(notes))
        output.show("To put this right: agentflow streams apply")
    else:
        output.show("All as defined.")


def _show_tables(stock: Inventory) -> None:
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
            for stream in stock.streams
        ],
    )
    if stock.consumers:
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
                for consumer in stock.consumers
            ],
        )


async def _show(connection: Mapping[str, str | None]) -> Inventory:
    async with await Connection.open(resolve(connection)) as opened:
        return await inventory.read(JetStream(opened))


@command.command("diff")
@click.option("--all", "everything", is_flag=True, help="Show what is as defined, too.")
@connection_options
@json_option
def diff(everything: bool, as_json: bool, **connection: str | None) -> int:
    """Compare streams and consumers with their definitions, setting by setting.

    Exits 1 when one has drifted. What an administrator may set is shown, and is no drift.
    Durations are nanoseconds, as NATS has them.
    """
    drifts = run_async(_diff(connection))
    drifted = any(drift.drifted for drift in drifts)
    if as_json:
        for drift in drifts:
            output.show_json({**msgspec.to_builtins(drift), "drifted": drift.drifted})
        return 1 if drifted else 0
    rows = [row for drift in drifts for row in _rows(drift, everything)]
    if rows:
        output.table(["name", "setting", "definition", "server", "verdict"], rows)
        output.show()
    if drifted:
        output.show("To put this right: agentflow streams apply")
    else:
        output.show(f"All {len(drifts)} as defined.")
    return 1 if drifted else 0


def _rows(drift: Drift, everything: bool) -> list[tuple[str, ...]]:
    if drift.text:
        return [(drift.name, "", "", "", drift.text)]
    return [
        (
            drift.name,
            field.name,
            _setting(field.defined),
            _setting(field.server),
            "differs" if field.drift else field.verdict,
        )
        for field in drift.fields
        if everything or field.verdict != streams.AS_DEFINED
    ]


def _setting(value: object) -> str:
    return "not set" if value is None else str(value)


async def _diff(connection: Mapping[str, str | None]) -> list[Drift]:
    async with await Connection.open(resolve(connection)) as opened:
        return await inventory.drifts(JetStream(opened))


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


def _size(count: int) -> str:
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
