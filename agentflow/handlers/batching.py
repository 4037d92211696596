"""What a handler offers whose tasks can be asked in batches, and what comes of them.

The batch lane (agentflow/batches) gathers tasks, and knows nothing of the service; the service's
side is here. A create that raises `NotCreated` has made nothing; after any other failure nobody
knows, and the lane finds out by the list.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

import msgspec

from agentflow.errors import AgentFlowError
from agentflow.handlers.contract import Outcome
from agentflow.protocol.record import Failure
from agentflow.protocol.task import Task
from agentflow.rules.records import NOTHING_SPENT, Spent
from agentflow.rules.retry import Signal
from agentflow.rules.routes.prices import Cost


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as the service tells it. `count` are all its requests."""

    id: str
    status: str
    ended: bool
    count: int
    created: datetime
    expires: datetime | None = None
    ended_at: datetime | None = None


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The batches of a workspace, newest first, and what the service's clock said."""

    batches: list[Batch]
    workspace: str
    at: datetime


class Ended(StrEnum):
    """How a request ended in its batch."""

    SUCCEEDED = "succeeded"
    ERRORED = "errored"
    CANCELED = "canceled"
    EXPIRED = "expired"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request. `signal` and `failure` where it has no outcome to keep."""

    custom_id: str
    ended: Ended
    outcome: Outcome | None = None
    spent: Spent = NOTHING_SPENT
    failure: Failure | None = None
    signal: Signal | None = None


class NotCreated(AgentFlowError):
    """The service refused a create, and nothing was made.

    `request` is the number of the one request at fault, where the service names it.
    """

    def __init__(
        self, failure: Failure, *, retry_after: float | None = None, request: int | None = None
    ) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.retry_after = retry_after
        self.request = request


class Unreached(AgentFlowError):
    """The service did not answer, or not as it should: what was asked may have been done."""


class Refused(Unreached):
    """The service does not let this credential ask."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Gone(AgentFlowError):
    """There is no such batch, as the service says now."""


class Batching(Protocol):
    """The batches of one credential. All raise Unreached where the service does not answer, and
    Refused where it does not let this credential ask."""

    async def listed(self, since: datetime | None = None) -> Listing:
        """All made since then; without `since` the newest page."""

    async def create(self, size: int, body: AsyncIterable[bytes]) -> Batch:
        """Send a body of `size` bytes, once. Raises NotCreated, and what `body` raises."""

    async def get(self, batch_id: str) -> Batch:
        """One batch. Raises Gone."""

    async def cancel(self, batch_id: str) -> Batch:
        """Begin to cancel; one that has ended is left as it is. Raises Gone."""

    def results(self, batch_id: str) -> AsyncGenerator[Answer]:
        """The outcomes, as they come. Raises Gone; Unreached where they break off."""


@runtime_checkable
class Batched(Protocol):
    """A handler whose tasks may be asked in batches."""

    pool: str
    """The credential, as others know it: what waits by it is gathered by whoever has it."""

    def batch_request(self, task: Task, said: Outcome | None = None) -> bytes:
        """The request of a task, as JSON. Raises InvalidTask where it can be in no batch.

        `said` is an answer that broke the task's schema, and is to be shown its fault.
        """

    def batch_most(self, task: Task, said: Outcome | None = None) -> Cost:
        """The most that this request may cost. Raises InvalidTask."""

    def batch_answer(self, task: Task, answer: Answer) -> Answer:
        """An answer as the task wants it: with its value, or with what is wrong with it."""

    def batching(self) -> Batching:
        """The batches of its credential."""
