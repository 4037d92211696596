"""Parquet, by pyarrow, which is an extra: pip install 'agentflow-nats[parquet]'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from agentflow.errors import UsageError
from agentflow.job.formats.entry import Entry
from agentflow.job.formats.table import header_names, row_of_columns
from agentflow.job.formats.template import Template

_BATCH: Final = 1024
"""Rows in memory at once."""


def pyarrow_parquet() -> Any:
    """The module. Raises UsageError that names the extra."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow: pip install 'agentflow-nats[parquet]', or give a CSV"
        ) from None
    return pyarrow.parquet


def rows(stream: BinaryIO, name: str, template: Template | None) -> Iterator[Entry]:
    """The rows, from 1. Raises UsageError."""
    parquet = pyarrow_parquet()
    import pyarrow

    number = 0
    try:
        file = parquet.ParquetFile(stream)
        header_names(file.schema_arrow.names, name, template)
        for batch in file.iter_batches(batch_size=_BATCH):
            for columns in batch.to_pylist():
                number += 1
                yield row_of_columns(number, columns, template)
    except pyarrow.ArrowException as error:
        raise UsageError(f"{name} is damaged Parquet: {error}") from None
