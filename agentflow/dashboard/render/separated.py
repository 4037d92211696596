"""Rows as separated values, for a spreadsheet or a shell."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def separated(rows: Iterable[Sequence[object]], delimiter: str = ",") -> str:
    """A line a row."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return out.getvalue()
