"""`agentflow lane`: the lanes of a queue, and how they share its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option

if TYPE_CHECKING:
    from agentflow.client.operate.lanes import LaneStanding


@click.group("lane")
def command() -> None:
    """Share the workers of a queue among tenants: each has a lane, and lanes share by tokens.

    A task goes into a lane by its subject (agentflow.tasks.QUEUE.PRIORITY.LANE), with `submit
    --lane`, or by the label that AGENTFLOW_LANE_LABEL names; all others are in the lane `default`.
    Lanes that have tasks get shares of the same size, or by their weights, however many tasks each
    has. Needs no master.
    """


@command.command("set")
@click.argument("queue")
@click.argument("lanes", nargs=-1, required=True, metavar="LANE...")
@click.option(
    "--weight",
    type=click.FloatRange(min=0, min_open=True, max=1e6),
    help="Its share beside others.",
)
@click.option(
    "--cap",
    type=click.IntRange(0, 1_000_000),
    help="Most of its tasks that workers have in their hands, of each priority; 0: no cap.",
)
@connection_options
def _set(
    queue: str,
    lanes: tuple[str, ...],
    weight: float | None,
    cap: int | None,
    **connection: str | None,
) -> None:
    """List lanes of QUEUE, or change their weight and cap; workers obey at once.

    Tasks for a lane that is not listed are refused. What is not said stays as it was; a new lane
    has weight 1 and no cap.
    """
    from agentflow.client.operate import lanes as operate

    async def work() -> list[LaneStanding]:
        async with options.client(connection) as client:
            await operate.set_to(client.js, queue, lanes, weight=weight, cap=cap)
            found = await operate.standing(client.js, queue)
            return [lane for lane in found if lane.lane in lanes]

    _show(options.run_async(work()), False)


@command.command("list")
@click.argument("queue", required=False)
@json_option
@connection_options
def _list(queue: str | None, as_json: bool, **connection: str | None) -> None:
    """List the lanes of QUEUE, or of all queues that have any: weight, cap, tasks."""
    from agentflow.client.operate import lanes as operate

    async def work() -> list[LaneStanding]:
        async with options.client(connection) as client:
            return await operate.standing(client.js, queue)

    _show(options.run_async(work()), as_json)


@command.command("remove")
@click.argument("queue")
@click.argument("lane")
@connection_options
def _remove(queue: str, lane: str, **connection: str | None) -> int:
    """Refuse new tasks for LANE; what is in it still runs. Exits 1 where it was not listed."""
    from agentflow.cli import output
    from agentflow.client.operate import lanes as operate

    async def work() -> tuple[bool, int]:
        async with options.client(connection) as client:
            there = await operate.removed(client.js, queue, lane)
            found = await operate.standing(client.js, queue)
            return there, sum(each.tasks for each in found if each.lane == lane)

    there, left = options.run_async(work())
    if not there:
        output.show(f"queue {queue} has no lane {lane}")
        return 1
    output.show(
        f"lane {lane} of queue {queue} is removed"
        + (f"; {left:,} tasks in it still run" * bool(left))
    )
    return 0


def _show(found: list[LaneStanding], as_json: bool) -> None:
    from agentflow.cli import output

    if as_json:
        for lane in found:
            output.show_json(lane)
        return
    if not found:
        output.show("there are no lanes: all tasks of a queue wait in one line")
    for lane in found:
        cap = f", at most {lane.cap:,} at once" if lane.cap else ""
        tasks = f"{lane.tasks:,} task{'s' * (lane.tasks != 1)}"
        text = f"{lane.queue} {lane.lane}: weight {lane.weight:g}{cap}, {tasks}"
        output.show(text if lane.listed else f"{text}; not listed, so new ones are refused")
