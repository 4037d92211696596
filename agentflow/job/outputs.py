"""The results as a table: CSV, or Parquet by pyarrow. Written whole at the end of a run."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from agentflow.errors import ResultsLost, UsageError
from agentflow.job import private
from agentflow.job.formats.parquet import pyarrow_parquet
from agentflow.protocol.record import Usage
from agentflow.views.ledger import Line, encode_line

CSV: Final = ".csv"
PARQUET: Final = ".parquet"
_ROWS: Final = 1000
"""Rows of a Parquet group: in memory at once."""

_TEXTS: Final = ("id", "custom_id", "state", "text", "model", "stop_reason", "reason")
_NUMBERS: Final = ("cost_usd", "latency_s")
_USAGE: Final = tuple(field.name for field in msgspec.structs.fields(Usage))
COLUMNS: Final = (
    *("line", "id", "custom_id", "state", "text", "value", "model", "stop_reason", "reason"),
    *("error", "attempts", "latency_s", "cost_usd", "request_id", "kind", *_USAGE),
)
"""Of every table; the input's columns follow."""


def is_table(path: Path) -> bool:
    """Whether the name asks for a table. Raises UsageError where it cannot be made here."""
    suffix = path.suffix.lower()
    if suffix == PARQUET:
        pyarrow_parquet()
    return suffix in (CSV, PARQUET)


def write(path: Path, results: Callable[[], Iterator[Line]], format: str = "") -> None:
    """Write the results at once, or leave what is there. `results` begins anew with each call.

    `format` is csv, parquet or jsonl; without one the name says which table it is.
    """
    format = format or path.suffix.lower().lstrip(".")
    columns = {name: name for line in results() for name in line.input}
    for name in columns:
        if name in COLUMNS:
            columns[name] = f"input.{name}"
    rows = ({**row(line), **_input(line, columns)} for line in results())
    part = path.with_name(path.name + ".part")
    try:
        private.prepare(part, path)
        if format == "parquet":
            _write_parquet(part, rows, columns, results)
        elif format == "jsonl":
            _write_lines(part, results())
        else:
            _write_csv(part, rows, [*COLUMNS, *columns.values()])
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ResultsLost(
            f"cannot write {path}: {error.strerror or error}. The results are in {path}.jsonl"
        ) from None


def row(line: Line) -> dict[str, Any]:
    """A result as the cells of COLUMNS; what is no text or number is JSON."""
    cells = {name: getattr(line, name, None) for name in COLUMNS if name not in _USAGE}
    cells |= msgspec.structs.asdict(line.usage)
    cells["value"] = None if line.value is None else _json(line.value)
    cells["error"] = line.error.message if line.error else None
    return cells


def _input(line: Line, columns: dict[str, str]) -> dict[str, Any]:
    return {shown: line.input.get(name) for name, shown in columns.items()}


def _cell(value: Any) -> Any:
    return _json(value) if isinstance(value, dict | list | bool) else value


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _write_lines(path: Path, results: Iterator[Line]) -> None:
    with path.open("wb") as file:
        file.writelines(encode_line(line) + b"\n" for line in results)


def _write_csv(path: Path, rows: Iterable[dict[str, Any]], columns: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for cells in rows:
            writer.writerow([_cell(cells.get(name)) for name in columns])


def _write_parquet(
    path: Path,
    rows: Iterator[dict[str, Any]],
    columns: dict[str, str],
    results: Callable[[], Iterator[Line]],
) -> None:
    parquet = pyarrow_parquet()
    import pyarrow

    def kind_of(name: str) -> Any:
        if name in _NUMBERS:
            return pyarrow.float64()
        if name in ("line", "attempts") or name in _USAGE:
            return pyarrow.int64()
        return pyarrow.string()

    types = {shown: _types(results(), name) for name, shown in columns.items()}
    numbers = {frozenset({int}): pyarrow.int64(), frozenset({bool}): pyarrow.bool_()}
    numbers |= {frozenset(kinds): pyarrow.float64() for kinds in ({float}, {int, float})}
    fields = [(name, kind_of(name)) for name in COLUMNS]
    fields += [(name, numbers.get(kinds, pyarrow.string())) for name, kinds in types.items()]
    schema = pyarrow.schema(fields)
    texts = [name for name, kinds in types.items() if kinds not in numbers]
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, _ROWS)):
            for cells in group:
                for name in texts:
                    value = cells[name]
                    cells[name] = value if value is None or isinstance(value, str) else _json(value)
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def _types(results: Iterator[Line], name: str) -> frozenset[type]:
    """The types that a column of the input holds."""
    values = (line.input.get(name) for line in results)
    return frozenset(type(value) for value in values if value is not None)


def journal_of(out: Path) -> Path:
    """The job's memory beside its table. Raises UsageError where the table is somebody else's."""
    journal = out.with_name(out.name + ".jsonl")
    if out.exists() and not journal.exists():
        raise UsageError(
            f"{out} is there and not of this job ({journal.name} would be beside it); "
            "name another file with -o"
        )
    return journal
