"""What stands in a job's input beside its tasks: columns and custom ids, which no log has.

They are read from the input again, where it still is what the job has read. A result is joined to
its row by the line, which its task has as a label.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import msgspec

from agentflow.errors import UsageError
from agentflow.job.formats.entry import Entry
from agentflow.job.formats.kinds import BY_NAME
from agentflow.job.formats.opening import InputFile
from agentflow.job.formats.template import Template
from agentflow.job.source import beside
from agentflow.protocol.jobs import Input
from agentflow.views.ledger import Line


class Beside:
    """The rows of an input as they stand beside results; `lack` says why there are none."""

    def __init__(self, origin: Input | None) -> None:
        self._origin = origin
        self._file: InputFile | None = None
        self.lack = ""
        if origin is None:
            return
        if not origin.path:
            self.lack = "the input cannot be read again"
            return
        try:
            self._file = InputFile(origin.path, BytesIO())
        except UsageError as error:
            self.lack = str(error)
            return
        if self._file.seen[1:] != (origin.size, origin.changed):
            self.lack = f"{origin.path} has changed since"

    def joined(self, lines: Iterator[Line]) -> Iterator[Line]:
        """The results, in input order, with what stands beside them. Raises UsageError."""
        if self._file is None or self._origin is None or self.lack:
            yield from lines
            return
        with self._file.open() as stream:
            origin = self._origin
            template = None if origin.template is None else Template(origin.template)
            rows = BY_NAME[origin.format].read(stream, self._file.name, template)
            row: Entry | None = next(rows, None)
            for line in lines:
                while row is not None and row.line < line.line:
                    row = next(rows, None)
                if row is None or row.line != line.line:
                    yield line
                    continue
                carried = beside(row, origin.carry)
                yield msgspec.structs.replace(line, input=carried, custom_id=row.custom_id)
