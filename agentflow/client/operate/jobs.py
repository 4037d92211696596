"""The jobs that a server knows: keys of its bucket. Needs no master."""

from __future__ import annotations

from typing import Final

from agentflow.bus.streams.bucket import read_all, value_of
from agentflow.client.session import Session
from agentflow.errors import AmbiguousId, NoStream, NotFound, UsageError
from agentflow.protocol import headers as blocks
from agentflow.protocol import jobs, subjects
from agentflow.protocol.jobs import Job

_TTL: Final = str(jobs.KEPT)


class Jobs:
    """Reads and writes them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def all(self) -> list[Job]:
        """Every job, the latest first. Raises BusError."""
        found: dict[str, Job] = {}
        try:
            async for key, _, value in read_all(self._session.js):
                if key.startswith(jobs.PREFIX) and (job := jobs.decode(value)) is not None:
                    found[key] = job
        except NoStream:
            try:
                await self._session.js.stream_info(subjects.KV_STREAM)
            except NotFound:
                return []  # a server that nobody has used
            raise
        return sorted(found.values(), key=lambda job: job.started, reverse=True)

    async def get(self, job: str) -> Job | None:
        """The job of this id. Raises BusError."""
        subject = subjects.kv(jobs.key(jobs.check_id(job)))
        return jobs.decode(value_of(await self._session.js.last(subjects.KV_STREAM, subject)))

    async def find(self, named: str) -> Job:
        """The job of this id, or whose id begins so. Raises UsageError, AmbiguousId, BusError."""
        known = [job for job in await self.all() if job.id.startswith(named)]
        exact = [job for job in known if job.id == named]
        if len(known) > 1 and not exact:
            names = ", ".join(job.id for job in known[:5])
            raise AmbiguousId(f"{len(known)} jobs have an id that begins so: {names}")
        if not known:
            raise UsageError(f"there is no job {named[:80]!r}; `agentflow jobs` lists them")
        return (exact or known)[0]

    async def keep(self, job: Job) -> None:
        """Write what is known of a job; of two who drive it the later one counts. Raises
        BusError."""
        block = blocks.encode({"Nats-TTL": _TTL})
        await self._session.js.store(subjects.kv(jobs.key(job.id)), jobs.encode(job), block)
