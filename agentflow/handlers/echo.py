"""Kind `echo`: gives its prompt back. For trying things out, and for measuring the queue alone."""

from __future__ import annotations

from agentflow.errors import InvalidTask
from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol.task import Task


async def echo(run: Run) -> Outcome:
    """The prompt as text. Raises InvalidTask where there is none."""
    return Outcome(text=check_prompt(run.task))


def check_prompt(task: Task) -> str:
    """What a task would be given back. Raises InvalidTask where there is nothing."""
    if task.prompt is None:
        raise InvalidTask(f"task {task.id}: kind echo needs a prompt")
    return task.prompt
