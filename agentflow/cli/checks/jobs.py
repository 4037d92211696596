"""What `doctor` says of jobs: those that were killed and have not been run again."""

from __future__ import annotations

from agentflow.bus.streams.bucket import read_all
from agentflow.bus.streams.jetstream import JetStream
from agentflow.cli.checks.check import Check, Status
from agentflow.errors import BusError
from agentflow.protocol import jobs

_SHOWN = 5


async def abandoned(js: JetStream) -> Check:
    """Whether every job has ended or is driven."""
    left = []
    try:
        async for key, _, value in read_all(js):
            job = jobs.decode(value) if key.startswith(jobs.PREFIX) else None
            if job is not None and job.ended is None and not job.driven(js.now()):
                left.append(job)
    except BusError as error:
        return Check("jobs", Status.UNKNOWN, f"they cannot be read: {error}")
    if not left:
        return Check("jobs", Status.OK, "none was broken off without a word")
    names = ", ".join(f"{job.id} ({job.left:,} of {job.lines:,} left)" for job in left[:_SHOWN])
    more = ", ..." if len(left) > _SHOWN else ""
    return Check(
        "jobs",
        Status.WARN,
        f"broken off, and nobody goes on with them: {names}{more}",
        f"the same `agentflow run`, or agentflow withdraw {left[0].id}",
    )
