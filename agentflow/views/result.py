"""A task as users see it: where it stands, and what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar, cast

import msgspec

from agentflow import classes
from agentflow.errors import TaskCancelled, TaskError, TaskFailed
from agentflow.protocol.record import TERMINAL, Failure, Record, Repair, State, Timings, Usage

T = TypeVar("T")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a task, final or not.

    `text` is for people, `value` for programs, `content` what the API answered beside text.
    `attempts` counts starts. `cost_usd` is None where it is unknown, and `unpriced` says why;
    `saved_usd` is what batches saved of the price of live requests;
    `estimated`: some of its tokens are counted by what came; `partial`: `text` and `content` are of
    an answer that broke off. `repair` is what of usage and cost went into asking again for answers
    that broke their schema. `sequence` is the
    record's place in AGENTFLOW_RECORDS, 0 for a task that no worker has seen. `message` is the
    identity of the task message (`<sequence>-<stored time in ns>`). `index` is the place among the
    items of `Client.map`. `title` is how lists call the task; `by` who cancelled it, or dropped
    (`dropped`) its dead letter: it cannot be retried then.

    In a list of tasks, `text` and the error's message are their beginnings, and what a list does
    not say (`value`, `content`, `progress`, ...) has its default.
    """

    id: str
    state: str
    queue: str = ""
    priority: str = ""
    lane: str = ""
    kind: str = ""
    model: str | None = None
    labels: dict[str, str] = {}
    attempts: int = 0
    failures: int = 0
    actor: str = ""
    text: str | None = None
    truncated: bool = False
    content: Any = None
    value: Any = None
    stop_reason: str | None = None
    reason: str | None = None
    error: Failure | None = None
    usage: Usage = Usage()
    cost_usd: float | None = None
    unpriced: str | None = None
    saved_usd: float = 0.0
    estimated: bool = False
    partial: bool = False
    repair: Repair | None = None
    timings: Timings = Timings()
    resume_at: datetime | None = None
    progress: float | None = None
    note: str | None = None
    request_id: str | None = None
    simulated: bool = False
    title: str | None = None
    by: str | None = None
    dropped: bool = False
    updated: datetime | None = None
    sequence: int = 0
    message: str = ""
    index: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the task succeeded."""
        return self.state == State.SUCCEEDED

    @property
    def ended(self) -> bool:
        """Whether the task has ended."""
        return self.state in TERMINAL

    def value_as(self, type: type[T]) -> T:
        """`value` as a class of yours, else the JSON that `text` holds; `str` is also any text.

        Raises TaskError where neither is such a thing.
        """
        fault: Exception | None = None
        if self.value is not None or self.text is None:
            try:
                return classes.read(self.value, type)
            except msgspec.ValidationError as error:
                fault = error
        if self.text is not None:
            if cast(Any, type) is str:
                return cast(T, self.text)
            try:
                return classes.read_json(self.text, type)
            except (msgspec.DecodeError, RecursionError) as error:
                # Where the text is JSON at all, it is the answer, and what is wrong with it counts.
                if fault is None or isinstance(error, msgspec.ValidationError):
                    fault = error
        name = getattr(type, "__name__", str(type))
        whole = self.stop_reason in (None, "end_turn", "stop_sequence")
        why = "" if whole else f"; the answer ended by {self.stop_reason}"
        raise TaskError(
            f"the value of task {self.id} is no {name}: {fault}{why}", task_id=self.id
        ) from None

    def failure(self) -> TaskError | None:
        """The error of a task that ended without success."""
        if self.state == State.CANCELLED:
            return TaskCancelled(f"task {self.id} was cancelled", task_id=self.id)
        if self.state == State.FAILED:
            why = self.error.message if self.error else "no reason is known"
            return TaskFailed(
                f"task {self.id} failed ({self.reason or 'failed'}): {why}",
                task_id=self.id,
                reason=self.reason or "",
            )
        return None


def result_of_record(record: Record, sequence: int, index: int | None = None) -> Result:
    """The task that a record describes."""
    return Result(
        id=record.id,
        state=record.state,
        queue=record.queue,
        priority=record.priority,
        lane=record.lane,
        kind=record.kind,
        model=record.model,
        labels=record.labels,
        attempts=record.attempt,
        failures=record.failures,
        actor=record.actor,
        text=record.text,
        truncated=record.truncated,
        content=record.content,
        value=record.value,
        stop_reason=record.stop_reason,
        reason=record.reason,
        error=record.error,
        usage=record.usage,
        cost_usd=record.cost_usd,
        unpriced=record.unpriced,
        saved_usd=record.saved_usd,
        estimated=record.estimated,
        partial=record.partial,
        repair=record.repair,
        timings=record.timings,
        resume_at=record.resume_at,
        progress=record.progress,
        note=record.note,
        request_id=record.request_id,
        simulated=record.simulated,
        title=record.title,
        by=record.by,
        dropped=record.dropped,
        updated=record.time,
        sequence=sequence,
        message=record.message,
        index=index,
    )
