"""`agentflow submit`: put a task into a queue, and wait for it where asked."""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentflow.attachments import Folder
from agentflow.cli import intake, options
from agentflow.cli.intake import Place
from agentflow.cli.options import Duration, connection_options, json_option
from agentflow.cli.reading import (
    batch_of,
    batch_options,
    reading_options,
    redact_option,
    schema_of,
    schema_options,
)
from agentflow.errors import BusError, StreamFull, UsageError
from agentflow.protocol import subjects

if TYPE_CHECKING:
    from agentflow.client import Client, TaskHandle
    from agentflow.job.source import Source
    from agentflow.protocol.task import TaskBody

PATIENCE = 5.0
"""Seconds a person at a terminal waits for a server that is away."""


@click.command("submit")
@click.argument("text", required=False)
@click.option(
    "--file", "file", metavar="FILE", help="Read the task, or a file of tasks; - is stdin."
)
@reading_options
@click.option("--text", "plain", is_flag=True, help="A prompt, even where it begins with {.")
@click.option("--queue", "-q", default="default", show_default=True, help="Queue to put it into.")
@click.option(
    "--priority",
    type=click.Choice(["high", "normal", "low"]),
    default="normal",
    show_default=True,
    help="Priority within the queue.",
)
@click.option("--lane", help="Lane of the queue, one that `agentflow lane list` shows.")
@click.option("--id", "task_id", metavar="ID", help="Its id; a second one of an id is not run.")
@click.option("--kind", help="Kind of task. [default: claude]")
@click.option("--model", help="Model to ask.")
@click.option("--system", help="System prompt.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Most tokens of the answer.")
@schema_options
@click.option("--timeout", type=Duration(), metavar="TIME", help="Most time an attempt may take.")
@click.option("--max-attempts", type=click.IntRange(1, 100), help="Failures before it is given up.")
@click.option("--param", multiple=True, metavar="K=V", help="Parameter; JSON or text. Repeatable.")
@click.option("--label", multiple=True, metavar="K=V", help="Label to find it by. Repeatable.")
@click.option("--title", help="How lists call it. [default: the prompt's beginning]")
@redact_option
@click.option(
    "--in",
    "--at",
    "--not-before",
    "not_before",
    metavar="WHEN",
    help="When it may start: --in 10m, or --at and an ISO date.",
)
@click.option("--deadline", metavar="WHEN", help="When the whole task must have ended: 2h, a date.")
@click.option("--start-within", type=Duration(), metavar="TIME", help="Most time in the queue.")
@batch_options
@click.option("--wait", is_flag=True, help="Wait, print the answer; exit 1 where there is none.")
@click.option("--stream", is_flag=True, help="Wait, and print the answer as it is generated.")
@json_option
@connection_options
def command(
    text: str | None,
    file: str | None,
    format_name: str | None,
    prompt: str | None,
    template: str | None,
    plain: bool,
    queue: str,
    priority: str,
    lane: str | None,
    task_id: str | None,
    kind: str | None,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    schema: str | None,
    repair: int | None,
    timeout: float | None,
    max_attempts: int | None,
    param: tuple[str, ...],
    label: tuple[str, ...],
    title: str | None,
    redact: bool,
    not_before: str | None,
    deadline: str | None,
    start_within: float | None,
    batch: bool,
    batch_after: float | None,
    batch_expired: str,
    wait: bool,
    stream: bool,
    as_json: bool,
    **connection: str | None,
) -> int:
    """Put a task into a queue and print its id, or every task of a file.

    TEXT is the prompt, or a task as JSON where it begins with {; - reads it from standard input.
    Options come before what the JSON says. A file of JSON lines, an array, CSV, TSV or Parquet
    holds many tasks, any other text is one; what `agentflow run` adds is in docs/job.md.
    """
    fields: dict[str, Any] = {
        "id": task_id,
        "kind": kind,
        "model": model,
        "system": system,
        "max_tokens": max_tokens,
        "schema": None if schema is None else schema_of(schema),
        "repair": repair,
        "timeout": timeout,
        "max_attempts": max_attempts,
        "params": options.parameters(param) or None,
        "labels": options.labels(label) or None,
        "title": "" if redact and title is None else title,
        "not_before": None if not_before is None else instant(not_before),
        "deadline": None if deadline is None else instant(deadline),
        "start_within": start_within,
        **batch_of(batch, batch_after, batch_expired),
    }
    if task_id is not None:
        subjects.check_id(task_id)
    place = Place(queue, priority, lane)
    how: dict[str, Any] = {"format_name": format_name, "prompt": prompt, "template": template}
    how["change"] = lambda body: _changed(body, fields)
    task = _read(text, file, bool(fields["params"]), plain, how)
    if not (task is None or isinstance(task, str)):
        task.refuse_overdue()
        if len(task) == 1:
            body = next(iter(task)).body
            return options.run_async(
                _submit(connection, body, place, wait or stream, stream, as_json)
            )
        if wait or stream or task_id:
            raise UsageError("a file of many tasks has no --id, --wait or --stream: agentflow run")
        work = _submit_all(connection, task, place, as_json)
        return options.run_async(work)
    body = _body(task, plain, fields)
    folder = Folder(Path(file).parent if file not in (None, "-") else Path())
    body.params = folder.attached(body.kind, body.params)
    return options.run_async(_submit(connection, body, place, wait or stream, stream, as_json))


