"""`agentflow dead`: look at dead letters, run them again, drop them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agentflow.cli import options
from agentflow.cli.confirm import confirm, counted
from agentflow.cli.options import Duration, connection_options, json_option
from agentflow.errors import UsageError

if TYPE_CHECKING:
    from agentflow.client import Client
    from agentflow.client.operate.deadletters import DeadFilter, Outcome
    from agentflow.views.failures import FailureGroup

R = TypeVar("R")

SHOWN_PROBLEMS = 10


def _filters(function: Callable[..., R]) -> Callable[..., R]:
    """Add the options that choose letters."""
    added = (
        click.option("--reason", help="Only those that failed for it."),
        click.option("--queue", "-q", help="Only those of this queue."),
        click.option("--label", multiple=True, metavar="K=V", help="Only with it. Repeatable."),
        click.option("--age", type=Duration(), metavar="TIME", help="Only older ones: 2h, 3d."),
        click.option(
            "--fingerprint", metavar="HEX", help="Only those of one group (list --group)."
        ),
    )
    function = options.query_option(function)
    for option in reversed(added):
        function = option(function)
    return function


def _wanted(chosen: dict[str, Any]) -> tuple[DeadFilter, bool]:
    """The filter, taken out of a command's options, and whether it leaves anything out."""
    from agentflow.client.operate.deadletters import DeadFilter

    if chosen["queue"] is not None:
        from agentflow.protocol import subjects

        subjects.check_queue(chosen["queue"])
    wanted = DeadFilter(
        reason=chosen.pop("reason"),
        queue=chosen.pop("queue"),
        label=options.labels(chosen.pop("label")),
        older_than=chosen.pop("age"),
        fingerprint=chosen.pop("fingerprint"),
        query=chosen.pop("query"),
    )
    return wanted, wanted != DeadFilter()


@click.group("dead")
def command() -> None:
    """Failed tasks that are kept: list, show, retry, drop. Needs no master.

    A failed task's message is kept for 30 days. Retrying it keeps its history.
    """


@command.command("list")
@_filters
@click.option("--group", is_flag=True, help="Count by error: one line for each fingerprint.")
@click.option("--limit", "-n", type=click.IntRange(min=1), help="Most letters to show.")
@json_option
@connection_options
def list_command(group: bool, limit: int | None, as_json: bool, **rest: Any) -> None:
    """List dead letters, oldest first."""
    wanted, _ = _wanted(rest)
    options.run_async((_groups if group else _list)(rest, wanted, limit, as_json))


async def _list(
    connection: dict[str, str | None], wanted: DeadFilter, limit: int | None, as_json: bool
) -> None:
    from contextlib import aclosing

    from agentflow.cli import output

    rows = []
    count = 0
    async with (
        options.client(connection) as client,
        aclosing(client.dead.letters(wanted)) as letters,
    ):
        async for letter in letters:
            count += 1
            if as_json:
                output.show_json(letter)
            else:
                rows.append(letter)
            if limit is not None and count >= limit:
                break
    if as_json:
        return
    if not rows:
        output.show("no dead letters")
        return
    rows.sort(key=lambda letter: letter.sequence)
    headings = ("ID", "REASON", "QUEUE", "KIND", "ATT", "AGE", "GROUP", "TITLE", "ERROR")
    output.table(
        headings,
        [
            (
                letter.id,
                letter.reason,
                letter.queue,
                letter.kind,
                str(letter.attempts),
                output.ago(letter.time),
                letter.fingerprint,
                letter.title,
                ("(not kept whole) " if letter.truncated else "") + letter.error.message,
            )
            for letter in rows
        ],
    )


