"""The job's file of results, and its figures."""

from __future__ import annotations

import json
import os
import resource
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.cli import report
from agentflow.errors import ResultsLost, UsageError
from agentflow.handlers import price_file
from agentflow.job import ledger
from agentflow.job.ledger import Ledger
from agentflow.job.source import Item
from agentflow.job.tally import Tally, dollars
from agentflow.protocol.record import Failure, Record, Timings, Usage
from agentflow.protocol.task import TaskBody
from agentflow.views.ledger import Line, encode_line, line_of

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def item(name: str = "t1", line: int = 1) -> Item:
    return Item(line, name, "hash", TaskBody(prompt="A"))


def record(**fields: Any) -> Record:
    given = {
        "v": 1,
        "id": "t1",
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
        "cost_usd": 0.000123,
        "timings": Timings(submitted=NOW, ended=NOW),
        "text": "Grüße",
        "stop_reason": "end_turn",
    }
    return Record(**{**given, **fields})


def result(name: str = "t1", *, simulate: bool = False, line: int = 1, **fields: Any) -> Line:
    task = item(name, line)
    ended = record(id=name, **fields)
    return line_of(ended, line=task.line, request=task.request, simulate=simulate)


def opened(path: Path, *, simulate: bool = False) -> Ledger:
    found = Ledger(path, simulate=simulate)
    found.open()
    return found


def reopened(path: Path, *, simulate: bool = False) -> dict[str, Line]:
    found = opened(path, simulate=simulate)
    lines = {line.id: line for line in found.lines()}
    found.close()
    return lines


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


class TestLedger:
    def test_a_line_has_what_was_promised(self, path: Path) -> None:
        book = opened(path)
        book.append(result(line=7))
        book.close()

        shown = json.loads(path.read_text())
        assert next(iter(shown)) == "line"
        promised = {"line", "id", "state", "text", "usage", "cost_usd", "stop_reason", "attempts"}
        assert shown.keys() >= promised | {"timings", "error"}
        assert (shown["line"], shown["id"], shown["text"]) == (7, "t1", "Grüße")
        assert shown["usage"]["output_tokens"] == 20
        assert "Grüße" in path.read_text(), "for people too"

    def test_a_result_is_in_the_file_when_append_returns(self, path: Path) -> None:
        book = opened(path)
        book.append(result())
        assert path.read_bytes().endswith(b"\n")
        book.close()

    def test_the_last_line_of_an_id_counts(self, path: Path) -> None:
        book = opened(path)
        book.append(result("t1", state="failed", error=Failure("api_error", "no")))
        book.append(result("t2"))
        book.append(result("t1"))
        book.close()

        found = reopened(path)
        assert {name: line.state for name, line in found.items()} == {
            "t1": "succeeded",
            "t2": "succeeded",
        }

    @given(cut=st.integers(0, 10_000), zeros=st.sampled_from([0, 1, 600]))
    def test_a_line_cut_short_is_removed_and_nothing_else(
        self, cut: int, zeros: int, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.mktemp("cut") / "results.jsonl"
        book = opened(path)
        book.append(result("t1"))
        whole = path.stat().st_size
        book.append(result("t2"))
        book.close()
        last = path.stat().st_size - whole
        kept = whole + cut % last
        path.write_bytes(path.read_bytes()[:kept] + b"\0" * zeros)

        book = opened(path)
        complete = kept == whole + last - 1 and not zeros  # only its end of line is missing
        assert set(book.ids()) == ({"t1", "t2"} if complete else {"t1"})
        book.append(result("t3"))
        book.close()

        assert [json.loads(line)["id"] for line in path.read_bytes().splitlines()] == (
            ["t1", "t2", "t3"] if complete else ["t1", "t3"]
        )

    def test_a_block_that_a_power_loss_left_empty_is_passed_over(self, path: Path) -> None:
        book = opened(path)
        for name in ("t1", "t2", "t3"):
            book.append(result(name))
        book.close()
        first, second, third = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(first + second[:20] + b"\0" * 40 + third)

        assert reopened(path).keys() == {"t1"}

    @pytest.mark.parametrize(
        "data",
        [
            b"my notes\n",
            b"my notes without an end",
            b'{"prompt": "a task file"}\n',
            b'{"prompt": "a task file without an end"}',
            b"\x89PNG\r\n\x1a\n",
            b'{"line": "one", "id": 3}\n',
            b'"line"',
            b"{" * 100_000 + b"\n",
        ],
    )
    def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(
        self, path: Path, data: bytes
    ) -> None:
        path.write_bytes(data)
        with pytest.raises(UsageError, match="line 1 is no result of ours; name another file"):
            opened(path)
        assert path.read_bytes() == data

    def test_what_cannot_be_written_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"cannot write .*: Is a directory"):
            opened(tmp_path)
        with pytest.raises(UsageError, match=r"cannot write .*: No such file or directory"):
            opened(tmp_path / "absent" / "results.jsonl")
        with pytest.raises(UsageError, match="/dev/null is no ordinary file"):
            opened(Path(os.devnull))

    def test_a_full_disk_is_said_and_the_file_stays_whole(self, path: Path) -> None:
        book = opened(path)
        book.append(result("t1"))
        whole = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 50, hard))
        try:
            with pytest.raises(
                ResultsLost, match=r"cannot write .*File too large. Make room. Results are kept"
            ):
                book.append(result("t2"))
            with pytest.raises(ResultsLost, match="cannot write"):
                book.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert set(book.ids()) == {"t1"}
        assert reopened(path).keys() == {"t1"}
        assert path.read_bytes() == whole

    def test_only_one_run_writes_it(self, path: Path) -> None:
        book = opened(path)
        with pytest.raises(UsageError, match=r"is being written by another run; .* --out"):
            opened(path)
        book.close()
        assert reopened(path) == {}

    def test_a_simulated_result_is_none_for_a_real_job(self, path: Path) -> None:
        book = opened(path, simulate=True)
        book.append(result("simulated", simulate=True, simulated=True))
        book.append(result("failed", simulate=True, state="failed"))
        book.append(result("echo", simulate=True, kind="echo"))
        book.close()
        book = opened(path)
        assert (set(book.ids()), book.ignored) == ({"echo"}, 2)
        book.append(result("real"))
        book.compact([item("real"), item("echo")], others=False)
        book.close()
        assert [json.loads(line)["id"] for line in path.read_bytes().splitlines()] == [
            "real",
            "echo",
        ]

        with pytest.raises(UsageError, match="holds real results; simulated ones go to another"):
            opened(path, simulate=True)

    def test_a_line_of_a_later_version_is_read(self, path: Path) -> None:
        fields = msgspec.to_builtins(result()) | {"invented_later": {"x": 1}}
        path.write_bytes(msgspec.json.encode(fields) + b"\n")
        assert reopened(path).keys() == {"t1"}

    def test_the_beginning_of_a_line_is_what_a_cut_line_is_known_by(self) -> None:
        assert encode_line(result()).startswith(ledger._BEGINNING)


