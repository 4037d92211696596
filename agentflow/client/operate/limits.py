"""The limits of all routes, as the bucket and the workers tell them. Needs no master."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from agentflow.bus.streams.bucket import read_all
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.errors import BusError, NoStream
from agentflow.governor.counters import Counters
from agentflow.governor.governor import read_slots
from agentflow.protocol import control, subjects
from agentflow.protocol.control import Waiting, Waits
from agentflow.rules.routes import clock as clocks
from agentflow.rules.routes import closures, gates
from agentflow.rules.routes.route import Route
from agentflow.views.limits import RouteView, route_view

WITHIN: Final = 0.4
"""Seconds in which workers answer; only those with whom somebody waits do."""


async def standing(js: JetStream) -> list[RouteView]:
    """All routes whose clock is known, by name. Raises BusError."""
    values: dict[str, bytes] = {}
    try:
        async for key, _, value in read_all(js):
            if value is not None:
                values[key] = value
    except NoStream:
        return []
    now = js.now().timestamp()
    told = [read_slots(value) for key, value in values.items() if key.startswith(clocks.SLOTS)]
    slots = sum(one.slots for one in told if one is not None and one.until > now)
    waiting = await _waiting(js.connection, "", WITHIN)
    counters, views = Counters(js), []
    for key, value in sorted(values.items()):
        clock = clocks.read(value) if key.startswith(clocks.CLOCK) else None
        if clock is None:
            continue
        name = key.removeprefix(clocks.CLOCK)
        route = Route(*name.rsplit(".", 1))
        closed = closures.read(values.get(gates.closed_key(route)))
        counted = await counters.sums(route, clock.axes)
        views.append(
            route_view(
                name,
                clock,
                counted,
                waiting,
                closed=closed is not None and closed.holds(js.now()),
                slots=slots,
                now=now,
            )
        )
    return views


async def first_waiting(connection: Connection, task_id: str) -> Waiting | None:
    """What the worker says with whom a task waits for a limit; None where it waits with none."""
    try:
        answers = await _waiting(connection, task_id, WITHIN)
    except BusError:
        return None
    return next((answer for answer in answers if answer.route), None)


async def _waiting(connection: Connection, task_id: str, within: float) -> list[Waiting]:
    """What all workers answer; for a task the first answer is the only one."""
    answers: list[Waiting] = []
    enough = asyncio.Event()

    def answered(message: Message) -> None:
        told = control.decode(message.data) if message.data else None
        if isinstance(told, Waiting):
            answers.append(told)
        if message.status or (task_id and answers):
            enough.set()

    inbox = f"{connection.options.inbox_prefix}.{secrets.token_hex(11)}"
    subscription = await connection.subscribe(inbox, answered)
    try:
        question = control.encode(Waits(id=task_id))
        connection.publish(subjects.control("worker"), question, reply=inbox)
        async with asyncio.timeout(within):
            await enough.wait()
    except TimeoutError:
        pass
    finally:
        await subscription.close()
    return answers