async def _groups(
    connection: dict[str, str | None], wanted: DeadFilter, limit: int | None, as_json: bool
) -> None:
    from agentflow.cli import output

    async with options.client(connection) as client:
        groups = (await client.dead.groups(wanted))[:limit]
    if as_json:
        for group in groups:
            output.show_json(group)
        return
    if not groups:
        output.show("no dead letters")
        return
    headings = ("COUNT", "GROUP", "REASON", "ERROR TYPE", "QUEUES", "OLDEST", "NEWEST", "ERROR")
    output.table(headings, [_group_row(group) for group in groups])


def _group_row(group: FailureGroup) -> tuple[str, ...]:
    from agentflow.cli import output

    parts = [group.type, str(group.status or ""), group.code or ""]
    return (
        f"{group.count:,}",
        group.fingerprint,
        group.reason,
        " ".join(part for part in parts if part),
        ",".join(group.queues),
        output.ago(group.oldest),
        output.ago(group.newest),
        group.message,
    )


@command.command("show")
@click.argument("task_id", metavar="ID")
@json_option
@connection_options
def show_command(task_id: str, as_json: bool, **connection: str | None) -> None:
    """Show a dead letter: why the task failed, and what it was asked."""
    options.run_async(_show(connection, task_id, as_json))


async def _show(connection: dict[str, str | None], task_id: str, as_json: bool) -> None:
    import msgspec

    from agentflow.cli import output

    async with options.client(connection) as client:
        letter, record, payload = await client.dead.find(task_id)
    text = payload.decode(errors="replace")
    state = record.state if record else None
    if as_json:
        output.show_json({**msgspec.to_builtins(letter), "state": state, "payload": text})
        return
    error = letter.error
    output.fields(
        [
            ("id", letter.id),
            ("state", state or "its records have expired"),
            ("reason", letter.reason),
            ("error", f"{error.type}: {error.message}"),
            ("status", str(error.status) if error.status else None),
            ("code", error.code),
            ("request id", error.request_id),
            ("group", letter.fingerprint),
            ("queue", f"{letter.queue} ({letter.priority})"),
            ("kind", letter.kind),
            ("labels", ", ".join(f"{name}={value}" for name, value in letter.labels.items())),
            ("attempts", str(letter.attempts)),
            ("failed", output.when(letter.time)),
            ("usage", _usage(record) if record else None),
        ]
    )
    output.show()
    output.show(text)
    if letter.truncated:
        output.note("this is not the whole message: it was too large, and cannot be retried")


def _usage(record: Any) -> str:
    from agentflow.cli import output

    return f"{record.usage.total:,} tokens, {output.money(record.cost_usd)}"


@command.command("retry")
@click.argument("ids", metavar="[ID...]", nargs=-1)
@_filters
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask, however many they are.")
@json_option
@connection_options
def retry_command(
    ids: tuple[str, ...], everything: bool, yes: bool, as_json: bool, **rest: Any
) -> int:
    """Run failed tasks again: some by id, or all that fit.

    Their failures count from 0 again; attempts, usage and history stay.
    """
    wanted, narrowed = _wanted(rest)
    _check_choice(ids, narrowed, everything)
    if ids:
        return options.run_async(retry_ids(rest, ids, yes, as_json))
    return options.run_async(_many(rest, wanted, yes, as_json, "retry"))


@command.command("drop")
@click.argument("ids", metavar="[ID...]", nargs=-1)
@_filters
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask, however many they are.")
@json_option
@connection_options
def drop_command(
    ids: tuple[str, ...], everything: bool, yes: bool, as_json: bool, **rest: Any
) -> int:
    """Delete dead letters: the tasks stay failed, and can no longer be retried."""
    wanted, narrowed = _wanted(rest)
    _check_choice(ids, narrowed, everything)
    if ids:
        return options.run_async(_ids(rest, ids, yes, as_json, "drop"))
    return options.run_async(_many(rest, wanted, yes, as_json, "drop"))


def _check_choice(ids: tuple[str, ...], narrowed: bool, everything: bool) -> None:
    if [bool(ids), narrowed, everything].count(True) != 1:
        raise UsageError(
            "say which dead letters: ids, or filters (--reason, --queue, --label, --age, "
            "--fingerprint, --query), or --all"
        )


