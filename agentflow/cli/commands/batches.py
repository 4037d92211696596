"""`agentflow batches`: the batches under way, one of them, or the end of one."""

from __future__ import annotations

from datetime import datetime

import click

from agentflow.cli import options
from agentflow.cli.confirm import confirm, counted
from agentflow.cli.options import connection_options, json_option
from agentflow.errors import TaskError, UsageError
from agentflow.views.batches import BatchView

ACTIONS = ("list", "show", "cancel")


@click.command("batches")
@click.argument("action", type=click.Choice(ACTIONS), default="list")
@click.argument("batch_id", metavar="[ID]", required=False)
@click.option("--yes", "-y", is_flag=True, help="Cancel without being asked.")
@json_option
@connection_options
def command(
    action: str, batch_id: str | None, yes: bool, as_json: bool, **connection: str | None
) -> None:
    """List the batches of the Message Batches API under way, show one, or cancel it.

    What is answered when a batch is cancelled is kept; its other tasks fail with batch_canceled,
    and can be retried. How far a batch is, a master tells.
    """
    if (batch_id is None) != (action == "list"):
        raise UsageError("say which batch: agentflow batches show ID, agentflow batches cancel ID")
    options.run_async(_batches(connection, action, batch_id, yes, as_json))


async def _batches(
    connection: dict[str, str | None], action: str, batch_id: str | None, yes: bool, as_json: bool
) -> None:
    from agentflow.cli import output

    async with options.client(connection) as client:
        found = await client.batches()
        now = client.js.now()
        if batch_id is not None:
            found = [batch for batch in found if batch_id in (batch.id, batch.nonce)]
            if not found:
                raise TaskError(f"there is no batch {batch_id} under way")
        if action == "cancel":
            left = found[0].count - found[0].settled
            what = f"Cancels batch {found[0].id}, {counted(left, 'task')} without an answer yet"
            confirm(left, what, yes)
            found = [await client.cancel_batch(found[0].id)]
    if as_json:
        for batch in found:
            output.show_json(batch)
        return
    if action == "cancel":
        output.show(f"batch {found[0].id} is being cancelled")
        return
    rows = [_row(batch, now) for batch in found]
    headings = ("BATCH", "QUEUE", "STATE", "REQUESTS", "SETTLED", "AGE", "EXPIRES", "COST", "SAVED")
    if rows:
        output.table(headings, rows)
    else:
        output.show("no batches; agentflow run FILE --batch")


def _row(batch: BatchView, now: datetime) -> tuple[str, ...]:
    from agentflow.cli import output

    def span(instant: datetime | None, sign: int) -> str:
        if instant is None:
            return ""
        return output.seconds(max(0.0, sign * (instant - now).total_seconds()))

    state = batch.status or batch.state
    if batch.twice:
        state = "paid twice"
    return (
        batch.id or batch.nonce or "-",
        batch.queue,
        state + (" (cancelling)" if batch.cancel else ""),
        f"{batch.count:,}",
        f"{batch.settled:,}",
        span(batch.made or batch.at, -1),
        span(batch.expires, 1),
        f"${batch.cost_usd:,.4f}" if batch.settled else "",
        f"${batch.saved_usd:,.4f}" if batch.settled else "",
    )
