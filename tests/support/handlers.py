"""Handlers for tests: what a worker must survive, and what a test wants to hold in its hand."""

from __future__ import annotations

import asyncio

from agentflow.handlers.contract import AttemptFailed, Handler, Outcome, Run
from agentflow.protocol.record import Failure, Usage
from agentflow.rules.retry import Signal


async def echo(run: Run) -> Outcome:
    return Outcome(text=run.task.prompt)


async def sleep(run: Run) -> Outcome:
    await asyncio.sleep(run.task.params["seconds"])
    return Outcome(value=run.task.params["seconds"])


PLAIN: dict[str, Handler] = {"echo": echo, "sleep": sleep, "claude": echo}
"""As a worker has them; a task without a kind is for Claude, whom nobody calls here."""


class Gate:
    """A handler that runs until it is released, and remembers its runs."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.ended: list[Run] = []
        self.started = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, run: Run) -> Outcome:
        self.runs.append(run)
        self.started.set()
        try:
            await self.opened.wait()
        finally:
            self.ended.append(run)
        return Outcome(text="released")


def opened() -> Gate:
    """A gate that holds nobody up, and still remembers."""
    gate = Gate()
    gate.opened.set()
    return gate


def failing(signal: Signal, *, times: int = 1_000_000) -> Handler:
    """A handler whose first attempts fail with `signal`, having spent something each time."""
    left = times

    async def handler(run: Run) -> Outcome:
        nonlocal left
        run.usage = Usage(input_tokens=10, output_tokens=3)
        run.cost_micro = 7
        run.request_id = f"req_{run.attempt}"
        if left > 0:
            left -= 1
            failure = Failure(type="scripted", message="as the test wants", status=signal.status)
            raise AttemptFailed(failure, signal)
        return Outcome(text="at last")

    return handler
