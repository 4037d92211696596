"""When nobody creates batches with a credential for a while, and what opens it again.

`closed.<pool>.batch` is a key like those of the live routes: what is full, or cannot pay, or is not
allowed is tried again later, by one create. A refusal that nobody here understands stays closed
until a person resumes it; it is known to have made nothing.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from agentflow.batches.place import Place
from agentflow.bus.streams.bucket import value_of
from agentflow.errors import BusError, WrongSequence
from agentflow.handlers.batching import NotCreated
from agentflow.protocol import batches, subjects
from agentflow.protocol import headers as blocks
from agentflow.rules import retry
from agentflow.rules.retry import Signal
from agentflow.rules.routes import closures, gates
from agentflow.rules.routes.closures import STEPS, Closed
from agentflow.rules.routes.route import Route

_log = logging.getLogger(__name__)
REFUSED = "refused"


def route(pool: str) -> Route:
    """The route of a pool's creates."""
    return Route(pool, batches.ROUTE)


async def closed(place: Place) -> Closed | None:
    """What keeps creates from being sent now. Raises BusError."""
    key = gates.closed_key(route(place.pool))
    last = await place.js.last(subjects.KV_STREAM, subjects.kv(key))
    found = closures.read(value_of(last))
    return found if found is not None and found.holds(place.now()) else None


async def paused(place: Place) -> bool:
    """Whether the queue is paused. Raises BusError."""
    key = gates.queue_key(place.queue)
    return value_of(await place.js.last(subjects.KV_STREAM, subjects.kv(key))) is not None


async def refused(place: Place, refusal: NotCreated) -> None:
    """Close it, for as long as the refusal is worth."""
    failure, now = refusal.failure, place.now()
    effect = retry.route_effect(
        Signal(status=failure.status, type=failure.type, code=failure.code, message=failure.message)
    )
    key = gates.closed_key(route(place.pool))
    subject = subjects.kv(key)
    try:
        last = await place.js.last(subjects.KV_STREAM, subject)
        before = closures.read(value_of(last))
        steps = STEPS.get(effect.closes or "")
        step = (before.step if before else 0) + 1
        until = None
        if steps is not None:
            until = now + timedelta(seconds=max(steps.seconds(step), refusal.retry_after or 0.0))
        after = Closed(
            since=before.since if before else now,
            until=until,
            reason=effect.closes or REFUSED,
            error_code=failure.code,
            request_id=failure.request_id,
            actor=place.log.actor,
            message=failure.message[:500],
            step=step,
        )
        expected = {"Nats-Expected-Last-Subject-Sequence": str(last.sequence if last else 0)}
        value = closures.encode(after) or b""
        await place.js.store(subject, value, blocks.encode(expected))
    except WrongSequence:
        return  # another one closed it at the same moment
    except BusError as error:
        _log.warning("%s could not be closed: %s", key, error)
    else:
        _log.warning("%s is closed (%s): %s", key, after.reason, failure.message[:200])


async def answered(place: Place) -> None:
    """A create was done: open it for all. What a person closed stays."""
    subject = subjects.kv(gates.closed_key(route(place.pool)))
    try:
        last = await place.js.last(subjects.KV_STREAM, subject)
        found = closures.read(value_of(last))
        if last is None or found is None or found.until is None:
            return
        expected = {
            "Nats-Expected-Last-Subject-Sequence": str(last.sequence),
            "KV-Operation": "PURGE",
        }
        await place.js.store(subject, b"", blocks.encode(expected))
    except BusError as error:
        _log.info("%s is not opened yet: %s", subject, error)
