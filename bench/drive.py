"""A round of tasks with so many in flight: the next begins when one is back.

Every design is driven by this and timed here, at the client, from before the submission until the
result is in hand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import msgspec


class Order(msgspec.Struct):
    """What a round asks."""

    prompts: list[str]
    in_flight: int


class Answer(msgspec.Struct):
    """What became of one task: its seconds, and why it failed where it did."""

    prompt: str
    seconds: float
    problem: str = ""


class Round(msgspec.Struct):
    """All answers of a round, and its seconds from first to last."""

    makespan_s: float
    answers: list[Answer]


One = Callable[[str], Awaitable[str]]
"""Does one task; returns what went wrong, nothing where nothing did."""


async def run(one: One, order: Order, done: Callable[[], None] = lambda: None) -> Round:
    """A round. `done` is called after each task."""
    answers: list[Answer] = []

    async def place(prompts: Iterator[str]) -> None:
        for prompt in prompts:
            began = time.perf_counter()
            problem = await one(prompt)
            answers.append(Answer(prompt, time.perf_counter() - began, problem))
            done()

    prompts = iter(order.prompts)
    began = time.perf_counter()
    await asyncio.gather(*(place(prompts) for _ in range(order.in_flight)))
    return Round(time.perf_counter() - began, answers)
