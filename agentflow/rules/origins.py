"""What a record says of a task that no worker has read: from its message. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime

from agentflow.errors import InvalidTask
from agentflow.protocol import subjects, task
from agentflow.protocol.asked import NOTHING, asked_by
from agentflow.protocol.subjects import Priority
from agentflow.rules.records import Origin


def of_message(
    task_id: str,
    message: str,
    stored_ns: int,
    subject: str,
    headers: Mapping[str, str],
    payload: bytes,
) -> Origin:
    """The origin that a worker would have read; `message` is the message's identity.

    `subject` is that of the task, or the one that its schedule leads to.
    """
    tokens = subject.split(".")
    body = None
    if not task.missing_abilities(headers):
        # What cannot be read a worker would fail, under the id that it has here.
        with contextlib.suppress(InvalidTask):
            body = task.parse_body(payload, headers)
    return Origin(
        id=task_id,
        queue=tokens[2],
        priority=tokens[3] if len(tokens) > 3 else Priority.NORMAL,
        message=message,
        submitted=datetime.fromtimestamp(stored_ns / 1e9, UTC),
        kind=(body.kind if body else None) or headers.get(subjects.KIND) or "claude",
        labels=task.labels_of(headers, payload),
        model=(body.model if body else None) or headers.get(subjects.MODEL) or None,
        title=task.title(body, headers),
        lane=tokens[4] if len(tokens) > 4 else "",
        asked=NOTHING if body is None else asked_by(payload, headers),
    )
