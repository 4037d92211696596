"""The doctor's checks of the NATS server, of the streams, and of who is at work.

Nothing is changed. What a user may publish is found out by a publish that no stream takes, because
it expects a stream of another name.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from agentflow.bus.streams import twins
from agentflow.bus.streams.bucket import value_of
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.lease import MASTER, holder_of
from agentflow.bus.streams.pages import page
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.monitoring import sync_of
from agentflow.cli import inventory
from agentflow.cli.checks.batches import cared_for
from agentflow.cli.checks.check import Check, Status
from agentflow.cli.checks.jetstream import jetstream, room
from agentflow.cli.checks.jobs import abandoned
from agentflow.cli.inventory import ConsumerStatus, StreamStatus
from agentflow.cli.output import seconds
from agentflow.client.operate.limits import standing as standing_limits
from agentflow.client.operate.pauses import standing
from agentflow.client.operate.serving import any_worker, unserved
from agentflow.config import Connect
from agentflow.errors import BusError, NoStream, NotFound, PermissionDenied
from agentflow.protocol import api, headers, limits, subjects
from agentflow.protocol.api import QueueView, StatsView
from agentflow.protocol.record import decode
from agentflow.protocol.server import new_enough, too_old
from agentflow.rules.durability import weaker
from agentflow.views import gates as gateviews
from agentflow.views.limits import sentence

SAMPLE: Final = 500
"""Of the newest records, so many places of the stream are looked at for costs."""
API_WITHIN: Final = 1.0
CLOCK_WARN: Final = 2.0
APPLY: Final = "agentflow streams apply"

_NOWHERE: Final = headers.encode({"Nats-Expected-Stream": "agentflow-doctor"})


async def all_of(
    options: Connect, monitor: str | None, *, durable: bool = False
) -> tuple[list[Check], bool]:
    """Every check of the server, and whether it was reached at all. Raises BusError."""
    try:
        connection = await Connection.open(options, "agentflow doctor")
    except BusError as error:
        return [Check("server", Status.FAIL, str(error))], False
    async with connection:
        js = JetStream(connection)
        checks = [server(connection)]
        checks.append(await jetstream(js))
        if checks[-1].status is Status.FAIL:
            return checks, True
        checks.append(await room(js))
        checks += [bad] if (bad := await joined(js)) is not None else []
        checks += await _definitions(js)
        checks.append(await _permissions(js))
        checks.append(await sync_interval(connection, monitor, durable=durable))
        checks.append(payload(connection.max_payload))
        checks.append(await clock(js))
        checks += await _gates(js)
        checks.append(await rate_limits(js))
        checks.append(await costs(js))
        checks += await _fleet(js)
        checks += [bad] if (bad := await lease(js)) is not None else []
        checks.append(await abandoned(js))
        checks += await cared_for(js)
        return checks, True


def server(connection: Connection) -> Check:
    """Which server answers, and whether it is new enough."""
    info = connection.server
    version = str(info.get("version", "unknown"))
    text = f"{info.get('server_name', 'nats-server')} {version} at {connection.options.shown}"
    if not new_enough(version):
        return Check("server", Status.FAIL, text, too_old("this one"))
    return Check("server", Status.OK, text)


async def rate_limits(js: JetStream) -> Check:
    """By what the fleet knows the limits of its routes."""
    try:
        routes = await standing_limits(js)
    except BusError as error:
        return Check("limits", Status.UNKNOWN, f"they cannot be read: {error}")
    if not routes:
        return Check("limits", Status.OK, "none known yet; the first answer of a worker tells them")
    return Check("limits", Status.OK, "; ".join(sentence(route) for route in routes))


async def _definitions(js: JetStream) -> list[Check]:
    """Streams and consumers against what they should be."""
    try:
        stock = await inventory.read(js)
    except BusError as error:
        return [Check("streams", Status.UNKNOWN, f"they cannot be inspected: {error}")]
    return [_streams(stock.streams), _consumers(stock.consumers)]


def _streams(streams: Sequence[StreamStatus]) -> Check:
    missing = [stream.name for stream in streams if not stream.exists]
    if len(missing) == len(streams):
        text = "none exists yet; the first master, worker or submission creates them"
        return Check("streams", Status.WARN, text, APPLY)
    if missing:
        return Check("streams", Status.FAIL, f"missing: {', '.join(missing)}", APPLY)
    return (
        _copies(streams)
        or _as_defined("streams", streams)
        or Check("streams", Status.OK, f"all {len(streams)} as defined")
    )


def _copies(streams: Sequence[StreamStatus]) -> Check | None:
    """A failure where a stream has no leader, a warning where a copy of one is away."""
    lost = [stream.name for stream in streams if stream.leaderless]
    if lost:
        text = f"without a leader, so nothing is stored: {', '.join(lost)}"
        return Check("streams", Status.FAIL, text, "bring the cluster's other servers back")
    away = sorted({server for stream in streams for server in stream.away})
    if not away:
        return None
    text = f"copies on {', '.join(away)} are away or behind; the loss of another server stops all"
    return Check("streams", Status.WARN, text, "bring these servers back, and look at their logs")


def _consumers(consumers: Sequence[ConsumerStatus]) -> Check:
    if not consumers:
        return Check("consumers", Status.OK, "none yet; workers create those of their queues")
    leases = sorted({consumer.lease_s for consumer in consumers})
    shown = ", ".join(seconds(lease) for lease in leases)
    return _as_defined("consumers", consumers) or Check(
        "consumers", Status.OK, f"all {len(consumers)} as defined; lease {shown}"
    )


def _as_defined(name: str, statuses: Sequence[StreamStatus | ConsumerStatus]) -> Check | None:
    """A warning where one differs from its definition."""
    wrong = [f"{status.name}: {text}" for status in statuses for text in status.differences]
    return Check(name, Status.WARN, "; ".join(wrong), APPLY) if wrong else None


async def _permissions(js: JetStream) -> Check:
    probes: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("inspect the streams", lambda: js.stream_info(subjects.RECORDS)),
        ("read records", lambda: js.last(subjects.RECORDS, subjects.log("doctor"))),
        ("submit tasks", lambda: js.store(subjects.task("doctor"), b"", _NOWHERE, 2.0)),
        ("write records", lambda: js.store(subjects.progress("doctor"), b"", _NOWHERE, 2.0)),
        ("follow live copies", lambda: _subscribe(js.connection)),
    ]
    refused = []
    for what, probe in probes:
        try:
            await probe()
        except PermissionDenied:
            refused.append(what)
        except BusError:
            pass  # a stream that is missing, or the refusal that was asked for
    if refused:
        return Check(
            "permissions",
            Status.WARN,
            f"this NATS user may not {', '.join(refused)}",
            "who submits needs the first three, a worker all; ask the server's administrator",
        )
    may = ", ".join(what for what, _ in probes)
    return Check("permissions", Status.OK, f"this NATS user may {may}")


async def _subscribe(connection: Connection) -> None:
    subscription = await connection.subscribe(
        subjects.LIVE_RESULTS.replace(">", "doctor"), lambda _: None
    )
    await connection.flush(1.0)
    await subscription.close()
    if "permissions violation for subscription" in connection.last_error.lower():
        raise PermissionDenied


# The server's own settings.


async def sync_interval(
    connection: Connection, monitor: str | None, *, durable: bool = False
) -> Check:
    """How long an acknowledged message may not be on disk; only the monitoring port tells."""
    name = "sync interval"
    interval = await sync_of(connection, monitor)
    if interval is None:
        return Check(
            name,
            Status.FAIL if durable else Status.UNKNOWN,
            "the server's monitoring port cannot be read, so it is unknown how soon an "
            "acknowledged task is on disk",
            "look at jetstream.sync_interval in the server's configuration (its default is 2 m)",
        )
    if interval.always:
        return Check(name, Status.OK, "always: what is acknowledged is on disk")
    text = f"{seconds(interval.every)}: a power cut may lose what was acknowledged in that time"
    if durable:
        return Check(name, Status.FAIL, text, "set jetstream.sync_interval to always")
    if weaker(interval, durable=False):
        return Check(name, Status.WARN, text, "set jetstream.sync_interval to 1s, or to always")
    return Check(name, Status.OK, text)


def payload(maximum: int) -> Check:
    """The largest message the server takes."""
    text = f"{maximum / limits.MIB:g} MB"
    if maximum < limits.SERVER_MAX_PAYLOAD:
        return Check(
            "max_payload",
            Status.WARN,
            f"{text}: larger tasks are refused, longer answers are cut",
            "set max_payload to 8MB in the server's configuration",
        )
    return Check("max_payload", Status.OK, text)


async def clock(js: JetStream) -> Check:
    """This machine's clock against the server's."""
    try:
        names = (await js.api("STREAM.NAMES")).get("streams") or []
        if not names:
            return Check("clock", Status.UNKNOWN, "the server tells its time with its first stream")
        await js.stream_info(names[0])
    except BusError as error:
        return Check("clock", Status.UNKNOWN, f"the server does not tell its time: {error}")
    offset = js.clock_offset
    text = f"{abs(offset) * 1000:.0f} ms {'behind' if offset > 0 else 'ahead of'} the server's"
    if abs(offset) > CLOCK_WARN:
        return Check(
            "clock",
            Status.WARN,
            f"this machine's clock is {text}: times shown here are off, tasks are not affected",
            "synchronize the clocks (NTP)",
        )
    return Check("clock", Status.OK, text)


# What is stopped.


async def costs(js: JetStream) -> Check:
    """Whether what the newest tasks cost is known, and else why not."""
    try:
        state = (await js.stream_info(subjects.RECORDS))["state"]
        first = max(1, int(state["last_seq"]) - SAMPLE)
        newest = await page(
            js.connection, subjects.RECORDS, first, filter="agentflow.results.>", batch=SAMPLE
        )
    except (NoStream, NotFound):
        return Check("costs", Status.OK, "no task has been run yet")
    except BusError as error:
        return Check("costs", Status.UNKNOWN, f"the records cannot be read: {error}")
    records = [decode(message.data) for message in newest.messages]
    reasons = Counter(record.unpriced for record in records if record.unpriced)
    if not reasons:
        return Check("costs", Status.OK, "known for all of the newest tasks")
    text = "unknown for some: " + "; ".join(
        f"{reason} ({count} tasks)" for reason, count in reasons.most_common(5)
    )
    remedy = "name the price in your prices.json (README, Costs); no cost limit can hold without"
    return Check("costs", Status.WARN, text, remedy)


async def _gates(js: JetStream) -> list[Check]:
    """What is paused or closed; one check for each."""
    try:
        gates = await standing(js)
    except BusError as error:
        return [Check("pauses", Status.UNKNOWN, f"they cannot be read: {error}")]
    if not gates:
        return [Check("pauses", Status.OK, "nothing is paused or closed")]
    checks = []
    for gate in gates:
        # A rate limit ends by itself, and a pause is what somebody wants.
        bad = gateviews.alerting(gate)
        status = Status.FAIL if bad else Status.WARN if gate.until is None else Status.OK
        name = "pool" if gate.what == gateviews.POOL else "pauses"
        remedy = gateviews.remedy(gate) if gate.until is None else ""
        checks.append(Check(name, status, gateviews.sentence(gate), remedy))
    return checks


# Who is at work.


async def _fleet(js: JetStream) -> list[Check]:
    try:
        message = await js.connection.request(subjects.api(api.STATS), b"{}", timeout=API_WITHIN)
        stats = msgspec.json.decode(message.data, type=StatsView)
    except (BusError, msgspec.DecodeError):
        master = Check(
            "master",
            Status.WARN,
            "none answers; tasks run without, but list, stats and workers need one",
            "agentflow master",
        )
        return [master, await _any_worker(js), await _unserved_alone(js)]
    return [_master(stats), _workers(stats), _unserved(stats.queues)]


def _master(stats: StatsView) -> Check:
    text = f"{stats.master} {stats.version} knows {stats.tasks_known:,} tasks"
    if stats.since is not None:
        alive = (datetime.now(stats.since.tzinfo) - stats.since).total_seconds()
        text += f", alive for {seconds(alive)}"
    if not stats.ready:
        text += "; it is still reading the streams, so what it lists and counts is not all"
        return Check(
            "master", Status.FAIL, text, "wait, and look at its log where that does not end"
        )
    return Check("master", Status.OK, text)


async def joined(js: JetStream) -> Check | None:
    """A failure where another set of streams takes the same subjects; None where none does."""
    here = True
    try:
        count = await twins.takers(js)
        try:
            await js.stream_info(subjects.TASKS)
        except (NoStream, NotFound):
            here = False
    except BusError:
        return None
    text = twins.warning(count, here=here)
    return Check("streams", Status.FAIL, text, twins.REMEDY) if text else None


async def lease(js: JetStream) -> Check | None:
    """A failure where the masters' lease holds nonsense; None where all is well."""
    try:
        last = await js.last(subjects.KV_STREAM, subjects.kv(MASTER))
    except BusError:
        return None
    value = value_of(last)
    if last is None or value is None or holder_of(value) is not None:
        return None
    text = f"the lease of the masters holds nonsense since {last.time:%Y-%m-%d %H:%M:%S} UTC"
    remedy = "agentflow master (it replaces it); and see who may write $KV.agentflow.lease.master"
    return Check("master", Status.FAIL, text, remedy)


