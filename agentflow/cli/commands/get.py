"""`agentflow get`: a task as it is now, or as it ends."""

from __future__ import annotations

import click
from msgspec import json
from msgspec.structs import asdict

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option
from agentflow.errors import UsageError
from agentflow.protocol.record import Record, encode


@click.command("get")
@click.argument("task_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Wait until it has ended; exit 1 unless it succeeded.")
@click.option("--history", is_flag=True, help="Every record of its log, with its tracebacks.")
@json_option
@connection_options
def command(
    task_id: str, wait: bool, history: bool, as_json: bool, **connection: str | None
) -> int:
    """Show a task and its result.

    The beginning of an ID is enough while a master lives. Without one a task is found as soon as a
    worker has seen it.
    """
    if history and wait:
        raise UsageError("--history shows what was, --wait what comes; give one of them")
    return options.run_async(_get(connection, task_id, wait, history, as_json))


async def _get(
    connection: dict[str, str | None], task_id: str, wait: bool, history: bool, as_json: bool
) -> int:
    from agentflow.cli import output
    from agentflow.cli.waiting import answer, follow, going_on
    from agentflow.client import Result

    async with options.reached(connection) as client:
        result: Result = await client.get(task_id)
        if wait and not result.ended:
            with going_on(result.id):
                return await follow(client, result.id, stream=False, as_json=as_json)
        entries = await client.history.log(result.id) if history else []
    code = 1 if wait and not result.ok else 0
    if as_json and history:
        steps = [{"sequence": at, **json.decode(encode(record))} for at, record in entries]
        output.show_json({**asdict(result), "history": steps})
        return code
    if as_json:
        output.show_json(result)
        return code
    error = result.error
    usage = result.usage
    output.fields(
        [
            ("id", result.id),
            ("title", result.title),
            ("state", result.state + (f"  {output.SIMULATED}" if result.simulated else "")),
            ("queue", f"{result.queue} ({result.priority})" if result.queue else None),
            ("kind", result.kind),
            ("model", result.model),
            ("labels", ", ".join(f"{name}={value}" for name, value in result.labels.items())),
            (
                "attempts",
                f"{result.attempts} ({result.failures} failed)" if result.attempts else "",
            ),
            ("worker", result.actor if result.attempts else None),
            ("submitted", output.when(result.timings.submitted)),
            ("started", output.when(result.timings.started)),
            ("ended", output.when(result.timings.ended)),
            ("resumes", output.when(result.resume_at)),
            ("ran", output.seconds(result.timings.run_s) if result.timings.run_s else None),
            ("progress", f"{result.progress:.0%}" if result.progress is not None else None),
            ("note", result.note),
            ("tokens", f"{usage.output_tokens:,} out, {usage.total - usage.output_tokens:,} in"),
            ("cost", output.money(result.cost_usd) if result.attempts else None),
            ("stopped by", result.stop_reason),
            ("reason", result.reason),
            ("cancelled by" if result.state == "cancelled" else "dropped by", result.by),
            ("error", f"{error.type}: {error.message}" if error else None),
            ("at", error.at if error else None),
            ("request id", result.request_id),
        ]
    )
    text = answer(result)
    if text:
        output.show()
        output.show(text)
    for _, record in entries:
        _show_record(record)
    if result.truncated:
        output.note("the text was too long for one record and is cut")
    return code


def _show_record(record: Record) -> None:
    """One step of the log: when, what, by whom; and below it why."""
    from agentflow.cli import output
    from agentflow.views.display import one_line

    facts = [f"attempt {record.attempt}" if record.attempt else "", record.actor]
    facts += [
        record.reason or "",
        f"until {output.when(record.resume_at)}" * bool(record.resume_at),
    ]
    if record.progress is not None:
        facts.append(f"{record.progress:.0%}")
    facts.append(record.note or "")
    said = ", ".join(fact for fact in facts if fact)
    output.show()
    output.show(f"{output.when(record.time)}  {record.state}  {one_line(said)}")
    error = record.error
    if error is not None:
        output.show(f"    {one_line(f'{error.type}: {error.message}')}")
        if error.at:
            output.show(f"    at {error.at}")
        for line in (error.traceback or "").splitlines():
            output.show(f"    {line}")
