"""Kind `sleep`: waits `params.seconds`, then says for how long. For trying things out."""

from __future__ import annotations

import asyncio
from typing import Any

from agentflow.errors import InvalidTask
from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import limits
from agentflow.protocol.task import Task


async def sleep(run: Run) -> Outcome:
    """Value {"slept": seconds}. Raises InvalidTask for anything but a number of seconds."""
    seconds = seconds_of(run.task)
    await asyncio.sleep(seconds)
    return Outcome(value={"slept": seconds})


def seconds_of(task: Task) -> float:
    """How long a task sleeps. Raises InvalidTask."""
    params, task_id = task.params, task.id
    unknown = sorted(params.keys() - {"seconds"})
    if unknown:
        raise InvalidTask(
            f"task {task_id}: kind sleep knows no params.{unknown[0]}, only params.seconds"
        )
    seconds: Any = params.get("seconds")
    # A bool is an int in Python, and a NaN compares false with everything.
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if number and 0 <= seconds <= limits.TIMEOUT_MAX:
        converted: float = seconds
        return converted
    raise InvalidTask(
        f"task {task_id}: kind sleep needs params.seconds, a number from 0 to "
        f"{limits.TIMEOUT_MAX}, not {seconds!r:.60}"
    )
