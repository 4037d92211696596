"""csv and tsv: rows of cells under a header.

Without a template the columns named as fields of a task are these fields, and the others are
carried along; with one every column is data.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, Final

import msgspec

from agentflow.errors import InvalidTask, UsageError
from agentflow.job.formats.entry import Entry, body_of
from agentflow.job.formats.template import Template
from agentflow.protocol import limits
from agentflow.protocol.task import FIELDS, TaskBody, check_body

DELIMITERS: Final = ",;\t|"
_TYPED: Final = frozenset(
    {"max_tokens", "timeout", "max_attempts", "start_within", "params", "labels"}
)
"""Fields that are no text: their cells hold JSON."""
_COLUMNS: Final = frozenset(FIELDS) - {"schema", "repair"}
"""Fields that a cell may give: a schema is for all rows, and tables have columns called so."""


def delimiter_of(header: str) -> str:
    """What separates the names in a header: the most frequent one outside of quotes."""
    outside = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=outside.count)


def rows(
    stream: BinaryIO, name: str, template: Template | None, *, delimiter: str | None = None
) -> Iterator[Entry]:
    """The rows, numbered by the line they begin in. Raises UsageError for a useless header."""
    csv.field_size_limit(2 * limits.PAYLOAD_BYTES)
    lines = _Lines(stream, name)
    first = lines.peek()
    if not first:
        return
    if first.lower().startswith("sep=") and len(first.strip()) == 5:  # as Excel writes it
        delimiter = first.strip()[4]
        next(lines)
        first = lines.peek()
    reader = csv.reader(lines, delimiter=delimiter or delimiter_of(first), strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise UsageError(f"{name}: the header cannot be read: {error}") from None
    names = header_names(header, name, template)
    while True:
        line = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            why = "a carriage return outside of quotes" if "new-line" in str(error) else error
            yield Entry(line, problem=f"the row cannot be read: {why}")
            return  # where the next one begins is not known
        if cells and any(cell.strip() for cell in cells):
            yield _row(line, names, cells, template)


tabs: Final = partial(rows, delimiter="\t")


def header_names(header: Sequence[str], name: str, template: Template | None) -> list[str]:
    """The columns. Raises UsageError where they cannot make a prompt."""
    names = [cell.strip() or f"column {at}" for at, cell in enumerate(header, 1)]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise UsageError(f"{name}: two columns are called {twice!r}")
    if template is not None:
        template.check(names)
    elif not {"prompt", "params"} & set(names):
        shown = ", ".join(names[:20]) or "none"
        raise UsageError(
            f"{name}: no column is called prompt; the columns are {shown}. Say what to ask: "
            f"--prompt 'Summarise {{{names[-1] if names else 'text'}}}'"
        )
    return names


def row_of_columns(line: int, columns: dict[str, Any], template: Template | None) -> Entry:
    """A row of named values, texts or typed ones."""
    try:
        if template is not None:
            body = check_body(TaskBody(prompt=template.fill(columns)))
            return Entry(line, body, columns, template.columns)
        fields = {
            name: _field(name, value)
            for name, value in columns.items()
            if name in _COLUMNS and value is not None and value != ""
        }
        others = {name: value for name, value in columns.items() if name not in _COLUMNS}
        return Entry(line, body_of(fields), others)
    except InvalidTask as error:
        return Entry(line, problem=str(error))


def _row(line: int, names: list[str], cells: list[str], template: Template | None) -> Entry:
    if len(cells) != len(names):
        return Entry(line, problem=f"the row has {len(cells)} cells, the header {len(names)}")
    columns = dict(zip(names, cells, strict=True))
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return Entry(line, problem="this is not UTF-8 text")
    return row_of_columns(line, columns, template)


def _field(name: str, value: Any) -> Any:
    if name not in _TYPED or not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return value  # the field's own check says what it should be


class _Lines:
    """Lines as csv wants them, counted; what is no UTF-8 is found again in its cell."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.number = 0
        self._stream = stream
        self._name = name
        self._first: str | None = None

    def peek(self) -> str:
        """The line that comes next."""
        self._first = self._read()
        return self._first

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, self._first = (self._read() if self._first is None else self._first), None
        if not line:
            raise StopIteration
        self.number += 1
        return line

    def _read(self) -> str:
        raw = self._stream.readline(2 * limits.PAYLOAD_BYTES)
        if b"\0" in raw:
            raise UsageError(
                f"{self._name}: line {self.number + 1} holds NUL bytes; this is no text"
            )
        return raw.decode("utf-8", "surrogateescape")
