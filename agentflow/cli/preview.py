"""What a job would ask and cost, shown before it is paid: --dry-run, --estimate, --sample."""

from __future__ import annotations

import random
import sys
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec

from agentflow.cli import output
from agentflow.errors import UsageError

if TYPE_CHECKING:
    from agentflow.job.estimate import Estimate, Range
    from agentflow.job.source import Item
    from agentflow.views.ledger import Line


def print_requests(items: Iterator[Item]) -> None:
    """What each task would ask, a JSON object a line."""
    for item in items:
        click.echo(
            msgspec.json.encode({"line": item.line, "id": item.id, **_request(item)}).decode()
        )


def _request(item: Item) -> dict[str, Any]:
    from agentflow.handlers.claude import request
    from agentflow.job.checks import EVERYTHING
    from agentflow.protocol import task
    from agentflow.protocol.subjects import Priority

    made = task.build(item.body, {}, "", Priority.NORMAL, item.id)
    if made.kind != "claude":
        fields = msgspec.to_builtins(item.body)
        return {"kind": made.kind, **{name: fields[name] for name in fields if name != "id"}}
    arguments = request.build(made, EVERYTHING)
    arguments.pop("betas", None)  # they are in the headers
    return {"kind": made.kind, "request": arguments | arguments.pop("extra_body", {})}


def sample_of(total: int, limit: int | None, size: int, seed: int) -> Collection[int]:
    """Positions of a sample; the same for the same seed."""
    among = min(total, limit or total)
    return frozenset(random.Random(seed).sample(range(among), min(size, among)))


def print_answers(lines: Iterator[Line]) -> None:
    """The answers of a sample, on standard error."""
    for line in lines:
        cost = "unknown" if line.cost_usd is None else f"${line.cost_usd:.4f}"
        said = line.text if line.text is not None else _value(line)
        output.note(f"--- line {line.line}: {line.state}, {cost}")
        output.note(said[:2000] + ("..." if len(said) > 2000 else ""))


def _value(line: Line) -> str:
    if line.error is not None:
        return f"{line.reason or line.error.type}: {line.error.message}"
    return msgspec.json.encode(line.value).decode()


def sentences(figures: Estimate) -> list[str]:
    """An estimate in words."""
    from agentflow.job.tally import dollars

    source = (
        f"by {figures.learned_from} answers of this job"
        if figures.learned_from
        else "by the size of the texts and max_tokens; --sample 20 learns more"
    )
    if figures.counted:
        source = f"the API counted {figures.counted} prompts; the rest {source}"
    lines = [
        f"estimate of {figures.tasks:,} tasks, {source}:",
        f"  tokens in   {_span(figures.input_tokens)}",
        f"  tokens out  {_span(figures.output_tokens)}",
    ]
    cost = figures.cost_micro
    if cost is None:
        lines.append(f"  cost        unknown: no price for {', '.join(figures.unpriced)}")
    else:
        low, likely, high = (dollars(round(value)) for value in (cost.low, cost.likely, cost.high))
        lines.append(f"  cost        {likely} ({low} to {high})")
    if figures.uncounted:
        lines.append(f"  (no prompt was counted by the API: {figures.uncounted})")
    if figures.duration is not None:
        low, likely, high = map(_duration, msgspec.structs.astuple(figures.duration))
        why = "by the account's limits" if figures.limited else "where no limit slows it down"
        lines.append(f"  time        {likely} ({low} to {high}), {why}")
    return lines


def _span(figure: Range) -> str:
    return f"{figure.likely:,.0f} ({figure.low:,.0f} to {figure.high:,.0f})"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:,.0f} min"


def go_on(left: int, yes: bool) -> bool:
    """Whether the rest is to be run. Raises UsageError where nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(
            f"the sample is done, and {left} tasks are left: run it again without --sample, "
            "or with --yes"
        )
    return click.confirm(f"Run the other {left} tasks?", err=True)
