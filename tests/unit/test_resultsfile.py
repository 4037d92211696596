"""What a file of results is called, and what is said of those beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentflow.cli import resultsfile


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("prompts.jsonl", "prompts.results.jsonl"),
        ("a/b/rows.CSV.gz", "rows.results.jsonl"),
        ("-", "stdin.results.jsonl"),
        ("notes.v2", "notes.v2.results.jsonl"),
        ("x.pq", "x.results.jsonl"),
    ],
)
def test_the_results_are_called_as_their_input(file: str, name: str) -> None:
    assert resultsfile.of(file, None) == Path(name)
    assert resultsfile.of(file, "out.csv") == Path("out.csv")


def test_results_of_other_jobs_are_named(tmp_path: Path) -> None:
    out = tmp_path / "b.results.jsonl"
    out.touch()
    assert resultsfile.told(out) == f"results go to {out}"
    (tmp_path / "empty.results.jsonl").touch()
    (tmp_path / "a.results.jsonl").write_text("{}")
    said = resultsfile.told(out)
    assert said.endswith("; those of other jobs stay as they are: a.results.jsonl")
    for name in "cdef":
        (tmp_path / f"{name}.results.jsonl").write_text("{}")
    assert resultsfile.told(out).endswith("d.results.jsonl and 2 more")
