"""The results of a job as the log has them, in the order of its input.

The log has the tasks with the job's label; which line each is, another label says. What stands in
the input beside a task (columns, a custom_id) comes from there (beside.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Final

from agentflow.bus.streams.pages import page, sequence_of
from agentflow.client import Client
from agentflow.errors import NotFound
from agentflow.protocol import jobs, subjects
from agentflow.protocol.jobs import Job
from agentflow.protocol.record import Record, decode
from agentflow.rules import withdrawal
from agentflow.views.ledger import Line, decode_line, encode_line, line_of

_TAKE: Final = re.compile(r"([0-9a-f]{24}-.+)-r(\d{1,6})")
"""The id of a line that was asked anew, as job/source.py makes it."""


class Recovered:
    """The lines of a job's results; they lie in a file that is open for writing and reading."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        # By line of the input, else by id, as a line may have been asked for more than once.
        self._places: dict[int | str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    async def read(self, client: Client, job: Job) -> None:
        """Read the log. Raises BusError."""
        try:
            state = (await client.js.stream_info(subjects.RECORDS))["state"]
        except NotFound:
            return
        first, last = int(state["first_seq"]), int(state["last_seq"])
        while first <= last:
            messages, more = await page(
                client.connection, subjects.RECORDS, first, filter="agentflow.results.>"
            )
            for message in messages:
                first = sequence_of(message)
                record = decode(message.data)
                if record.labels.get(jobs.LABEL) == job.id:
                    self._take(record, job)
            if not more or not messages:
                return
            first += 1

    def lines(self) -> Iterator[Line]:
        """In the order of the input."""
        for _, place in sorted(self._places.values()):
            self._file.seek(place)
            line = decode_line(self._file.readline())
            assert line is not None
            yield line

    def _take(self, record: Record, job: Job) -> None:
        if record.reason == withdrawal.REASON:
            return  # it has no result, and goes on
        text = record.labels.get(jobs.LINE, "")
        number = int(text) if text.isascii() and text.isdigit() else 0
        taken = _TAKE.fullmatch(record.id)
        line = line_of(
            record,
            line=number,
            request=None,
            simulate=job.simulated,
            id=taken[1] if taken else None,
            take=int(taken[2]) if taken else 1,
        )
        place = self._file.seek(0, 2)
        self._file.write(encode_line(line) + b"\n")
        self._places[number or record.id] = (number, place)