class TestTally:
    def test_money_adds_up_exactly(self) -> None:
        tally = Tally(1000, simulated=False)
        for number in range(1000):
            tally.add(result(f"t{number}", cost_usd=0.000001 * (number % 7)))

        assert tally.cost_micro == sum(number % 7 for number in range(1000))
        assert tally.as_json()["cost_usd"] == tally.cost_micro / 1_000_000

    def test_an_unknown_price_is_not_zero(self) -> None:
        tally = Tally(2, simulated=False)
        tally.add(result("t1", cost_usd=0.5))
        tally.add(result("t2", cost_usd=None, model="claude-nova-9"))

        assert tally.cost_text == "$0.5000 + unknown"
        assert tally.as_json()["cost_usd"] is None
        assert tally.as_json()["unpriced_models"] == ["claude-nova-9"]
        assert ("  not known", "no price for claude-nova-9") in report.rows(tally, "out")

    def test_what_the_prompt_cache_saved(self) -> None:
        prices = price_file.load()
        tally = Tally(2, simulated=False, prices=prices)
        million = 1_000_000
        wrote = Usage(0, 0, million, 0)
        read = Usage(0, 0, 0, million)
        tally.add(result("t1", usage=wrote, model="claude-sonnet-5-5"))
        assert "  saved by" not in str(report.rows(tally, "out"))
        tally.add(result("t2", usage=read, model="claude-sonnet-5-5"))

        # $2.50 and $0.10 instead of $2 each.
        assert tally.as_json()["saved_by_prompt_cache_usd"] == 1.4
        label = "  saved by the prompt cache (1,000,000 tokens read)"
        assert (label, "$1.4000") in report.rows(tally, "out")

    def test_it_counts_every_ending_once(self) -> None:
        tally = Tally(8, simulated=True)
        tally.add(result("t1"), before=True)
        tally.running = {"t2", "t3"}
        tally.add(result("t2", attempt=3, stop_reason="max_tokens"))
        tally.add(result("t3", stop_reason="refusal"))
        tally.add(result("t4", state="failed", reason="invalid_request"))
        tally.add(result("t5", state="failed", reason="invalid_request"))
        tally.add(result("t6", state="cancelled"))
        tally.finish()

        shown = tally.as_json()
        assert (shown["tasks"], shown["succeeded"], shown["failed"]) == (8, 3, 2)
        assert (shown["cancelled"], shown["not_run"], shown["had_results_before"]) == (1, 2, 1)
        assert shown["reasons"] == {"invalid_request": 2, "cancelled": 1}
        assert (shown["answers"], shown["retried"]) == ({"cut": 1, "refused": 1}, 1)
        assert shown["usage"]["input_tokens"] == 60
        assert shown["simulated"] is True
        assert tally.running == set()
        assert tally.failed == 3
        rows = dict(report.rows(tally, "out.jsonl"))
        assert rows["cost"].endswith("(SIMULATED)")
        assert (rows["not run"], rows["results"]) == ("2", "out.jsonl")

    @pytest.mark.parametrize(
        ("micro", "text"),
        [
            (0, "$0.0000"),
            (123, "$0.0001"),
            (99_999_999, "$100.0000"),
            (123_456_789_012, "$123,456.79"),
        ],
    )
    def test_dollars_are_shown_with_places_that_matter(self, micro: int, text: str) -> None:
        assert dollars(micro) == text
