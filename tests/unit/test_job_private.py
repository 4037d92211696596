"""Answers on disk are their owner's: results, tables, and what is written on the way."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentflow.job import outputs, private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def everybody_reads() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_what_is_made_is_nobody_elses_and_what_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with open(path, "a+b", opener=private.opener) as file:
        file.write(b"x")
        assert mode(path) == 0o600
    path.chmod(0o644)
    with open(path, "a+b", opener=private.opener):
        assert mode(path) == 0o644


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl"])
def test_tables_are_nobody_elses(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow") if name.endswith("parquet") else None
    path = tmp_path / name
    path.with_name(name + ".part").touch(0o666)  # of a run that was killed
    outputs.write(path, lambda: iter(()))
    assert mode(path) == 0o600
    path.chmod(0o640)
    outputs.write(path, lambda: iter(()))
    assert mode(path) == 0o640