_DONE = {"retry": "submitted again", "drop": "dropped"}


async def retry_ids(
    connection: dict[str, str | None], ids: tuple[str, ...], yes: bool, as_json: bool
) -> int:
    """Run failed tasks again; 1 where one could not be."""
    return await _ids(connection, ids, yes, as_json, "retry")


async def retry_found(
    connection: dict[str, str | None], query: str, yes: bool, as_json: bool
) -> int:
    """Run the failed tasks again that a query finds; 1 where one could not be."""
    from agentflow.client.operate.deadletters import DeadFilter

    return await _many(connection, DeadFilter(query=query), yes, as_json, "retry")


async def _ids(
    connection: dict[str, str | None], ids: tuple[str, ...], yes: bool, as_json: bool, verb: str
) -> int:
    from agentflow.client.operate.bulk import as_stream, concurrently
    from agentflow.protocol import subjects

    for task_id in ids:
        subjects.check_id(task_id)
    unique = dict.fromkeys(ids)
    _ask(len(unique), f"this would {verb} {counted(len(unique), 'task')}", yes, verb)
    async with options.client(connection) as client:
        work = client.dead.retry_one if verb == "retry" else client.dead.drop_one
        return await _report(client, concurrently(as_stream(unique), work), verb, as_json)


async def _many(
    connection: dict[str, str | None], wanted: DeadFilter, yes: bool, as_json: bool, verb: str
) -> int:
    async with options.client(connection) as client:
        if not yes:
            count = await _count(client, wanted)
            _ask(count, f"this would {verb} {counted(count, 'dead letter')}", yes, verb)
        work = client.dead.retry(wanted) if verb == "retry" else client.dead.drop(wanted)
        return await _report(client, work, verb, as_json)


def _ask(count: int, what: str, yes: bool, verb: str) -> None:
    """What is dropped cannot be retried, so the first one is asked about too."""
    if verb == "drop":
        confirm(count, f"{what}, for good: no retry after it", yes, unasked=0)
    else:
        confirm(count, what, yes)


async def _count(client: Client, wanted: DeadFilter) -> int:
    count = 0
    async for _ in client.dead.letters(wanted, errors=False):
        count += 1
    return count


async def _report(
    client: Client, outcomes: AsyncGenerator[Outcome], verb: str, as_json: bool
) -> int:
    from agentflow.cli import output

    done = 0
    queues: dict[str, None] = {}
    problems: list[str] = []
    async for outcome in outcomes:
        done += outcome.done
        if outcome.queue:
            queues[outcome.queue] = None
        if not outcome.done:
            problems.append(outcome.text)
        if as_json:
            output.show_json({"id": outcome.id, "done": outcome.done, "problem": outcome.text})
    for text in problems[:SHOWN_PROBLEMS]:
        output.warn(text)
    if len(problems) > SHOWN_PROBLEMS:
        output.warn(f"... and {len(problems) - SHOWN_PROBLEMS:,} more")
    if not as_json:
        output.show(f"{counted(done, 'task')} {_DONE[verb]}")
    for queue in queues:
        await _warn_unserved(client, queue)
    return 1 if problems else 0


async def _warn_unserved(client: Client, queue: str) -> None:
    """A task that is run again waits where it was, which may have been the queue of a job."""
    from agentflow.cli import output
    from agentflow.errors import BusError

    try:
        if not await client.unserved(queue):
            return
        job = await client.operate.jobs.get(queue)
    except BusError:
        return  # this user may not ask
    how = f"agentflow worker --queues {queue}"
    if job is not None:
        how = (
            f"agentflow run {job.file} --retry-failed, which does the same for the whole job; {how}"
        )
    output.warn(f"no worker serves the queue {queue}; it waits until one does: {how}")
