"""What a job will cost and take, before it is paid.

Its input is that of prompts that the API counted, else of answers that are there, else of its size.
Its output is that of answers, else between a few tokens and max_tokens. It takes as long as its
answers took, and no less than the account's limits let it, where these are known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
COUNT_SPREAD: Final = 0.02
"""How far the mean of a counted sample is trusted at best."""
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


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """A sample of prompts that the API counted; `why` it was none.

    `spread` is how far the mean of the sample may be from that of all. `limits` are the rate limits
    that came with the counts: name and number, each a minute.
    """

    tasks: int = 0
    bytes: int = 0
    tokens: int = 0
    spread: float = 0.0
    limits: Mapping[str, str] = {}
    why: str = ""

    @staticmethod
    def of(
        pairs: Sequence[tuple[int, int]],
        *,
        whole: bool,
        limits: Mapping[str, str] | None = None,
        why: str = "",
    ) -> Counted:
        """Of bytes and tokens of each; `whole` where these are all there are."""
        size, tokens = sum(size for size, _ in pairs), sum(tokens for _, tokens in pairs)
        spread = 0.0
        if tokens and not whole:
            ratio = tokens / max(1, size)
            off = sum((told - ratio * size) ** 2 for size, told in pairs)
            many = len(pairs)
            spread = 2 * math.sqrt(off / max(1, many - 1) / many) / (tokens / many)
            spread = min(0.9, max(COUNT_SPREAD, spread))
        return Counted(
            tasks=len(pairs), bytes=size, tokens=tokens, spread=spread, limits=limits or {}, why=why
        )


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
    """None where neither an answer nor a limit has told how long it takes."""
    duration: Range | None = None
    counted: int = 0
    """Prompts of which the API has told the tokens."""
    uncounted: str = ""
    """Why there are none."""
    limited: bool = False
    """Whether the account's limits, and not the slots, decide how long it takes."""


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
    models: Mapping[str | None, Load],
    prices: Prices,
    learned: Learned,
    *,
    slots: int,
    counted: Counted | None = None,
) -> Estimate:
    """Of the tasks of kind claude; `slots` run at once."""
    counted = counted or Counted()
    sums = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    costs: list[float] = [0.0, 0.0, 0.0]
    unpriced = []
    for model, load in models.items():
        name = model or DEFAULT_MODEL
        for at, (tokens_in, tokens_out) in enumerate(_tokens(load, learned, counted)):
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
    duration, limited = _duration(tasks, sums, learned, counted.limits, slots)
    return Estimate(
        tasks=tasks,
        learned_from=learned.tasks,
        input_tokens=Range(*sums[0]),
        output_tokens=Range(*sums[1]),
        cost_micro=None if unpriced else Range(*costs),
        unpriced=tuple(dict.fromkeys(unpriced)),
        seconds=duration.likely if duration else None,
        duration=duration,
        counted=counted.tasks,
        uncounted="" if counted.tasks else counted.why,
        limited=limited,
    )


def _duration(
    tasks: int,
    sums: Sequence[Sequence[float]],
    learned: Learned,
    limits: Mapping[str, str],
    slots: int,
) -> tuple[Range | None, bool]:
    """Few, likely and many seconds, and whether limits decide them."""
    free = [0.0, 0.0, 0.0]
    if learned.tasks:
        likely = learned.run_s / learned.tasks * tasks / slots
        free = [likely * (1 - SPREAD), likely, likely * (1 + 2 * SPREAD)]
    held = [0.0, 0.0, 0.0]
    axes = {"requests": [float(tasks)] * 3, "input-tokens": sums[0], "output-tokens": sums[1]}
    for name, wanted in axes.items():
        a_minute = limits.get(f"{name}-limit", "")
        if a_minute.isdecimal() and int(a_minute):
            held = [
                max(so_far, 60 * one / int(a_minute))
                for so_far, one in zip(held, wanted, strict=True)
            ]
    if not learned.tasks and not any(held):
        return None, False
    longest = [max(pair) for pair in zip(free, held, strict=True)]
    return Range(*longest), held[1] > free[1]


def _tokens(load: Load, learned: Learned, counted: Counted) -> Iterator[tuple[float, float]]:
    """Input and output tokens of a model's tasks: few, likely, many."""
    yield from zip(_input(load, learned, counted), _output(load, learned), strict=True)


def _input(load: Load, learned: Learned, counted: Counted) -> list[float]:
    if counted.bytes:
        return _around(load.bytes * counted.tokens / counted.bytes, counted.spread)
    if learned.tasks and learned.bytes:
        return _around(load.bytes * learned.input_tokens / learned.bytes, SPREAD)
    return [load.bytes / bytes_a_token for bytes_a_token in BYTES_A_TOKEN]


def _output(load: Load, learned: Learned) -> list[float]:
    most = float(load.most_output)
    if learned.tasks and learned.bytes:
        likely = load.tasks * learned.output_tokens / learned.tasks
        return [min(tokens, most) for tokens in _around(likely, SPREAD)]
    return [*(min(float(load.tasks * tokens), most) for tokens in OUTPUT), most]


def _around(likely: float, spread: float) -> list[float]:
    return [likely * (1 - spread), likely, likely * (1 + spread)]
