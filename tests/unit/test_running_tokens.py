"""What a heartbeat says of a running task."""

from __future__ import annotations

from datetime import UTC, datetime

from agentflow.handlers.contract import Run
from agentflow.protocol.record import Usage
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task
from agentflow.worker.worker import _shown


class _Held:
    """As much of a held message as is shown."""

    id, queue, kind = "t", "q", "claude"
    since = datetime(2026, 1, 1, tzinfo=UTC)

    def __init__(self, run: Run) -> None:
        self.run = run


def test_the_tokens_of_a_running_answer_grow_with_its_text() -> None:
    """The API tells them with the end of the answer alone."""
    run = Run(Task(id="t", queue="q", priority=Priority.NORMAL))
    run.usage = Usage(100, 1)
    run.characters = 400
    assert _shown(_Held(run)).output_tokens == 100  # type: ignore[arg-type]
    run.usage = Usage(100, 130)
    assert _shown(_Held(run)).output_tokens == 130  # type: ignore[arg-type]