def _workers(stats: StatsView) -> Check:
    text = f"{stats.workers} at work"
    if stats.lost_workers:
        text += f", {stats.lost_workers} lost within the last hour"
    if not stats.workers:
        return Check("workers", Status.WARN, text, "agentflow worker")
    status = Status.WARN if stats.lost_workers else Status.OK
    return Check("workers", status, text, "agentflow workers" if stats.lost_workers else "")


def _unserved(queues: list[QueueView]) -> Check:
    return _named([queue.queue for queue in queues if queue.unserved])


def _named(names: list[str]) -> Check:
    if not names:
        return Check("queues", Status.OK, "every queue that holds tasks is served")
    return Check(
        "queues",
        Status.WARN,
        f"tasks wait in queues that no worker serves: {', '.join(names)}",
        f"agentflow worker --queues {shlex.quote(','.join(names))}",
    )


async def _any_worker(js: JetStream) -> Check:
    if await any_worker(js):
        return Check("workers", Status.OK, "at least one answers")
    return Check("workers", Status.WARN, "none answers", "agentflow worker")


async def _unserved_alone(js: JetStream) -> Check:
    """Without a master: look at each queue that holds messages."""
    try:
        info = await js.stream_info(subjects.TASKS, subjects_filter="agentflow.tasks.>")
        held = info["state"].get("subjects") or {}
        names = sorted({subjects.parse_task(subject)[0] for subject in held})
        alone = [name for name in names if await unserved(js, name)]
    except NoStream as error:
        return Check("queues", Status.UNKNOWN, str(error))
    except BusError as error:
        return Check("queues", Status.UNKNOWN, f"they cannot be inspected: {error}")
    return _named(alone)
