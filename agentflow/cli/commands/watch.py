"""`agentflow watch`: what happens, as it happens."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, job_option, json_option
from agentflow.errors import UsageError

if TYPE_CHECKING:
    from agentflow.client import Event
    from agentflow.protocol.record import Record


@click.command("watch")
@click.argument("task_id", metavar="ID", required=False)
@click.option("--no-tokens", is_flag=True, help="Only the lifecycle.")
@job_option
@json_option
@connection_options
def command(
    task_id: str | None,
    no_tokens: bool,
    job: str | None,
    as_json: bool,
    **connection: str | None,
) -> None:
    """Show what happens as it happens: to all tasks, to those of a job, or to one until it ends.

    Needs no master.
    """
    if job is not None and task_id is not None:
        raise UsageError("watch one task or a job, not both")
    options.run_async(_watch(connection, task_id, job, not no_tokens, as_json))


async def _watch(
    connection: dict[str, str | None],
    task_id: str | None,
    job: str | None,
    tokens: bool,
    as_json: bool,
) -> None:
    from agentflow.cli import output
    from agentflow.errors import TaskNotFound
    from agentflow.protocol.subjects import is_id

    async with options.reached(connection) as client:
        wanted = task_id
        if task_id is not None:
            try:
                wanted = (await client.get(task_id)).id
            except TaskNotFound:
                if not is_id(task_id):
                    raise
                # It may be queued, or come later.
                output.note(f"task {task_id} is not known yet; waiting for it")
        shown = Shown(one=wanted is not None)
        of_job = OfJob((await client.operate.jobs.find(job)).id) if job is not None else None
        async for event in client.watch(wanted, tokens=tokens):
            if of_job is not None and not of_job.has(event):
                continue
            if as_json:
                output.show_json(event)
            else:
                shown.add(event)


class OfJob:
    """Tells the events of a job's tasks; a text's only once something else of its task came."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._ids: set[str] = set()

    def has(self, event: Event) -> bool:
        """Whether it is of the job."""
        from agentflow.protocol import jobs

        if event.labels.get(jobs.LABEL) == self._job:
            self._ids.add(event.id)
        return event.id in self._ids


class Shown:
    """Events as lines; the text of a single task runs on."""

    def __init__(self, *, one: bool) -> None:
        self._one = one
        self._open = False

    def add(self, event: Event) -> None:
        """Print an event."""
        from agentflow.cli import output
        from agentflow.views.display import one_line

        if event.kind == "tokens" and self._one:
            output.show_raw(event.text)
            self._open = not event.text.endswith("\n")
            return
        if self._open:
            output.show()
            self._open = False
        if event.kind == "tokens":
            output.show(f"{_now()}  {one_line(event.id)}  {one_line(event.text)}")
        elif event.record is not None:
            record = event.record
            time = record.time.astimezone().strftime("%H:%M:%S")
            state = output.state_text(one_line(record.state))
            output.show_styled(f"{time}  {one_line(event.id)}  {state}  {one_line(_more(record))}")
            if self._one and record.terminal and record.text:
                output.show(record.text)
        else:
            where = one_line(f"{event.queue} ({event.priority})  {event.task_kind}")
            output.show(f"{_now()}  {one_line(event.id)}  queued in {where}")


def _now() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")


def _more(record: Record) -> str:
    from agentflow.cli import output

    parts = [f"attempt {record.attempt}"] if record.attempt else []
    if record.state == "running" and record.actor:
        parts.append(f"by {record.actor}")
    if record.progress is not None:
        parts.append(f"{record.progress:.0%}")
    if record.note:
        parts.append(record.note)
    if record.resume_at is not None:
        parts.append(f"until {record.resume_at.astimezone().strftime('%H:%M:%S')}")
    if record.reason:
        parts.append(record.reason)
    if record.error is not None:
        parts.append(record.error.message)
    if record.terminal:
        parts.append(f"{record.usage.output_tokens:,} tokens")
        parts.append(output.money(record.cost_usd))
    if record.simulated:
        parts.append(output.SIMULATED)
    return ", ".join(parts)
