"""A job as lists and dashboards show it: a typed row, and how it comes from the bucket. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from agentflow.protocol.jobs import Job

RUNNING: Final = "running"
WAITING: Final = "waiting"
LOST: Final = "lost"
"""It was killed: it has not ended, and nobody drives it."""


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job now. `state` is one of the above, or how it ended."""

    id: str
    state: str
    file: str
    results: str
    queue: str
    lines: int
    done: int
    failed: int
    running: int
    cost_usd: float | None
    waiting: str
    who: str
    started: datetime
    updated: datetime
    ended: datetime | None
    simulated: bool

    @property
    def progress(self) -> float:
        """How far it is, 0 to 1."""
        return self.done / self.lines if self.lines else 1.0


def row_of_job(job: Job, now: datetime) -> JobRow:
    """The row of a job."""
    state = job.ending or (WAITING if job.waiting else RUNNING)
    if job.ended is None and not job.driven(now):
        state = LOST
    return JobRow(
        id=job.id,
        state=state,
        file=job.file,
        results=job.results,
        queue=job.queue,
        lines=job.lines,
        done=job.done,
        failed=job.failed,
        running=job.running if state != LOST else 0,
        cost_usd=job.cost_usd,
        waiting=job.waiting,
        who=job.who,
        started=job.started,
        updated=job.seen,
        ended=job.ended,
        simulated=job.simulated,
    )
