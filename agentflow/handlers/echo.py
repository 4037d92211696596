"""Kind `echo`: gives its prompt back. For trying things out, and for measuring the queue alone."""

from __future__ import annotations

from agentflow.errors import InvalidTask
from agentflow.handlers.contract import Outcome, Run


async def echo(run: Run) -> Outcome:
    """The prompt as text. Raises InvalidTask where there is none."""
    prompt = run.task.prompt
    if prompt is None:
        raise InvalidTask(f"task {run.task.id}: kind echo needs a prompt")
    return Outcome(text=prompt)
