"""Unfinished tasks that a master knows, as rows: for who did not read records so old."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import msgspec

from agentflow.client.asking import Asking
from agentflow.protocol.api import LIST_MOST, ListRequest
from agentflow.protocol.record import State
from agentflow.views.row import Row, row_of_result

STATES: Final = (
    State.RUNNING,
    State.RETRYING,
    State.SCHEDULED,
    State.WAITING,
    State.QUEUED,
)
MOST: Final = 20_000
"""Tasks of one state; nobody looks at more, and a master has others to answer."""


async def older_rows(asking: Asking) -> AsyncGenerator[list[Row]]:
    """The unfinished tasks, newest first in each state. Raises MasterAbsent."""
    for state in STATES:
        request = ListRequest(state=state, limit=LIST_MOST)
        left = MOST
        while left > 0:
            answer = await asking.page(request)
            yield [row_of_result(task) for task in answer.tasks]
            left -= len(answer.tasks)
            if answer.next is None or not answer.tasks:
                break
            request = msgspec.structs.replace(request, after=answer.next)