def _read(
    text: str | None, file: str | None, has_params: bool, plain: bool, how: dict[str, Any]
) -> str | Source | None:
    if text is not None and file is not None:
        raise UsageError("give the task as TEXT or with --file, not both")
    if text is None and file is None:
        if has_params:
            return None
        raise UsageError("there is no task: give TEXT, -, or --file FILE")
    source = "-" if text == "-" else file
    if source is not None:
        return intake.read(source, plain=plain, how=how)
    if any(how[name] for name in ("format_name", "prompt", "template")):
        raise UsageError("--format, --prompt and --template are for --file")
    return text


def _body(text: str | None, plain: bool, fields: dict[str, Any]) -> TaskBody:
    from agentflow.protocol import task

    if text is None:
        body = task.TaskBody()
    elif not plain and task.is_json(text.encode("utf-8", "replace"), {}):
        try:
            body = task.decode_body(text.encode("utf-8", "replace"))
        except UsageError as error:
            hint = "" if "JSON" not in str(error) else " (--text takes it as a prompt)"
            raise UsageError(f"{error}{hint}") from None
    else:
        body = task.TaskBody(prompt=text)
    return _changed(body, fields)


def _changed(body: TaskBody, fields: dict[str, Any]) -> TaskBody:
    """The task with what the options say."""
    fields = dict(fields)
    for name in ("params", "labels"):
        if fields[name] and getattr(body, name):
            fields[name] = {**getattr(body, name), **fields[name]}
    for name, value in fields.items():
        if value is not None:
            setattr(body, name, value)
    return body


def instant(text: str) -> datetime:
    """A moment: a duration from now, or an ISO date, local where it names no time zone."""
    if not text.strip():
        raise UsageError("an empty text is no instant; give a duration such as 10m, or an ISO date")
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        pass
    try:
        seconds = Duration().convert(text, None, None)
    except click.BadParameter:
        raise UsageError(
            f"{text[:80]!r} is neither a duration such as 10m nor an ISO date"
        ) from None
    return datetime.now().astimezone() + timedelta(seconds=seconds)


async def _submit(
    connection: dict[str, str | None],
    body: TaskBody,
    place: Place,
    wait: bool,
    stream: bool,
    as_json: bool,
) -> int:
    from agentflow.cli import output, waiting

    async with options.reached(connection, patience=PATIENCE) as client:
        handle = await _put(client, body, place)
        if not as_json:
            # With --wait the answer is what stdout is for.
            (output.note if wait else output.show)(handle.id)
        elif not wait:
            output.show_json(
                {
                    "id": handle.id,
                    "queue": place.queue,
                    "priority": place.priority,
                    "sequence": handle.message_sequence,
                }
            )
        with waiting.going_on(handle.id):
            await _warn_unserved(client, place.queue)
            if not wait:
                return 0
            return await waiting.follow(client, handle.id, stream=stream, as_json=as_json)


async def _submit_all(
    connection: dict[str, str | None],
    source: Source,
    place: Place,
    as_json: bool,
) -> int:
    from agentflow.cli import output
    from agentflow.job import reuse

    if not as_json:
        output.note(source.taken_for)
    async with options.reached(connection, patience=PATIENCE) as client:
        if source.named:
            await reuse.check(client, source, name=source.name)
        await intake.submit_all(
            client,
            iter(source),
            place=place,
            as_json=as_json,
        )
        await _warn_unserved(client, place.queue)
    return 0


async def _put(client: Client, body: TaskBody, place: Place) -> TaskHandle:
    from agentflow.cli import output

    try:
        return await client.submit_body(body, **place._asdict(), wait_full=False)
    except StreamFull:
        output.warn("the queue is full; waiting for room")
        return await client.submit_body(body, **place._asdict())


async def _warn_unserved(client: Client, queue: str) -> None:
    from agentflow.cli import output

    try:
        if await client.unserved(queue):
            output.warn(
                f"no worker serves the queue {queue}; the task waits until one does "
                f"(agentflow worker --queues {shlex.quote(queue)})"
            )
    except BusError:
        return  # this user may not ask; the task is submitted all the same
