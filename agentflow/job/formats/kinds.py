"""The formats, and which of them a file is: what it holds decides, then what it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import BinaryIO, Final

import msgspec

from agentflow.errors import UsageError
from agentflow.job.formats import array, lines, parquet, table
from agentflow.job.formats.entry import Entry
from agentflow.job.formats.opening import InputFile
from agentflow.job.formats.template import Template

Reader = Callable[[BinaryIO, str, Template | None], Iterator[Entry]]


class Format(msgspec.Struct, frozen=True):
    """A format: what it is called, how it is read, and what a row of it is called."""

    name: str
    title: str
    suffixes: tuple[str, ...]
    unit: str
    read: Reader


FORMATS: Final = (
    Format("jsonl", "JSON lines", (".jsonl", ".ndjson"), "line", lines.objects),
    Format("json", "a JSON array", (".json",), "element", array.elements),
    Format("txt", "text, a prompt a line", (".txt",), "line", lines.texts),
    Format("csv", "CSV", (".csv",), "line", table.rows),
    Format("tsv", "tab-separated values", (".tsv", ".tab"), "line", table.tabs),
    Format("parquet", "Parquet", (".parquet", ".pq"), "row", parquet.rows),
    Format("mixed", "lines, each a JSON object or a prompt", (), "line", lines.either),
)
BY_NAME: Final = {format.name: format for format in FORMATS}
_BY_SUFFIX: Final = {suffix: format for format in FORMATS for suffix in format.suffixes}


def suffix_of(name: str) -> str:
    """How a name ends, `.gz` aside."""
    path = PurePath(name.lower())
    return PurePath(path.stem).suffix if path.suffix == ".gz" else path.suffix


def format_of(file: InputFile, name: str, *, template: bool) -> Format:
    """The format of a file called `name`. Raises UsageError where it cannot be told."""
    if file.parquet:
        return BY_NAME["parquet"]
    named = _BY_SUFFIX.get(suffix_of(name))
    if named is not None and named.name == "parquet":
        raise UsageError(f"{file.name} is called Parquet and is none; say what it is: --format")
    start = file.head.lstrip()
    if named is not None and named.name not in ("jsonl", "json"):
        return named  # a text or a cell may begin with any character
    if start.startswith(b"["):
        return BY_NAME["json"]
    if start.startswith(b"{"):
        _refuse_spread(file, start)
        return BY_NAME["mixed" if name == "-" and not template else "jsonl"]
    if named is not None:
        return BY_NAME["jsonl"]
    return _of_text(file, name, start, template=template)


def _refuse_spread(file: InputFile, start: bytes) -> None:
    """Refuse an object over many lines as what it is, instead of each of its lines."""
    line, end, _ = start.partition(b"\n")
    first = line.strip()
    if not end:
        return  # the line is longer than what was looked at
    if first != b"{" and (first.endswith(b"},") or not first.endswith((b"{", b"[", b","))):
        return
    raise UsageError(
        f"{file.name}: an object begins in its first line and goes on in the next; "
        "write one object a line, or an array of them"
    )


def table_of(start: bytes, *, template: bool) -> Format | None:
    """The format of a text that begins with a header, None for one that does not."""
    header = start.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    delimiter = table.delimiter_of(header)
    cells = [cell.strip().strip('"') for cell in header.split(delimiter)]
    if len(cells) > 1 and ("prompt" in cells or template):
        return BY_NAME["tsv" if delimiter == "\t" else "csv"]
    return None


def _of_text(file: InputFile, name: str, start: bytes, *, template: bool) -> Format:
    """The format of a text whose name says nothing."""
    if found := table_of(start, template=template):
        return found
    if name == "-" or not start:
        return BY_NAME["mixed"]
    raise UsageError(
        f"{file.name}: neither its content nor its name says what it is; "
        f"say it: --format {'|'.join(format.name for format in FORMATS)}"
    )
