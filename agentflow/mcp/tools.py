"""The tools: what an agent may ask, and do. Each answers with plain data, or AgentFlowError.

Texts may be long, and an agent pays for what it reads: lists have no texts, and a result is cut.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from agentflow.client import Client
from agentflow.errors import UsageError
from agentflow.protocol.record import State
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import TaskBody
from agentflow.views.api import task_json
from agentflow.views.result import Result

TEXT_MOST: Final = 20_000
"""Characters of a text that are told."""
LISTED_MOST: Final = 200
WAIT_MOST: Final = 600.0

Json = dict[str, Any]


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def _told(result: Result) -> Json:
    """A result for somebody who pays for each word."""
    told: Json = {
        name: value
        for name, value in _plain(result).items()
        if value not in (None, "", {}, [], False, 0) or name == "cost_usd"
    }
    if (text := result.text) is not None and len(text) > TEXT_MOST:
        told["text"] = text[:TEXT_MOST]
        told["cut"] = f"of {len(text):,} characters"
    return told


class Looking:
    """What changes nothing."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def list_tasks(
        self, state: str = "", queue: str = "", label: str = "", limit: int = 20
    ) -> Json:
        """Tasks, newest first, without their texts. `label` is name=value; needs a master."""
        name, equals, value = label.partition("=")
        if label and not equals:
            raise UsageError("label is of the form name=value")
        if state and state not in set(State):
            raise UsageError(f"state is one of {', '.join(State)}")
        found = await self._client.list(
            state=state or None,
            queue=queue or None,
            label={name: value} if label else None,
            limit=max(1, min(limit, LISTED_MOST)),
        )
        return {"tasks": [_plain(task_json(task)) for task in found]}

    async def read_task(self, id: str) -> Json:
        """A task as it is now: its state, and once it has ended its text, cost or error."""
        return _told(await self._client.get(id))

    async def wait_for_task(self, id: str, seconds: float = 60.0) -> Json:
        """Wait until a task has ended, so many seconds at most; then as read_task."""
        handle = self._client.task(id)
        timeout = max(0.0, min(seconds, WAIT_MOST))
        return _told(await handle.result(timeout, raise_on_failure=False))

    async def history(self, id: str) -> Json:
        """What happened to a task: its records in order, without their texts."""
        log = await self._client.history.log(id)
        steps = [
            {
                "sequence": sequence,
                "state": record.state,
                "attempt": record.attempt,
                "time": record.time.isoformat(),
                "reason": record.reason,
                "note": record.note,
                "error": _plain(record.error),
            }
            for sequence, record in log
        ]
        return {"id": id, "records": steps}

    async def why(self, id: str) -> Json:
        """Why a task waits, or where it stands."""
        told: Json = _plain(await self._client.why(id))
        return told

    async def stats(self) -> Json:
        """Queues, states, tokens and cost of the whole; needs a master."""
        told: Json = _plain(await self._client.stats())
        return told

    async def workers(self) -> Json:
        """The workers, lost ones too; needs a master."""
        return {"workers": _plain(await self._client.workers())}

    async def limits(self) -> Json:
        """Rate limits: what is used, and who waits for them."""
        return {"routes": _plain(await self._client.limits())}

    async def failures(self) -> Json:
        """Dead letters by cause, the most frequent first."""
        groups = _plain(await self._client.dead.groups())
        return {"groups": groups[:LISTED_MOST]}

    async def pauses(self) -> Json:
        """What is paused or closed now."""
        return {"pauses": _plain(await self._client.pauses())}


class Acting:
    """What changes something, or costs money."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def submit_task(
        self,
        prompt: str,
        queue: str = "default",
        priority: str = "normal",
        kind: str = "claude",
        model: str = "",
        system: str = "",
        id: str = "",
        labels: dict[str, str] | None = None,
    ) -> Json:
        """Put a task into a queue; it costs what its answer costs. The same id runs once."""
        if priority not in set(Priority):
            raise UsageError(f"priority is one of {', '.join(Priority)}")
        body = TaskBody(
            prompt=prompt,
            kind=kind,
            model=model or None,
            system=system or None,
            labels=labels or None,
        )
        handle = await self._client.submit_body(
            body, queue=queue, priority=priority, id=id or None, wait_full=False
        )
        return {"id": handle.id, "queue": queue, "sequence": handle.message_sequence}

    async def cancel_task(self, id: str) -> Json:
        """End a task that has not ended."""
        return _told(await self._client.cancel(id))

    async def retry_task(self, id: str) -> Json:
        """Run a failed task again: a new call, and paid as one."""
        handle = await self._client.retry(id)
        return {"id": handle.id, "newer_than": handle.newer_than}

    async def pause_queue(self, queue: str, reason: str = "operator") -> Json:
        """Let no task of a queue start; what runs goes on."""
        told: Json = _plain(await self._client.pause(queue, reason=reason))
        return told

    async def resume_queue(self, queue: str) -> Json:
        """Let a paused queue go on."""
        return {"lifted": _plain(await self._client.resume(queue))}
