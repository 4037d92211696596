"""`agentflow stats`: the whole at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options, json_option

if TYPE_CHECKING:
    from agentflow.protocol.api import StatsView


@click.command("stats")
@json_option
@connection_options
def command(as_json: bool, **connection: str | None) -> None:
    """Show queues, states, tokens and cost. Needs a master."""
    options.run_async(_stats(connection, as_json))


async def _stats(connection: dict[str, str | None], as_json: bool) -> None:
    from agentflow.cli import output

    async with options.client(connection) as client:
        stats = await client.stats()
    if as_json:
        output.show_json(stats)
    else:
        show(stats)


def show(stats: StatsView) -> None:
    """Print the numbers for a person."""
    from agentflow.cli import output, pauses

    counts = [f"{count:,} {state}" for state, count in stats.counts.items() if count]
    lost = f", {stats.lost_workers} lost" if stats.lost_workers else ""
    unknown = f" and {stats.cost_unknown:,} of unknown price" if stats.cost_unknown else ""
    usage = stats.usage
    output.fields(
        [
            ("tasks", ", ".join(counts) or "none"),
            ("workers", f"{stats.workers}{lost}"),
            ("tokens", f"{usage.output_tokens:,} out, {usage.total - usage.output_tokens:,} in"),
            ("cost", output.money(stats.cost_usd) + unknown),
            (output.SIMULATED, f"{stats.simulated:,} tasks" if stats.simulated else None),
            ("master", stats.master + ("" if stats.ready else " (still reading the streams)")),
        ]
    )
    if stats.queues:
        output.show()
        rows = [
            (
                queue.queue,
                *(str(queue.depth.get(priority, 0)) for priority in ("high", "normal", "low")),
                str(queue.running),
                str(queue.parked),
                output.seconds(queue.oldest_s),
                "none" if queue.unserved else str(queue.workers),
                str(queue.slots),
            )
            for queue in stats.queues
        ]
        headings = ("QUEUE", "HIGH", "NORMAL", "LOW", "RUNNING", "PARKED", "OLDEST", "WORKERS")
        output.table((*headings, "SLOTS"), rows)
    pauses.show(stats.gates)
    for text in stats.notes:
        output.show(f"\nnote: {text}")
