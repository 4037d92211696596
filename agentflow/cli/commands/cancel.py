"""`agentflow cancel`: end tasks by id, or all that fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentflow.cli import options
from agentflow.cli.confirm import confirm, counted
from agentflow.cli.options import connection_options, job_option, json_option, query_option
from agentflow.errors import UsageError

if TYPE_CHECKING:
    from agentflow.client import Client
    from agentflow.client.operate.bulk import Selection
    from agentflow.client.tasks.steering import Cancellation

STATES = ("queued", "scheduled", "retrying", "waiting", "running")


@click.command("cancel")
@click.argument("ids", metavar="ID...", nargs=-1)
@click.option("--state", multiple=True, type=click.Choice(STATES), help="All in it. Repeatable.")
@click.option("--queue", "-q", help="All of this queue.")
@click.option("--label", multiple=True, metavar="K=V", help="All with it. Repeatable.")
@click.option("--kind", help="All of this kind.")
@query_option
@job_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask, however many they are.")
@json_option
@connection_options
def command(
    ids: tuple[str, ...],
    state: tuple[str, ...],
    queue: str | None,
    label: tuple[str, ...],
    kind: str | None,
    query: str | None,
    job: str | None,
    yes: bool,
    as_json: bool,
    **connection: str | None,
) -> int:
    """End tasks that have not ended.

    A task that waits never starts. Of one that runs, what Claude generates is hung up on, and what
    it used so far stays in its record. Selecting by --state, --queue, --label and --job needs a
    master; all given must hold. Exits 1 where an ID is unknown. What is cancelled is over; to take
    a job back so that it can go on later: agentflow withdraw.
    """
    labels = options.labels(label)
    if bool(ids) == bool(state or queue or kind or query or labels or job):
        raise UsageError(
            "say which tasks: ids, or --state, --queue, --kind, --query, --label, --job (not both)"
        )
    if ids:
        return options.run_async(_cancel_ids(connection, ids, yes, as_json))
    from agentflow.client.operate.bulk import Selection

    selection = Selection(states=state, queue=queue, kind=kind, query=query, label=labels)
    return options.run_async(_cancel_all(connection, selection, job, yes, as_json))


async def _cancel_ids(
    connection: dict[str, str | None], ids: tuple[str, ...], yes: bool, as_json: bool
) -> int:
    from agentflow.cli import output
    from agentflow.errors import TaskError
    from agentflow.protocol import subjects

    for task_id in ids:
        subjects.check_id(task_id)
    count = len(set(ids))
    confirm(count, f"this cancels {counted(count, 'task')}", yes)
    report, unknown = CancelReport(as_json, name_ended=True), 0
    async with options.reached(connection) as client:
        async for task_id, outcome in client.operate.bulk.cancel_ids(ids):
            if isinstance(outcome, TaskError):
                unknown += 1
                output.warn(str(outcome))
                if as_json:
                    output.show_json({"id": task_id, "state": None, "cancelled": False})
            else:
                report.add(outcome)
    report.show()
    return 1 if unknown else 0


async def _cancel_all(
    connection: dict[str, str | None],
    selection: Selection,
    job: str | None,
    yes: bool,
    as_json: bool,
) -> int:
    import msgspec

    report = CancelReport(as_json)
    async with options.reached(connection) as client:
        label = await options.with_job(client, selection.label, job)
        selection = msgspec.structs.replace(selection, label=label)
        selection.test(0.0)  # a mistyped query is said before anything is asked
        await _confirm(client, selection, yes)
        async for outcome in client.operate.bulk.cancel(selection):
            report.add(outcome)
    report.show()
    return 0


async def _confirm(client: Client, selection: Selection, yes: bool) -> None:
    counts = {} if yes else await client.operate.bulk.count(selection)
    count = sum(counts.values())
    states = ", ".join(f"{number:,} {state}" for state, number in counts.items())
    confirm(count, f"this cancels {counted(count, 'task')} ({states})", yes)


class CancelReport:
    """Counts what became of the tasks, and says so."""

    def __init__(self, as_json: bool, *, name_ended: bool = False) -> None:
        self._as_json = as_json
        self._name_ended = name_ended
        self._cancelled = 0
        self._ended = 0

    def add(self, outcome: Cancellation) -> None:
        """Count one task; as JSON it is printed at once."""
        from agentflow.cli import output

        result = outcome.result
        self._cancelled += not outcome.already
        self._ended += outcome.already
        if self._as_json:
            line: dict[str, Any] = {
                "id": result.id,
                "state": result.state,
                "cancelled": not outcome.already,
                "usage": result.usage,
                "cost_usd": result.cost_usd,
            }
            output.show_json(line)
        elif outcome.already and self._name_ended:
            output.note(f"task {result.id} had ended before: {result.state}")

    def show(self) -> None:
        """The sum, for people."""
        from agentflow.cli import output

        if self._as_json:
            return
        ended = f"; {self._ended:,} had ended before" if self._ended else ""
        output.show(f"cancelled {counted(self._cancelled, 'task')}{ended}")
