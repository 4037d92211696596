"""What a job will cost, before it is paid: from its size, and from answers where there are some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from agentflow.handlers.claude.request import DEFAULT_MODEL
from agentflow.job.ledger import Ledger
from agentflow.job.source import Item, Load, size_of
from agentflow.protocol.record import State, Usage
from agentflow.rules.routes.prices import Prices, cost_micro
from agentflow.views.ledger import Line

BYTES_A_TOKEN: Final = (5.0, 3.5, 2.0)
"""Few, likely and many tokens of a text, where no answer has told its ratio."""
OUTPUT: Final = (20, 400)
"""Tokens of a short answer and of a likely one; the longest is max_tokens."""
SPREAD: Final = 0.15
"""How far a learned mean is trusted."""


class Learned(msgspec.Struct):
    """What answers of the same job have shown."""

    tasks: int = 0
    bytes: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    run_s: float = 0.0

    def add(self, item: Item, line: Line) -> None:
        """Learn from an answer."""
        if line.state != State.SUCCEEDED or line.kind != "claude":
            return
        usage = line.usage
        self.tasks += 1
        self.bytes += size_of(item.body)
        self.input_tokens += usage.total - usage.output_tokens
        self.output_tokens += usage.output_tokens
        self.run_s += line.timings.run_s or line.latency_s or 0.0


class Range(msgspec.Struct, frozen=True):
    """Three of a figure."""

    low: float
    likely: float
    high: float


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Of a whole job. Costs are micro-dollars; None where a model has no price."""

    tasks: int
    learned_from: int
    input_tokens: Range
    output_tokens: Range
    cost_micro: Range | None
    unpriced: tuple[str, ...]
    seconds: float | None
    """None where no answer has told how long one takes."""


def learn(path: Path | None, items: Iterable[Item], *, simulate: bool) -> Learned:
    """What the answers in a file of results show. Raises UsageError."""
    learned = Learned()
    if path is None or not path.exists():
        return learned
    ledger = Ledger(path, simulate=simulate)
    ledger.open()
    try:
        if ledger.ids():
            for item in items:
                if (line := ledger.get(item.id)) is not None:
                    learned.add(item, line)
    finally:
        ledger.close()
    return learned


def estimate(
    models: Mapping[str | None, Load], prices: Prices, learned: Learned, *, slots: int
) -> Estimate:
    """Of the tasks of kind claude; `slots` run at once."""
    sums = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    costs: list[float] = [0.0, 0.0, 0.0]
    unpriced = []
    for model, load in models.items():
        name = model or DEFAULT_MODEL
        for at, (tokens_in, tokens_out) in enumerate(_tokens(load, learned)):
            sums[0][at] += tokens_in
            sums[1][at] += tokens_out
            # Priced a task at a time: a long prompt's tier is chosen by its own length.
            tasks = max(1, load.tasks)
            usage = Usage(round(tokens_in / tasks), round(tokens_out / tasks))
            cost = cost_micro(name, usage, prices)
            if cost is None:
                unpriced.append(name)
            else:
                costs[at] += cost * tasks
    tasks = sum(load.tasks for load in models.values())
    seconds = learned.run_s / learned.tasks * tasks / slots if learned.tasks else None
    return Estimate(
        tasks=tasks,
        learned_from=learned.tasks,
        input_tokens=Range(*sums[0]),
        output_tokens=Range(*sums[1]),
        cost_micro=None if unpriced else Range(*costs),
        unpriced=tuple(dict.fromkeys(unpriced)),
        seconds=seconds,
    )


def _tokens(load: Load, learned: Learned) -> Iterator[tuple[float, float]]:
    """Input and output tokens of a model's tasks: few, likely, many."""
    if learned.tasks and learned.bytes:
        tokens_in = load.bytes * learned.input_tokens / learned.bytes
        tokens_out = load.tasks * learned.output_tokens / learned.tasks
        for part in (1 - SPREAD, 1.0, 1 + SPREAD):
            yield tokens_in * part, min(tokens_out * part, float(load.most_output))
        return
    few, likely = (min(load.tasks * tokens, load.most_output) for tokens in OUTPUT)
    outputs = (few, likely, load.most_output)
    for bytes_a_token, tokens_out in zip(BYTES_A_TOKEN, outputs, strict=True):
        yield load.bytes / bytes_a_token, float(tokens_out)
