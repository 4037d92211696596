"""Whose results a file holds, its order, its loss; and the tables made of it."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from agentflow.errors import ResultsLost, UsageError
from agentflow.job import outputs, ownership
from agentflow.job.defaults import Defaults
from agentflow.job.ledger import Ledger
from agentflow.job.source import Reading, Source
from agentflow.job.spec import JobSpec
from agentflow.protocol.record import Failure, Record, Timings, Usage
from agentflow.views.ledger import encode_line, line_of
from tests.unit.test_job_results import NOW


def source(*tasks: dict[str, Any], **defaults: Any) -> Source:
    data = "".join(json.dumps(task) + "\n" for task in tasks)
    return Source("-", io.BytesIO(data.encode()), Reading(defaults=Defaults(**defaults)))


def record(task_id: str, **fields: Any) -> Record:
    given: dict[str, Any] = {
        "v": 1,
        "id": task_id,
        "state": "succeeded",
        "attempt": 1,
        "failures": 0,
        "actor": "w",
        "follows": 1,
        "message": "1-1",
        "time": NOW,
        "queue": "default",
        "priority": "normal",
        "kind": "claude",
        "labels": {},
        "usage": Usage(10, 20),
        "cost_usd": 0.5,
        "timings": Timings(submitted=NOW, ended=NOW),
        "text": f"answer of {task_id}",
        "model": "claude-haiku-5-5",
    }
    return Record(**{**given, **fields})


def answered(path: Path, tasks: Source, *, backwards: bool = True, **fields: Any) -> None:
    """A file of results of these tasks, the last first."""
    book = Ledger(path, simulate=False)
    book.open()
    items = list(tasks)
    for item in reversed(items) if backwards else items:
        book.append(
            line_of(
                record(item.id, **fields),
                line=item.line,
                request=item.request,
                simulate=False,
                carried=item.carried,
            )
        )
    book.close()


def check(path: Path, tasks: Source, *, append: bool = False) -> None:
    book = Ledger(path, simulate=False)
    book.open()
    try:
        ownership.check(book, tasks, JobSpec(id="job", results=path, append=append))
    finally:
        book.close()


def compacted(path: Path, tasks: Source, *, others: bool = False) -> list[dict[str, Any]]:
    book = Ledger(path, simulate=False)
    book.open()
    book.compact(tasks, others=others)
    assert [line.id for line in book.lines()] == [
        json.loads(line)["id"] for line in path.read_bytes().splitlines()
    ]
    book.close()
    return [json.loads(line) for line in path.read_bytes().splitlines()]


A, B, C = {"prompt": "A"}, {"prompt": "B"}, {"prompt": "C"}


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "a.results.jsonl"


class TestOwnership:
    def test_more_lines_and_moved_ones_are_still_the_same_job(self, path: Path) -> None:
        answered(path, source(A, B))
        check(path, source(C, B, A))

    @pytest.mark.parametrize(
        ("now", "said"),
        [
            ((A,), "line 2, task .*: the input has no such line"),
            ((A, C), "line 2, task .*: its text, model or parameters have changed since"),
            (
                (A, {**B, "model": "claude-opus-5-5"}),
                "line 2, task .*: of model claude-haiku-5-5, now claude-opus-5-5 is asked",
            ),
        ],
    )
    def test_results_of_other_requests_are_named_and_refused(
        self, path: Path, now: tuple[dict[str, Any], ...], said: str
    ) -> None:
        answered(path, source(A, B))
        written = path.read_bytes()
        with pytest.raises(UsageError, match=said) as caught:
            check(path, source(*now))
        assert "holds 1 result of other requests" in str(caught.value)
        assert "--append" in str(caught.value)
        assert path.read_bytes() == written
        check(path, source(*now), append=True)

    def test_a_default_that_changes_is_another_request(self, path: Path) -> None:
        answered(path, source(A, B))
        for changed in ({"model": "claude-opus-5-5"}, {"system": "S"}, {"temperature": 0.5}):
            with pytest.raises(UsageError, match="holds 2 results of other requests"):
                check(path, source(A, B, **changed))
        check(path, source(A, B, max_attempts=2))

    def test_one_id_with_two_requests_cannot_be_in_one_file(self, path: Path) -> None:
        answered(path, source({**A, "id": "1"}, {**B, "id": "2"}))
        for append in (False, True):
            with pytest.raises(UsageError, match=r"under the same ids:\n  line 1, task 1: its "):
                check(path, source({**C, "id": "1"}, {**B, "id": "2"}), append=append)


class TestOrder:
    def test_one_line_a_task_in_input_order(self, path: Path) -> None:
        tasks = source(A, B, C)
        answered(path, tasks, state="failed", error=Failure("api_error", "no"))
        answered(path, tasks)
        assert len(path.read_bytes().splitlines()) == 6
        path.chmod(0o640)

        lines = compacted(path, tasks)
        assert [(line["line"], line["state"]) for line in lines] == [
            (1, "succeeded"),
            (2, "succeeded"),
            (3, "succeeded"),
        ]
        assert path.stat().st_mode & 0o777 == 0o640
        assert os.listdir(path.parent) == [path.name]

    def test_a_file_in_order_is_left_alone(self, path: Path) -> None:
        tasks = source(A, B)
        answered(path, tasks, backwards=False)
        before = path.stat()
        compacted(path, tasks)
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_what_does_not_count_is_gone(self, path: Path) -> None:
        tasks = source(A)
        answered(path, tasks)
        whole = path.read_bytes()
        simulated = line_of(record("s", simulated=True), line=1, request=None, simulate=True)
        path.write_bytes(whole + encode_line(simulated) + b"\n")
        compacted(path, tasks)
        assert path.read_bytes() == whole

    def test_a_line_that_has_moved_gets_its_number(self, path: Path) -> None:
        answered(path, source(A, B))
        lines = compacted(path, source(C, A, B))
        assert [line["line"] for line in lines] == [2, 3]

    def test_those_of_other_jobs_stay_before_it(self, path: Path) -> None:
        answered(path, source(C, B), backwards=False)
        answered(path, source(A))
        texts = [line["id"] for line in compacted(path, source(A), others=True)]
        assert texts == [item.id for item in source(C, B, A)]

    def test_it_goes_on_with_the_new_file(self, path: Path) -> None:
        tasks = source(A, B)
        answered(path, tasks)
        book, other = Ledger(path, simulate=False), Ledger(path, simulate=False)
        book.open()
        book.compact(tasks, others=False)
        with pytest.raises(UsageError, match="is being written by another run"):
            other.open()
        book.append(line_of(record("more"), line=3, request=None, simulate=False))
        assert book.get("more") is not None
        book.close()
        assert len(path.read_bytes().splitlines()) == 3

    def test_a_link_to_it_stays_one(self, path: Path) -> None:
        target = path.with_name("elsewhere.jsonl")
        target.touch()
        path.symlink_to(target)
        tasks = source(A, B)
        answered(path, tasks)
        assert [line["line"] for line in compacted(path, tasks)] == [1, 2]
        assert path.is_symlink()


class TestNothing:
    def test_a_file_that_nothing_came_into_is_not_left_behind(self, path: Path) -> None:
        book = Ledger(path, simulate=False)
        book.open()
        assert path.exists()
        book.close()
        assert not path.exists()
        path.touch()  # somebody's own
        book = Ledger(path, simulate=False)
        book.open()
        book.close()
        assert path.exists()


class TestLoss:
    def book(self, path: Path) -> Ledger:
        answered(path, source(A))
        book = Ledger(path, simulate=False)
        book.open()
        book.check()
        return book

    def test_it_is_noticed(self, path: Path) -> None:
        book = self.book(path)
        path.chmod(0o444)
        with pytest.raises(ResultsLost, match=r"has become read-only. Results are kept"):
            book.check()
        path.chmod(0o644)
        book.check()
        copy = path.read_bytes()
        path.unlink()
        with pytest.raises(ResultsLost, match=r"is gone \(No such file or directory\). Results"):
            book.append(line_of(record("x"), line=3, request=None, simulate=False))
        path.write_bytes(copy)
        with pytest.raises(ResultsLost, match="was replaced by another file"):
            book.compact(source(A), others=False)
        book.close()
        assert path.read_bytes() == copy
        assert ResultsLost.exit_code == 1

    def test_a_read_only_file_is_refused_at_once(self, path: Path) -> None:
        answered(path, source(A))
        path.chmod(0o444)
        with pytest.raises(UsageError, match=r"is read-only|Permission denied"):
            Ledger(path, simulate=False).open()


class TestTables:
    def rows(self) -> list[Any]:
        lines = []
        for number, carried in enumerate(
            [{"n": 1, "mixed": "a", "state": "of mind"}, {"n": 2, "mixed": [1]}], 1
        ):
            made = record(f"t{number}", value={"k": number}, request_id="req_1")
            lines.append(line_of(made, line=number, request=None, simulate=False, carried=carried))
        return lines

    def test_csv(self, tmp_path: Path) -> None:
        path = tmp_path / "out.csv"
        outputs.write(path, lambda: iter(self.rows()))
        with path.open(newline="") as file:
            first, second = csv.DictReader(file)
        assert list(first)[: len(outputs.COLUMNS)] == list(outputs.COLUMNS)
        assert (first["line"], first["text"], first["value"]) == ("1", "answer of t1", '{"k":1}')
        assert (first["n"], first["mixed"], first["input.state"]) == ("1", "a", "of mind")
        assert (second["mixed"], second["input.state"]) == ("[1]", "")
        assert (first["request_id"], first["cost_usd"], first["input_tokens"]) == (
            "req_1",
            "0.5",
            "10",
        )
        assert os.listdir(tmp_path) == ["out.csv"]

    def test_parquet(self, tmp_path: Path) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        path = tmp_path / "out.parquet"
        outputs.write(path, lambda: iter(self.rows()))
        first, second = parquet.read_table(path).to_pylist()
        assert (first["line"], first["n"], first["mixed"], second["mixed"]) == (1, 1, "a", "[1]")
        assert (first["cost_usd"], first["output_tokens"], first["latency_s"]) == (0.5, 20, 0.0)

    def test_a_table_of_somebody_else_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "out.csv"
        assert outputs.journal_of(path) == tmp_path / "out.csv.jsonl"
        path.write_text("mine")
        with pytest.raises(UsageError, match="is there and not of this job"):
            outputs.journal_of(path)
